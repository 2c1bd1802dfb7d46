"""Reference ranges of adults, and the flags that follow from them.

They are textbook values for automated counts. A laboratory replaces them with its own: ranges depend on population,
method and age, and CLSI EP28 asks each laboratory to establish or verify them. This table is the only place to change.
Children need other ranges. bloodcell does not receive the age, so a child's slide is flagged by the ranges of adults.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Flag = Literal["low", "possibly_low", "possibly_high", "high"]

FLAG_NAMES: Final[Mapping[Flag, str]] = MappingProxyType(
    {"low": "low", "possibly_low": "possibly low", "possibly_high": "possibly high", "high": "high"}
)


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """The values expected in a healthy adult, both ends included.

    Attributes:
        lower: Lower bound, in percent of leucocytes; for erythroblasts per 100 leucocytes.
        upper: Upper bound, in the same unit.
        source: Where the range was published.
    """

    lower: float
    upper: float
    source: str

    @property
    def text(self) -> str:
        """The range as people read it."""
        return "none" if self.upper == 0 else f"{self.lower:g}–{self.upper:g}"


_DAVIS: Final = (
    "Davis's Lab & Diagnostic Tests (labdxtest.com), Complete Blood Count, WBC Count and Differential: "
    "11 years to older adult"
)

ADULT_RANGES: Final[Mapping[str, ReferenceRange]] = MappingProxyType(
    {
        "neutrophil": ReferenceRange(40, 75, _DAVIS),
        "eosinophil": ReferenceRange(0, 5.5, _DAVIS),
        "basophil": ReferenceRange(0, 1, _DAVIS),
        "lymphocyte": ReferenceRange(12, 44, _DAVIS),
        "monocyte": ReferenceRange(4, 9, _DAVIS),
        "ig": ReferenceRange(
            0,
            0.9,
            "Roehrl et al., Age-dependent reference ranges for automated assessment of immature granulocytes, "
            "Arch Pathol Lab Med 135 (2011) 471-477, above 10 years",
        ),
        "erythroblast": ReferenceRange(
            0,
            0,
            "Constantino and Cogionis, Nucleated RBCs: significance in the peripheral blood film, "
            "Lab Med 31 (2000) 223-229, beyond the neonatal period",
        ),
    }
)
"""Class -> range, in percent of leucocytes; erythroblast in NRBC per 100 leucocytes. Platelets have none: their images
are counted, never turned into a concentration.

Source: named in each entry; read on the publisher's page (Davis), in the abstract (Roehrl), on the first page
(Constantino).
"""


def flag_of(cell_class: str, value: float | None, interval: tuple[float, float] | None) -> Flag | None:
    """Returns where a value lies relative to its reference range; None within it, or without a value or a range.

    "high" and "low": the whole 95 % interval is outside the range. "possibly_...": only the value is outside, and
    counting more cells could bring it back into the range. No erythroblast is expected, so a single one is "high".

    Args:
        cell_class: One of `REPORT_ORDER`.
        value: In the unit of the range.
        interval: Lower and upper end of the value's 95 % interval, in the same unit.
    """
    expected = ADULT_RANGES.get(cell_class)
    if expected is None or value is None or interval is None:
        return None
    lower, upper = interval
    if value > expected.upper:
        return "high" if lower > expected.upper else "possibly_high"
    if value < expected.lower:
        return "low" if upper < expected.lower else "possibly_low"
    return None
