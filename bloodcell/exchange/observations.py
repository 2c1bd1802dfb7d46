"""The observations of a result: what receivers get of each line, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from bloodcell.exchange.line_texts import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bloodcell.exchange.exchange_file import SiteCodes
    from bloodcell.exchange.outgoing_result import OutgoingLine, OutgoingResult

Unit = Literal["%", "/100{WBCs}", "{cells}", "10*9/L"]
"""Units in UCUM. Source: The Unified Code for Units of Measure, https://ucum.org."""


@dataclass(frozen=True, slots=True)
class ObservationCode:
    """What is observed.

    Attributes:
        name: As people read it.
        own: The laboratory's own code.
        loinc: The LOINC code; None: there is none.
    """

    name: str
    own: str
    loinc: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """A value.

    Attributes:
        code: What is observed.
        unit: Its unit.
        value: The value; None: there is none, and an earlier version had one.
        digits: Digits after the decimal point that are sent.
    """

    code: ObservationCode
    unit: Unit
    value: float | None
    digits: int


@dataclass(frozen=True, slots=True)
class LineObservations:
    """The observations of a line of the differential.

    Attributes:
        line: The line.
        share: Its share of the leucocytes, or erythroblasts per 100 of them; None without leucocytes.
        cells: Its number of cells.
        absolute: Its absolute count; None: there is none, and no earlier version had one. Erythroblasts have none.
    """

    line: OutgoingLine
    share: Observation | None
    cells: Observation
    absolute: Observation | None


def line_observations(result: OutgoingResult, codes: SiteCodes) -> Iterator[LineObservations]:
    """Yields the observations of each line, in the order of the lines.

    Args:
        result: What is sent.
        codes: The laboratory's own codes.
    """
    for line in result.lines:
        of_share, of_cells, of_absolute = _line_codes(
            line.line,
            codes.code_of(line.line, "percent"),
            codes.code_of(line.line, "cells"),
            codes.code_of(line.line, "absolute"),
            result.loinc.get(line.line),
        )
        is_ratio = line.line == "erythroblast"
        has_absolute = not is_ratio and (line.absolute is not None or line.had_absolute)
        yield LineObservations(
            line,
            None if line.value is None else Observation(of_share, "/100{WBCs}" if is_ratio else "%", line.value, 1),
            Observation(of_cells, "{cells}", line.n_cells, 0),
            Observation(of_absolute, "10*9/L", line.absolute, 2) if has_absolute else None,
        )


@lru_cache(maxsize=256)  # the same for every message
def _line_codes(line: str, percent: str, cells: str, absolute: str, loinc: str | None) -> tuple[ObservationCode, ...]:
    name = name_of(line)
    return (
        ObservationCode(f"{name}/100 leucocytes", percent, loinc),
        ObservationCode(f"{name} counted", cells),
        ObservationCode(f"{name} absolute", absolute),
    )


_LEUCOCYTES: Final = ObservationCode("Leucocytes counted", "LEUCOCYTES_CELLS")
_UNCLASSIFIED: Final = ObservationCode("Cells without a class", "UNCLASSIFIED_CELLS")


def count_observations(result: OutgoingResult) -> tuple[Observation, ...]:
    """Returns the counts of the whole slide: leucocytes, and cells without a class."""
    return (
        Observation(_LEUCOCYTES, "{cells}", result.n_leucocytes, 0),
        Observation(_UNCLASSIFIED, "{cells}", result.n_unclassified, 0),
    )


def panel_code(result: OutgoingResult) -> ObservationCode:
    """Returns the code of the whole differential."""
    return ObservationCode("Differential panel", "DIFFERENTIAL", result.loinc.get("panel"))
