"""A cell of a slide, and where its image is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class CellImage:
    """A cell in the database.

    Attributes:
        cell_id: Key of the cell in the database.
        night: Night of its drop.
        sha256: Digest of its image in the store.
    """

    cell_id: int
    night: date
    sha256: str

    def __str__(self) -> str:
        return f"cell {self.cell_id}"
