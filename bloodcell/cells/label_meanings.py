"""What a class name or an analyser code means when a person writes it as a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bloodcell.cells.classes import CELL_CLASSES, CLASS_OF_CODE, CODES_OUT_OF_SCOPE, FINER_CODES


@dataclass(frozen=True, slots=True)
class Meaning:
    """A label as it is stored; at least one of the two fields is set.

    Attributes:
        cell_class: One of the eight classes, None for a code that is out of scope.
        sub_label: The code, where it is finer than the class or out of scope.
    """

    cell_class: str | None
    sub_label: str | None

    @property
    def label(self) -> str:
        """The label as a person would write it."""
        return self.sub_label or self.cell_class or ""


MEANINGS: Final = {
    **{
        code.lower(): Meaning(cell_class, code if code in FINER_CODES else None)
        for code, cell_class in CLASS_OF_CODE.items()
    },
    **{code.lower(): Meaning(None, code) for code in CODES_OUT_OF_SCOPE},
    **{cell_class: Meaning(cell_class, None) for cell_class in CELL_CLASSES},
}
"""Class name or code, in lower case -> its meaning. The view `cell_label` applies the same rule."""


def meaning_of(label: str) -> Meaning | None:
    """Returns the meaning of a class name or code, ignoring case, and None for an unknown one."""
    return MEANINGS.get(label.lower())
