"""The eight groups of cells, and the analyser codes that belong to them.

Source: Acevedo et al. 2019, Computer Methods and Programs in Biomedicine 180:105020 (the eight groups);
Acevedo et al. 2020, Data in Brief 30:105474 (codes of the CellaVision DM96 images).
"""

from __future__ import annotations

from typing import Final

CELL_GROUPS: Final = (
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

LEUCOCYTE_GROUPS: Final = ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig")
"""Denominator of the differential, in the order laboratories report it."""

REPORT_ORDER: Final = (*LEUCOCYTE_GROUPS, "erythroblast", "platelet")
"""Order in which people see the groups."""

UNCLASSIFIED: Final = "unclassified"
"""A call that is not sure enough, or of a cell unlike any the model has seen."""

GROUP_NAMES: Final = {
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

GROUP_OF_CODE: Final = {
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


def group_of_code(code: str | None) -> str | None:
    """Returns the group an analyser code belongs to, None for codes outside the eight groups."""
    return GROUP_OF_CODE.get(code.upper()) if code else None
