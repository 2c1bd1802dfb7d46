"""Where a value lies relative to its reference range.

The ranges are those of the laboratory (`laboratory_rules`). Ranges depend on population, method and age, and CLSI EP28
asks each laboratory to establish or verify its own.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.differential.laboratory_rules import ReferenceRange

Flag = Literal["low", "possibly_low", "possibly_high", "high"]

FLAG_NAMES: Final[Mapping[Flag, str]] = MappingProxyType(
    {"low": "low", "possibly_low": "possibly low", "possibly_high": "possibly high", "high": "high"}
)
SURE_FLAGS: Final[tuple[Flag, ...]] = ("low", "high")
"""Flags with which the whole 95 % interval is outside the range. Lists and alarms count only these."""


def flag_of(expected: ReferenceRange | None, value: float | None, interval: tuple[float, float] | None) -> Flag | None:
    """Returns where a value lies relative to its reference range; None within it, or without a value or a range.

    "high" and "low": the whole 95 % interval is outside the range. "possibly_...": only the value is outside, and
    counting more cells could bring it back into the range. A small count needs no exception: its interval is wide.

    Args:
        expected: The range; None: there is none.
        value: In the unit of the range.
        interval: Lower and upper end of the value's 95 % interval, in the same unit.
    """
    if expected is None or value is None or interval is None:
        return None
    lower, upper = interval
    if value > expected.high:
        return "high" if lower > expected.high else "possibly_high"
    if value < expected.low:
        return "low" if upper < expected.low else "possibly_low"
    return None
