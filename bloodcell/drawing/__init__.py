"""Realistic drawn blood cells, for demonstrations and tests where no real images are available.

    palette     the colours of a stained smear, and how they vary from slide to slide
    shapes      outlines, lobes, textures and granules
    sheet       the parts that all cells share: cytoplasm, nucleus, granules, vacuoles
    portraits   the eight cell classes, each with its own nucleus, granules and size
    cells       one analyser crop: background, red cells, the cell in the middle
    drops       whole nights, and training folders with labels

Nothing here comes from a photograph: every pixel is computed from a seed. A model trained on drawn cells recognises
only drawn cells.
"""

from __future__ import annotations

from bloodcell.drawing.cells import draw_cell
from bloodcell.drawing.drops import DrawnDrop, DrawnSlide, draw_folder, make_drop

__all__ = ["DrawnDrop", "DrawnSlide", "draw_cell", "draw_folder", "make_drop"]
