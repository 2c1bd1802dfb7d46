"""What people at the desk do, in numbers: how they change the machine's calls, how long it takes, and how they agree.

The laboratory's own people look at these numbers, and each person at the own ones; nobody can hide anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.cells.classes import (
    NOT_LEUCOCYTES,
    OTHER_LEUCOCYTES,
    REPORT_ORDER,
    UNCLASSIFIED,
    UNDECIDED_CODES,
)
from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.errors import BloodcellError
from bloodcell.review.people import name_key
from bloodcell.review.reader_agreement import MIN_SHARED, Pair, cohens_kappa
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date, datetime

    import sqlalchemy as sa

_SQL: Final = load_statements("review/desk_statistics.sql")

IDLE_S: Final = 300
"""A pause of more than five minutes is none of the work on a slide."""

MAX_DAYS: Final = 92
"""A quarter: as laboratories report, and 55,000 labels of a laboratory of 600 a day, which take about a second."""

ROWS: Final = (*REPORT_ORDER, UNCLASSIFIED)
_COLUMNS: Final = (*REPORT_ORDER, *OTHER_LEUCOCYTES, *UNDECIDED_CODES, *NOT_LEUCOCYTES)


class PeriodError(BloodcellError):
    """The period cannot be used: the dates are in the wrong order, or too far apart."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of the database's time zone; since <= moment < until."""

    first: date
    last: date
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Of `n` figures the median and the quartiles (linear interpolation); None without figures."""

    n: int
    lower: float | None
    median: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """What cells were called, and what people labelled them as.

    Attributes:
        columns: Labels that occur, the classes first.
        rows: (called, cells of each column, labels of the row that differ from the call).
        n_labels: All labels.
        differing: Labels that differ from the call, of those of cells that were called a class.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...], Proportion], ...]
    n_labels: int
    differing: Proportion


@dataclass(frozen=True, slots=True)
class Reader:
    """One person's figures.

    Attributes:
        name: The person.
        n_labels: Labels given with the call in sight.
        differing: Labels that differ from the call, of those of cells that were called a class.
        n_signed: Signatures.
        minutes: Minutes of the slides that the person signed.
    """

    name: str
    n_labels: int
    differing: Proportion
    n_signed: int
    minutes: Quartiles


@dataclass(frozen=True, slots=True)
class ReasonWorth:
    """Whether a reason for review was worth its click.

    Attributes:
        reason: Its name in the database.
        changed: Signed slides that it had named, and of these those of which a person changed a cell.
        held: Signed slides that it named still when they were signed, of those that it had named.
    """

    reason: str
    changed: Proportion
    held: Proportion


@dataclass(frozen=True, slots=True)
class NightProgress:
    """Blind readings of a night's random sample."""

    night: date
    n_cells: int
    n_wanted: int
    n_read: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """All figures of a period, of the laboratory or of one person.

    Attributes:
        period: The days.
        matrix: Calls and labels.
        relabelled: Cells of the signed slides, and of these those that a person changed.
        readers: People, those with most signatures first.
        n_signed: Signatures.
        n_slides: Slides signed.
        minutes: Minutes of the signed slides.
        n_unmeasured: Signatures without a measured minute: signed elsewhere, or only after pauses.
        signed_by_day: (day, signatures), every day of the period.
        pairs: Pairs with enough shared blind readings.
        n_pairs_few: Pairs with fewer.
        reasons: Reasons for review, those that named most slides first.
        nights: Progress of blind reading, the oldest first.
    """

    period: Period
    matrix: Matrix
    relabelled: Proportion
    readers: tuple[Reader, ...]
    n_signed: int
    n_slides: int
    minutes: Quartiles
    n_unmeasured: int
    signed_by_day: tuple[tuple[date, int], ...]
    pairs: tuple[Pair, ...]
    n_pairs_few: int
    reasons: tuple[ReasonWorth, ...]
    nights: tuple[NightProgress, ...]


def read_period(connection: sa.Connection, first: date | None, last: date | None) -> Period:
    """Returns the period of these days; without days the thirty that end today.

    Raises:
        PeriodError: The first day is after the last, or they are more than MAX_DAYS apart.
    """
    period = Period(*connection.execute(_SQL["period"], {"first": first, "last": last}).one())
    if period.first > period.last:
        raise PeriodError("The first day is after the last.")
    if (period.last - period.first).days >= MAX_DAYS:
        raise PeriodError(f"A period has at most {MAX_DAYS} days.")
    return period


def read_statistics(connection: sa.Connection, period: Period, person: str | None = None) -> Statistics:
    """Returns the figures of a period.

    Args:
        connection: The database.
        period: The days.
        person: Only what this person did; None: the laboratory. Blind reading is always the laboratory's.
    """
    asked = {"since": period.since, "until": period.until}
    labels = connection.execute(_SQL["labels"], asked).all()
    of_person = [row for row in labels if row.slide_id is None and row.n and _is(row.labelled_by, person)]
    changed = {row.slide_id: row.n_changed for row in labels if row.slide_id is not None}
    everything = connection.execute(_SQL["signatures"], {**asked, "idle_s": IDLE_S}).all()
    signatures = [row for row in everything if _is(row.person, person)]
    slides = {row.slide_id for row in signatures}
    versions = connection.execute(_SQL["versions"], {"slides": sorted(slides)}).all()
    pairs = [
        pair for pair in _pairs(connection, asked) if person is None or _is(pair.one, person) or _is(pair.other, person)
    ]
    return Statistics(
        period=period,
        matrix=_matrix(of_person),
        relabelled=_relabelled(versions, changed),
        readers=_readers(of_person, signatures),
        n_signed=len(signatures),
        n_slides=len(slides),
        minutes=quartiles(row.minutes for row in signatures),
        n_unmeasured=sum(row.minutes is None for row in signatures),
        signed_by_day=_by_day(period, signatures),
        pairs=tuple(pair for pair in pairs if pair.kappa.agreement.total >= MIN_SHARED),
        n_pairs_few=sum(pair.kappa.agreement.total < MIN_SHARED for pair in pairs),
        reasons=_reasons(signatures, versions, changed),
        nights=tuple(
            NightProgress(row.night, row.n_cells, row.n_wanted, int(row.n_read))
            for row in connection.execute(_SQL["blind_progress"], {"first": period.first, "last": period.last})
        ),
    )


