"""How images look, whatever cells they show: colour, sharpness and scale, compared with those that a model knows.

red_cells        the diameter of red cells, from which the scale of the images follows
image_look       colours of the field, sharpness and scale of one image
look_reference   the looks that a model knows, and how unlike them a night is
"""

from bloodcell.appearance.image_look import looks_of
from bloodcell.appearance.look_reference import compared, read_looks

__all__ = ["compared", "looks_of", "read_looks"]
