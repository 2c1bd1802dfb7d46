"""The stage itself: counts the slides that are due and makes the versions of their results, in a recorded run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.differential.differential_rows import add_differentials
from bloodcell.differential.laboratory_rules import OWN_RULES, read_rules
from bloodcell.errors import ConfigurationError
from bloodcell.quality.night_control import control_nights
from bloodcell.results.versions import add_versions
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence
    from datetime import date

    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("results/due_results.sql")
_CHUNK_SLIDES: Final = 500
"""Slides in one transaction: 18,000 rows with four models, so that a retry repeats a second or two of work."""


@dataclass(frozen=True, slots=True)
class WrittenResults:
    """The result of `write_results`.

    Attributes:
        slide_ids: Slides with a differential over all their cells by at least one model, new or unchanged.
        n_differentials: Differentials that are new.
        n_versions: Versions of results that are new.
    """

    slide_ids: frozenset[int]
    n_differentials: int
    n_versions: int


def write_due_results(
    settings: Settings,
    *,
    night: date | None = None,
    slides: Sequence[str] = (),
    only_labelled: bool = False,
    is_checked: bool = False,
    airflow_run: str | None = None,
) -> list[str]:
    """Returns the barcodes of the slides that now have a differential over all their cells.

    Args:
        settings: The database, and the laboratory's rules.
        night: Only slides with cells of this night; None: all nights.
        slides: Only these barcodes; empty: all.
        only_labelled: Only slides that labels or other facts in slide.json make due, and slides of the last thirty days
            that nobody has signed and that were counted with other rules.
        is_checked: Whether the caller has just run the quality control of the slides' nights; otherwise it is run
            first. With `only_labelled` it is not run: these slides were checked when their cells were classified.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        ConfigurationError: The rules file or the quality file is not valid, or the rules file is not set although the
            newest results were made with one.
        DatabaseUnavailableError: Postgres stayed unavailable; call again.
    """
    rules = read_rules(settings.rules_file)
    database = open_database(settings)
    due = database.transact(lambda c: _due(c, night, slides, rules.digest, only_labelled=only_labelled))
    if not due:
        return []
    if settings.rules_file is None:
        _refuse_to_forget_rules(database, rules)
    if not (is_checked or only_labelled):
        control_nights(
            settings, nights=() if night is None else (night,), slides=list(due.values()), airflow_run=airflow_run
        )
    with recorded_run(database, "differential", night=night, airflow_run=airflow_run) as run:
        written = write_results(database, slides=due, run_id=run.run_id, rules=rules)
        run.detail |= {
            "slides": len(written.slide_ids),
            "differentials_written": written.n_differentials,
            "versions_written": written.n_versions,
        }
    return [barcode for slide_id, barcode in due.items() if slide_id in written.slide_ids]


def _refuse_to_forget_rules(database: Database, rules: LaboratoryRules) -> None:
    """Refuses bloodcell's own rules where the newest results were made with those of the laboratory."""
    version = database.transact(lambda c: c.execute(_SQL["newest_rules"]).scalar_one_or_none())
    if version is not None and not version.startswith(OWN_RULES) and version != rules.version:
        raise ConfigurationError(
            f"The newest results were made with the rules {version!r}, and BLOODCELL_RULES_FILE is not set here, so "
            "others would be used. Set it as for the service. To go back to bloodcell's own rules: bloodcell rules "
            "show > FILE, and set it to that file."
        )


def write_results(
    database: Database,
    *,
    slides: Iterable[int],
    run_id: uuid.UUID,
    rules: LaboratoryRules,
) -> WrittenResults:
    """Counts slides and makes the versions of their results; a count and its version are written together.

    Args:
        database: Where to write.
        slides: Slide ids; unknown ones, withdrawn ones and slides without cells are skipped.
        run_id: The run that the rows refer to.
        rules: The laboratory's rules.

    Raises:
        DatabaseUnavailableError: Postgres stayed unavailable. What was written so far is kept; call again.
    """
    complete: set[int] = set()
    n_differentials = n_versions = 0
    # sorted, so that two runs over the same slides lock rows in the same order and cannot deadlock
    slide_ids = sorted(set(slides))
    for start in range(0, len(slide_ids), _CHUNK_SLIDES):
        chunk = slide_ids[start : start + _CHUNK_SLIDES]
        work = partial(count_slides, slides=chunk, run_id=run_id, rules=rules)
        written = database.transact(work)
        complete |= written.slide_ids
        n_differentials += written.n_differentials
        n_versions += written.n_versions
    return WrittenResults(frozenset(complete), n_differentials, n_versions)


def count_slides(
    connection: sa.Connection, slides: Sequence[int], *, run_id: uuid.UUID, rules: LaboratoryRules
) -> WrittenResults:
    """Counts slides and makes the versions of their results in a transaction that the caller has begun.

    Args:
        connection: Where to write.
        slides: Slide ids in ascending order, or two runs could deadlock.
        run_id: The run that the rows refer to.
        rules: The laboratory's rules.
    """
    counted = add_differentials(connection, slides, run_id=run_id, rules=rules)
    n_versions = add_versions(connection, sorted(counted.slide_ids), run_id=run_id, rules=rules)
    return WrittenResults(counted.slide_ids, counted.n_written, n_versions)


def _due(
    connection: sa.Connection, night: date | None, slides: Sequence[str], rules_digest: str, *, only_labelled: bool
) -> dict[int, str]:
    """Returns slide id -> barcode of the slides that are due."""
    if only_labelled:
        rows = connection.execute(_SQL["outdated_slides"], {"rules_digest": rules_digest})
    else:
        rows = connection.execute(_SQL["due_slides"], {"night": night, "slides": list(map(composed, slides))})
    return {slide_id: barcode for slide_id, barcode in rows}
