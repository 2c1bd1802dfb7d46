"""The eight cell classes, and the analyser codes that belong to them.

Source: Acevedo et al. 2019, Computer Methods and Programs in Biomedicine 180:105020 (the eight classes);
Acevedo et al. 2020, Data in Brief 30:105474 (codes of the CellaVision DM96 images).
"""

from __future__ import annotations

from typing import Final

CELL_CLASSES: Final = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "ig",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
"""The cell classes in the order of every probability vector, alphabetical. `ig` is immature granulocyte."""

LEUCOCYTE_CLASSES: Final = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig")
"""Classes that make up the denominator of the differential, in the order in which laboratories report them."""

REPORT_ORDER: Final = (*LEUCOCYTE_CLASSES, "erythroblast", "platelet")
"""Order in which the classes are shown."""

UNCLASSIFIED: Final = "unclassified"
"""What a cell without a call is reported as: its confidence is too low, or it is unlike the training cells."""

CLASS_NAMES: Final = {
    "neutrophil": "Neutrophils",
    "eosinophil": "Eosinophils",
    "basophil": "Basophils",
    "lymphocyte": "Lymphocytes",
    "monocyte": "Monocytes",
    "ig": "Immature granulocytes",
    "erythroblast": "Erythroblasts",
    "platelet": "Platelets",
    UNCLASSIFIED: "Unclassified",
}

CLASS_OF_CODE: Final = {
    "SNE": "neutrophil",
    "BNE": "neutrophil",
    "NEUTROPHIL": "neutrophil",
    "EO": "eosinophil",
    "BA": "basophil",
    "LY": "lymphocyte",
    "MO": "monocyte",
    "PMY": "ig",
    "MY": "ig",
    "MMY": "ig",
    "IG": "ig",
    "ERB": "erythroblast",
    "PLT": "platelet",
    "PLATELET": "platelet",
}
"""Analyser pre-classification code -> cell class. Other codes (BL, VLY, SMU, ART ...) have no class."""


def class_of_code(code: str | None) -> str | None:
    """Returns the cell class that an analyser code belongs to; None for a code that is out of scope or unknown."""
    return CLASS_OF_CODE.get(code.upper()) if code else None


CODES_OUT_OF_SCOPE: Final = {
    "VLY": "variant lymphocyte",
    "BL": "blast",
    "PLY": "prolymphocyte",
    "PC": "plasma cell",
    "LGLY": "large granular lymphocyte",
    "HC": "hairy cell",
    "SEC": "Sézary cell",
    "PMO": "promonocyte",
    "IBO": "immature basophil",
    "IEO": "immature eosinophil",
    "SMU": "smudge cell",
    "GT": "giant thrombocyte",
    "TAG": "thrombocyte aggregate",
    "ART": "artefact",
    "MEK": "megakaryocyte",
    "NC": "not classed",
    "OTH": "other",
}
"""Analyser code -> name, of codes that belong to none of the eight classes: a label with one is out of scope."""

OTHER_LEUCOCYTES: Final = ("BL", "VLY", "PLY", "PC", "LGLY", "HC", "SEC", "PMO", "IBO", "IEO")
"""Codes out of scope that are leucocytes, in the order in which they are shown: they count in the denominator."""

NOT_LEUCOCYTES: Final = ("SMU", "ART", "GT", "TAG", "MEK")
"""Codes out of scope that are no leucocytes: they are shown, and count nowhere."""

UNDECIDED_CODES: Final = ("NC", "OTH")
"""Codes of cells that may be anything. They count like unclassified cells. OTH stands for an unknown code, too."""

CONTESTED: Final = "contested"
"""What a cell counts as while people disagree on it."""

FINER_CODES: Final = {
    "SNE": "segmented neutrophil",
    "BNE": "band neutrophil",
    "PMY": "promyelocyte",
    "MY": "myelocyte",
    "MMY": "metamyelocyte",
}
"""Analyser code -> name, of codes that are finer than their class: a label keeps them as its sub-label."""
