"""The vocabulary that every room shares.

classes         the eight cell classes, and the analyser codes that belong to them
names           the one form in which names of slides and files are compared
image_size      the size at which a model sees an image, and how much of it
variants        the four model variants
label_meanings  what a class name or an analyser code means as a label
calls           probabilities and novelty become calls
intervals       proportions with exact confidence intervals
metrics         counted cells become accuracy, sensitivity, precision, F1 and likelihood
cell_image      a cell in the database, and where its image is
labelled_image  an image with its label, and sets of such images
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.cells.cell_image import CellImage
    from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES, UNCLASSIFIED, class_of_code
    from bloodcell.cells.labelled_image import LabelledImage, TrainingSet
    from bloodcell.cells.variants import VARIANTS, Variant
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "CELL_CLASSES": "bloodcell.cells.classes",
            "CellImage": "bloodcell.cells.cell_image",
            "LEUCOCYTE_CLASSES": "bloodcell.cells.classes",
            "LabelledImage": "bloodcell.cells.labelled_image",
            "TrainingSet": "bloodcell.cells.labelled_image",
            "UNCLASSIFIED": "bloodcell.cells.classes",
            "VARIANTS": "bloodcell.cells.variants",
            "Variant": "bloodcell.cells.variants",
            "class_of_code": "bloodcell.cells.classes",
        },
    )

__all__ = [
    "CELL_CLASSES",
    "LEUCOCYTE_CLASSES",
    "UNCLASSIFIED",
    "VARIANTS",
    "CellImage",
    "LabelledImage",
    "TrainingSet",
    "Variant",
    "class_of_code",
]
