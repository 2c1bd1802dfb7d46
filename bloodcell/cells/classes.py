"""The eight groups of cells, and the analyser codes that belong to them.

Source: Acevedo et al. 2019, Computer Methods and Programs in Biomedicine 180:105020 (the eight groups);
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
"""Class order of every probability vector, alphabetical. `ig` is immature granulocyte."""

LEUCOCYTE_CLASSES: Final = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig")
"""Denominator of the differential, in the order laboratories report it."""

REPORT_ORDER: Final = (*LEUCOCYTE_CLASSES, "erythroblast", "platelet")
"""Order in which people see the groups."""

UNCLASSIFIED: Final = "unclassified"
"""A call that is not sure enough, or of a cell unlike any the model has seen."""

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
"""Analyser pre-classification code -> group. A code that is not here (BL, VLY, SMU, ART ...) has no group."""


def class_of_code(code: str | None) -> str | None:
    """Returns the group an analyser code belongs to, None for codes outside the eight groups."""
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
"""Analyser code -> name, of codes outside the eight groups: a label with one of them is kept as out of scope."""

FINER_CODES: Final = {
    "SNE": "segmented neutrophil",
    "BNE": "band neutrophil",
    "PMY": "promyelocyte",
    "MY": "myelocyte",
    "MMY": "metamyelocyte",
}
"""Analyser code -> name, of codes that say more than their group: a label keeps them as its sub-label."""
