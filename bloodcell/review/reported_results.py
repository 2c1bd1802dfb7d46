"""What was reported at a moment: the results in force then, slide by slide."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, OTHER_LEUCOCYTES
from bloodcell.cells.names import composed
from bloodcell.storage.statements import load_statements
from bloodcell.visible_text import visible_lines

if TYPE_CHECKING:
    import sqlalchemy as sa

_SQL: Final = load_statements("review/reported_results.sql")

MOST_SHOWN: Final = 500
"""Results on one page; the table for spreadsheets has all."""

_YEARS: Final = range(2000, 2200)
_NOT_A_MOMENT: Final = "Give a date as 2026-11-28, or a moment as 2026-11-28T07:30."
_READ_AS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


@dataclass(frozen=True, slots=True)
class Reported:
    """Results that were in force at a moment.

    Attributes:
        moment: The moment, with its time zone.
        rows: The versions, by barcode; columns as in `reported_results.sql`.
        n_found: All that were found.
        is_all_nights: Whether older nights than those of the month before were looked at, because a barcode was given.
    """

    moment: datetime
    rows: tuple[Any, ...]
    n_found: int
    is_all_nights: bool


def parse_moment(text: str) -> tuple[str | None, str | None]:
    """Returns the moment that a person asks for, as Postgres reads it (None: now), and what is wrong with it.

    A date means the end of that day; a time without an offset is in the time zone of the database.
    """
    asked = text.strip()
    if not asked:
        return None, None
    try:
        day = date.fromisoformat(asked)
        moment = datetime.combine(day, time.max)
    except ValueError:
        try:
            moment = datetime.fromisoformat(asked)
        except ValueError:
            return None, _NOT_A_MOMENT
    return (moment.isoformat(), None) if moment.year in _YEARS else (None, _NOT_A_MOMENT)


def read_reported(
    connection: sa.Connection, moment: str | None, barcode: str, *, most: int | None = MOST_SHOWN
) -> Reported:
    """Returns the results that were in force at a moment.

    Args:
        connection: The database.
        moment: As `parse_moment` returns it; None: now.
        barcode: Slides whose barcode begins with this, of all nights; empty: all slides of the month before.
        most: At most this many; None: all.
    """
    at: datetime = connection.execute(_SQL["moment"], {"moment": moment}).scalar_one()
    rows = connection.execute(_SQL["in_force"], {"moment": at, "barcode": composed(barcode)}).all()
    return Reported(at, tuple(rows[:most]), len(rows), bool(barcode))


def reported_csv(connection: sa.Connection, reported: Reported) -> bytes:
    """Returns the results as CSV, one row per slide, with the percentage of each class.

    The file begins with a byte order mark, because some spreadsheets do not recognise UTF-8 without one. Text that a
    spreadsheet would read as a formula begins with an apostrophe.
    """
    lines: dict[int, dict[str, Any]] = {}
    for line in connection.execute(_SQL["lines"], {"reports": [row.report_id for row in reported.rows]}):
        lines.setdefault(line.report_id, {})[line._mapping["class"]] = line
    others = sorted({name for found in lines.values() for name in found} & set(OTHER_LEUCOCYTES))
    shown = [*LEUCOCYTE_CLASSES, *others]
    facts = ("barcode", "night", "version", "state", "signed_by", "made_at", "in_force_from", "in_force_until")
    figures = ("n_cells", "n_leucocytes", "n_unclassified", "nrbc_per_100_wbc", "variant", "model_id", "digest")
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(
        ("reported_at", *facts, "withheld_for", "review_for", *figures, *(f"{name}_percent" for name in shown))
    )
    for row in reported.rows:
        of_row = lines.get(row.report_id, {})
        # what is withheld is not reported, not even in a spreadsheet that somebody calculates with
        is_reportable = row.state != "withheld"
        percentages = [of_row[name].percentage if name in of_row and is_reportable else None for name in shown]
        table.writerow(
            [_cell(reported.moment)]
            + [_cell(row._mapping[name]) for name in facts]
            + [" ".join(row.withheld_for), " ".join(row.review_for)]
            + [_cell(row._mapping[name] if is_reportable or name != "nrbc_per_100_wbc" else None) for name in figures]
            + [_cell(share) for share in percentages]
        )
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _cell(value: object) -> str:
    """Returns a value as it is written into a cell of a spreadsheet."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, date):
        return value.isoformat()
    text = visible_lines(str(value))
    return f"'{text}" if isinstance(value, str) and text.startswith(_READ_AS_FORMULA) else text