def quartiles(figures: Iterable[float | None]) -> Quartiles:
    """Returns the median and the quartiles of the figures that are there."""
    found = [each for each in figures if each is not None]
    if not found:
        return Quartiles(0, None, None, None)
    lower, median, upper = np.percentile(np.asarray(found, np.float64), (25, 50, 75)).tolist()
    return Quartiles(len(found), lower, median, upper)


def _is(name: str, person: str | None) -> bool:
    return person is None or name_key(name) == name_key(person)


def _matrix(rows: Sequence[sa.Row[Any]]) -> Matrix:
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.called_class, row.label] += row.n
    columns = tuple(name for name in _COLUMNS if any(label == name for _, label in counts))
    table = []
    for called in ROWS:
        cells = tuple(counts[called, label] for label in columns)
        if total := sum(cells):
            table.append((called, cells, proportion(total - counts[called, called], total)))
    n = counts.total()
    of_called = [each for called, _, each in table if called != UNCLASSIFIED]
    differing = proportion(sum(each.n for each in of_called), sum(each.total for each in of_called))
    return Matrix(columns, tuple(table), n, differing)


def _relabelled(versions: Sequence[sa.Row[Any]], changed: Mapping[int, int]) -> Proportion:
    """Returns the cells of the signed slides that a person changed; a cell that was added later counts, too."""
    n_cells = {row.slide_id: row.n_cells for row in versions if row.signed_by is not None}
    return proportion(sum(min(changed.get(slide_id, 0), n) for slide_id, n in n_cells.items()), sum(n_cells.values()))


def _readers(labels: Sequence[sa.Row[Any]], signatures: Sequence[sa.Row[Any]]) -> tuple[Reader, ...]:
    names = {name_key(row.labelled_by): row.labelled_by for row in labels}
    names |= {name_key(row.person): row.person for row in signatures}
    n_labels, n_of_called, n_differing = Counter[str](), Counter[str](), Counter[str]()
    for row in labels:
        key = name_key(row.labelled_by)
        n_labels[key] += row.n
        n_of_called[key] += row.n if row.called_class != UNCLASSIFIED else 0
        n_differing[key] += row.n if row.called_class not in (UNCLASSIFIED, row.label) else 0
    minutes: dict[str, list[float | None]] = {}
    for row in signatures:
        minutes.setdefault(name_key(row.person), []).append(row.minutes)
    found = []
    for key, name in names.items():
        spent = minutes.get(key, [])
        differing = proportion(n_differing[key], n_of_called[key])
        found.append(Reader(name, n_labels[key], differing, len(spent), quartiles(spent)))
    return tuple(sorted(found, key=lambda each: (-each.n_signed, -each.n_labels, each.name)))


def _by_day(period: Period, signatures: Sequence[sa.Row[Any]]) -> tuple[tuple[date, int], ...]:
    n = Counter(row.at.date() for row in signatures)
    days = (period.first + timedelta(days=number) for number in range((period.last - period.first).days + 1))
    return tuple((day, n[day]) for day in days)


def _pairs(connection: sa.Connection, asked: Mapping[str, object]) -> list[Pair]:
    tables: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    names: dict[str, str] = {}
    for row in connection.execute(_SQL["blind_pairs"], asked):
        one, other = name_key(row.one), name_key(row.other)
        names |= {one: row.one, other: row.other}
        tables.setdefault((one, other), Counter())[row.label, row.other_label] += row.n
    found = [Pair(names[one], names[other], cohens_kappa(table)) for (one, other), table in tables.items()]
    return sorted(found, key=lambda pair: (-pair.kappa.agreement.total, pair.one, pair.other))


def _reasons(
    signatures: Sequence[sa.Row[Any]], versions: Sequence[sa.Row[Any]], changed: Mapping[int, int]
) -> tuple[ReasonWorth, ...]:
    """Returns the worth of each reason over the signatures of the period.

    A reason has named a slide if a version since the signature before had it, other than one made because of labels:
    what a person's own labels bring up has sent nobody to the slide.
    """
    of_slide: dict[int, list[sa.Row[Any]]] = {}
    for row in versions:
        of_slide.setdefault(row.slide_id, []).append(row)
    named, n_changed, n_held = Counter[str](), Counter[str](), Counter[str]()
    for signature in signatures:
        before: set[str] = set()
        for version in of_slide[signature.slide_id]:
            reasons = {*version.withheld_for, *version.review_for}
            if version.version == signature.version:
                named.update(before)
                n_held.update(before & reasons)
                n_changed.update(before if changed.get(signature.slide_id) else ())
                break
            if version.signed_by is not None:
                before = set()
            elif not version.is_of_labels:
                before |= reasons
    return tuple(
        ReasonWorth(reason, proportion(n_changed[reason], n), proportion(n_held[reason], n))
        for reason, n in sorted(named.items(), key=lambda each: (-each[1], each[0]))
    )
