"""What messages of every protocol say in words beside the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.cells.classes import CLASS_NAMES, CODES_OUT_OF_SCOPE
from bloodcell.presentation.numbers import counted, interval, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bloodcell.exchange.outgoing_result import OutgoingLine, OutgoingResult


def name_of(line: str) -> str:
    """Returns what a line of the differential is called."""
    return CLASS_NAMES.get(line) or CODES_OUT_OF_SCOPE[line].capitalize()


def notes_of(result: OutgoingResult) -> Iterator[str]:
    """Yields what a person reads above the figures: what is special about the result, then the comments."""
    if result.is_withdrawal and result.state == "withheld":
        yield f"Withheld: results of slide {result.barcode} are not to be used before a person has looked."
        return
    if result.is_withdrawal:
        yield f"Withdrawn: results of slide {result.barcode} are not valid. {result.reason or ''}".strip()
        return
    if result.state == "machine":
        yield "Counted by a machine; nobody has looked at it yet."
    if result.reason:
        yield f"{result.state.capitalize()}: {result.reason}"
    if result.was_withdrawn:
        yield "An earlier withdrawal of results under this barcode does not hold for this one."
    if result.age_months is None:
        yield "The age is not known; the reference ranges are those of adults."
    if not result.is_sufficient:
        yield f"Insufficient count: {counted(result.n_leucocytes, 'leucocyte')}."
    yield from result.comments


def uncertainty_of(line: OutgoingLine) -> str:
    """Returns the interval of a share, and what the cells without a class could make of it."""
    found = []
    if line.interval:
        found.append(f"95 % interval {interval(line.interval)}")
    if line.bounds and line.value is not None and number(line.bounds[0]) != number(line.bounds[1]):
        found.append(f"with all cells without a class {interval(line.bounds)}")
    return "; ".join(found)
