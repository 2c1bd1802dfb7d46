"""What the quality control holds now, what a person has overridden, and the figures of the last nights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    import sqlalchemy as sa

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("quality/quality_status.sql")


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that holds results.

    Attributes:
        check_id: Its key.
        kind: sentinel, control or figure.
        subject: The machine, the control slide, or the figure.
        night: The night; None for a worker that called slides of no named night.
        analyser: The analyser; None: unknown, or none alone.
        reason: What failed, and what to do.
        checked_at: When.
        n_slides: Slides that it holds.
    """

    check_id: int
    kind: str
    subject: str
    night: date | None
    analyser: str | None
    reason: str
    checked_at: datetime
    n_slides: int


@dataclass(frozen=True, slots=True)
class Override:
    """A failed check in spite of which a person released the results."""

    check_id: int
    kind: str
    subject: str
    night: date | None
    analyser: str | None
    reason: str
    overridden_by: str
    overridden_at: datetime
    override_reason: str


@dataclass(frozen=True, slots=True)
class FigurePoint:
    """A figure of a night.

    Attributes:
        night: The night.
        value: What was measured.
        center: What was expected; None while the baseline is being learnt.
        lower: Lower control limit.
        upper: Upper control limit.
        passed: Whether it passed.
        overridden_by: Who overrode it; None: nobody.
        warned: Westgard's rules that it broke and that hold nothing.
    """

    night: date
    value: float
    center: float | None
    lower: float | None
    upper: float | None
    passed: bool
    overridden_by: str | None
    warned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FigureChart:
    """The nights of a figure of an analyser, the oldest first."""

    analyser: str | None
    subject: str
    points: tuple[FigurePoint, ...]


@dataclass(frozen=True, slots=True)
class QualityStatus:
    """What the quality control says.

    Attributes:
        failed: What holds results now, the newest first.
        overrides: What people overrode lately, the newest first.
        charts: Figures of the last nights, by analyser.
    """

    failed: tuple[FailedCheck, ...]
    overrides: tuple[Override, ...]
    charts: tuple[FigureChart, ...]


def read_quality(database: Database, *, nights: int = 60) -> QualityStatus:
    """Returns what the quality control says.

    Args:
        database: Where to read; the login may be one that reads only views.
        nights: Nights that the charts go back.
    """

    def read(connection: sa.Connection) -> QualityStatus:
        return QualityStatus(
            tuple(FailedCheck(**row) for row in _rows(connection, "failed")),
            tuple(Override(**row) for row in _rows(connection, "overrides")),
            _charts(_rows(connection, "figures", nights=nights)),
        )

    return database.transact(read)


def _rows(connection: sa.Connection, statement: str, **values: object) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(_SQL[statement], values).mappings()]


def _charts(rows: list[Mapping[str, Any]]) -> tuple[FigureChart, ...]:
    found: dict[tuple[str | None, str], list[FigurePoint]] = {}
    for row in rows:
        point = FigurePoint(
            **{name: row[name] for name in ("night", "value", "center", "lower", "upper", "passed", "overridden_by")},
            warned=tuple(row["warned"]),
        )
        found.setdefault((row["analyser"], row["subject"]), []).append(point)
    return tuple(FigureChart(analyser, subject, tuple(points)) for (analyser, subject), points in found.items())
