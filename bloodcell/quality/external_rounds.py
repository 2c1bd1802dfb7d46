"""Rounds of external quality assessment (EQA): the organiser's targets come in, and the scores go out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.cells.label_meanings import Meaning, meaning_of
from bloodcell.cells.names import composed
from bloodcell.errors import ConfigurationError
from bloodcell.storage import tables
from bloodcell.storage.locks import wait_for
from bloodcell.storage.statements import load_statements
from bloodcell.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("quality/external_rounds.sql")
_COLUMNS: Final = ("slide", "file", "label")
_MOST_BYTES: Final = 10 * 2**20
"""A round has some tens of cells."""
_SHOWN: Final = 10
"""Wrong rows that a message names."""


@dataclass(frozen=True, slots=True)
class ExternalRound:
    """A round.

    Attributes:
        name: Its name in the quality file.
        due: Until when its cells can be read.
        is_open: Whether they still can.
        n_cells: Its cells.
        n_targets: Those of which the organiser's target is known.
        readers: Person -> cells read blind.
        scores: Of each person and model, once the targets are known.
    """

    name: str
    due: datetime
    is_open: bool
    n_cells: int
    n_targets: int
    readers: dict[str, int]
    scores: tuple[Score, ...]

    def read_by(self, person: str) -> int:
        """Returns how many of its cells a person has read; names are the same in upper and lower case."""
        return next((n for name, n in self.readers.items() if name.lower() == person.lower()), 0)


@dataclass(frozen=True, slots=True)
class Score:
    """How often a person or a model agrees with the organiser.

    Attributes:
        reader: The person, or the variant of the model.
        model_id: The model; None: a person.
        n_cells: Cells with a target that were read.
        n_answered: Those that were given a class or a code.
        n_agreed: Those that agree with the target.
    """

    reader: str
    model_id: str | None
    n_cells: int
    n_answered: int
    n_agreed: int

    @property
    def agreement(self) -> Proportion:
        """The share of the cells that agree, with its exact 95 % interval."""
        return proportion(self.n_agreed, self.n_cells)


def read_rounds(database: Database, *, most: int = 12) -> tuple[ExternalRound, ...]:
    """Returns the newest rounds, the latest due first.

    Args:
        database: Where to read; the login may be one that reads only views.
        most: Rounds.
    """

    def read(connection: sa.Connection) -> tuple[ExternalRound, ...]:
        found = connection.execute(_SQL["rounds"], {"most": most}).all()
        asked = {"names": [row.round for row in found]}
        readers: dict[str, dict[str, int]] = {}
        for row in connection.execute(_SQL["readers"], asked):
            readers.setdefault(row.round, {})[row.person] = row.n
        scores: dict[str, list[Score]] = {}
        for row in connection.execute(_SQL["scores"], asked):
            scores.setdefault(row.round, []).append(
                Score(row.reader, row.model_id, row.n_cells, row.n_answered, row.n_agreed)
            )
        return tuple(
            ExternalRound(
                row.round, row.due, row.is_open, row.n_cells, row.n_targets, readers.get(row.round, {}),
                tuple(scores.get(row.round, ())),
            )
            for row in found
        )  # fmt: skip

    return database.transact(read)


def import_targets(database: Database, name: str, file: Path, *, by: str) -> int:
    """Records what the organiser of a round says that its cells are, and returns for how many cells that is new.

    Args:
        database: Where to write.
        name: The round.
        file: CSV in UTF-8 with the columns slide, file and label (a class or a code), one row for each cell.
        by: Who brings it in.

    Raises:
        ConfigurationError: There is no such round, it is not due yet, or a row is wrong: nothing is recorded.
    """
    targets = _read(file)

    def write(connection: sa.Connection) -> int:
        wait_for(connection, "check")
        rounds = {row.round: row for row in connection.execute(_SQL["rounds"], {"most": None})}
        if name not in rounds:
            known = ", ".join(map(repr, rounds)) or "none"
            raise ConfigurationError(f"There is no round {name!r}. Known: {known}. Next: bloodcell quality rounds")
        if rounds[name].due > connection.scalar(sa.select(sa.func.clock_timestamp())):
            raise ConfigurationError(
                f"{name} can be read until {rounds[name].due:%Y-%m-%d %H:%M %Z}: targets would be seen by who still "
                "reads. Next: bring them in afterwards, or change `due` in the quality file."
            )
        cells = {(row.barcode, row.file_name): row for row in connection.execute(_SQL["cells"], {"name": name})}
        if wrong := [key for key in targets if key not in cells]:
            raise ConfigurationError(
                f"{file}: {len(wrong):,} of {len(targets):,} rows are no cell of {name}: "
                f"{_some('/'.join(key) for key in wrong)}. Expected a slide and a file of the view external_cell. "
                "Nothing was recorded."
            )
        rows = [
            {"cell_id": cells[key].cell_id, "class": said.cell_class, "sub_label": said.sub_label, "requested_by": by}
            for key, said in targets.items()
            if cells[key].target != said.label
        ]
        if rows:
            connection.execute(sa.insert(tables.eqa_target), rows)
        return len(rows)

    return database.transact(write)


def _read(file: Path) -> dict[tuple[str, str], Meaning]:
    """Returns (slide, file) -> target of the rows of a file."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{file}: expected a table of at most {_MOST_BYTES // 2**20} MiB.")
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: expected a CSV file in UTF-8: {error}") from None
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    found: dict[tuple[str, str], Meaning] = {}
    wrong: list[str] = []
    try:
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise ConfigurationError(
                f"{file}: expected the columns {', '.join(_COLUMNS)}; {', '.join(missing)} is missing."
            )
        for number, row in enumerate(rows, start=2):
            slide, name, label = ((row[column] or "").strip() for column in _COLUMNS)
            key, said = (composed(slide), composed(name)), meaning_of(label)
            if said is None:
                wrong.append(f"row {number}: label {label!r} is no class and no code")
            elif found.setdefault(key, said) != said:
                wrong.append(f"row {number}: {slide}/{name} has another label in an earlier row")
    except csv.Error as error:
        raise ConfigurationError(f"{file}: expected a CSV file: {error}") from None
    if wrong:
        raise ConfigurationError(f"{file}: {_some(wrong)}. Nothing was recorded.")
    if not found:
        raise ConfigurationError(f"{file}: expected a row for each cell, received none.")
    return found


def _some(texts: Iterable[str]) -> str:
    listed = [visible(each) for each in texts]
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return "; ".join(listed[:_SHOWN]) + more
