"""The quality control of a night, before its slides are counted: a failure holds the results that would be made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.classify.sentinels import choose_sentinels
from bloodcell.ingest.control_marks import mark_control_slides
from bloodcell.quality.control_slides import ControlCount, judge_control, missing_controls
from bloodcell.quality.moving_figures import EarlierNight, NightFigures, judge_figures
from bloodcell.quality.quality_check import QualityCheck, record_checks
from bloodcell.quality_rules import read_quality_rules
from bloodcell.storage.database import open_database
from bloodcell.storage.locks import wait_for
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence
    from datetime import date

    from bloodcell.quality_rules import Control, QualityRules
    from bloodcell.settings import Settings

_SQL: Final = load_statements("quality/night_control.sql")


@dataclass(frozen=True, slots=True)
class NightControl:
    """What the quality control of a night found.

    Attributes:
        night: The night.
        n_checks: Checks that were made.
        failed: Why results are held: the reason of each check that failed and that nobody has overridden, those of the
            workers' sentinels included.
    """

    night: date
    n_checks: int
    failed: tuple[str, ...]


def control_night(settings: Settings, night: date, *, airflow_run: str | None = None) -> NightControl:
    """Compares a night with its control slides and with earlier nights, and returns what holds its results.

    Doing it again changes nothing unless the night itself has changed.

    Args:
        settings: The database and the quality file.
        night: The night.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        ConfigurationError: The quality file is not valid.
        DatabaseUnavailableError: Postgres stayed unavailable; call again.
    """
    rules = read_quality_rules(settings.quality_file)
    database = open_database(settings)
    with recorded_run(database, "quality", night=night, airflow_run=airflow_run) as run:
        work = partial(_control, night=night, rules=rules, run_id=run.run_id)
        n_checks, n_new = database.transact(work)
        failed = database.transact(partial(_failed, night=night))
        run.detail |= {"checks": n_checks, "new": n_new, "failed": len(failed), "rules": rules.version}
    return NightControl(night, n_checks, failed)


def control_nights(
    settings: Settings, *, nights: Sequence[date] = (), slides: Sequence[str] = (), airflow_run: str | None = None
) -> list[NightControl]:
    """Does `control_night` for nights, and for those of the cells of slides, the oldest first.

    Args:
        settings: The database and the quality file.
        nights: The nights.
        slides: Barcodes.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        ConfigurationError: The quality file is not valid.
        DatabaseUnavailableError: Postgres stayed unavailable; call again.
    """
    due = sorted({*nights, *(nights_of(settings, slides) if slides else ())})
    return [control_night(settings, night, airflow_run=airflow_run) for night in due]


@dataclass(frozen=True, slots=True)
class HeldNight:
    """A night of which results are held, and why."""

    night: date
    reasons: tuple[str, ...]


def held_nights(settings: Settings, slides: Sequence[str]) -> list[HeldNight]:
    """Returns the nights of slides of which results are held, the oldest first.

    Args:
        settings: The database.
        slides: Barcodes.
    """
    database = open_database(settings)
    nights = [
        HeldNight(night, database.transact(partial(_failed, night=night))) for night in nights_of(settings, slides)
    ]
    return [each for each in nights if each.reasons]


def nights_of(settings: Settings, slides: Sequence[str]) -> list[date]:
    """Returns the nights of the cells of slides, the oldest first.

    Args:
        settings: The database.
        slides: Barcodes.
    """
    work = partial(_nights, slides=list(map(composed, slides)))
    return open_database(settings).transact(work)


def _nights(connection: sa.Connection, slides: Sequence[str]) -> list[date]:
    return list(connection.execute(_SQL["nights"], {"slides": slides}).scalars())


def _failed(connection: sa.Connection, night: date) -> tuple[str, ...]:
    return tuple(connection.execute(_SQL["failed"], {"night": night}).scalars())


@dataclass(frozen=True, slots=True)
class _Slide:
    slide_id: int
    barcode: str
    analyser: str | None
    control: Control | None


def _control(connection: sa.Connection, *, night: date, rules: QualityRules, run_id: uuid.UUID) -> tuple[int, int]:
    wait_for(connection, "check")  # before anything is read: of two at once, the later one sees more
    slides = _slides(connection, night, rules, run_id)
    ids = [slide.slide_id for slide in slides]
    models = list(connection.scalars(_SQL["models"]))
    by_model: dict[str, dict[int, dict[str, int]]] = {each: defaultdict(dict) for each in models}
    n_novel: dict[int, int] = defaultdict(int)
    model_id = models[0] if models else None
    for row in connection.execute(_SQL["calls"], {"slides": ids, "models": models}):
        by_model[row.model_id][row.slide_id][row.called_class] = row.n
        n_novel[row.slide_id] += row.n_novel if row.model_id == model_id else 0
    checks = _of_controls(slides, by_model, rules, night)
    calls = by_model.get(model_id or "", {})
    if rules.figures.enabled:
        looks = {row.slide_id: row.figures for row in connection.execute(_SQL["looks"], {"slides": ids})}
        patients = [slide for slide in slides if slide.control is None]
        for analyser in sorted({slide.analyser for slide in patients}, key=str):
            found = NightFigures()
            for slide in patients:
                if slide.analyser != analyser:
                    continue
                if slide.slide_id in calls:
                    found.add_calls(calls[slide.slide_id], n_novel[slide.slide_id], rules.figures.leucocytes_at_least)
                found.add_look(
                    {name: each["found"] for name, each in looks.get(slide.slide_id, {}).items() if name != "sample"}
                )
            earlier = _earlier(connection, night, analyser, model_id, rules)
            checks += judge_figures(found, earlier, rules.figures, night=night, analyser=analyser, model_id=model_id)
    choose_sentinels(connection, night, rules.sentinels, run_id)
    return len(checks), record_checks(connection, checks, run_id)


def _slides(connection: sa.Connection, night: date, rules: QualityRules, run_id: uuid.UUID) -> list[_Slide]:
    """Returns the night's slides of patients and of controls with a target."""
    mark_control_slides(connection, night, rules, run_id)  # the file may have changed since the night was ingested
    slides = []
    for row in connection.execute(_SQL["slides"], {"night": night}):
        control = rules.control_of(row.barcode)
        if control is not None or not row.is_control:  # a control of a lot no longer in the file has no target
            slides.append(_Slide(row.slide_id, row.barcode, row.analyser, control))
    return slides


def _of_controls(
    slides: Sequence[_Slide], by_model: Mapping[str, Mapping[int, Mapping[str, int]]], rules: QualityRules, night: date
) -> list[QualityCheck]:
    checks, found = [], []
    for model_id, calls in by_model.items():
        for slide in slides:
            if slide.control is None or slide.slide_id not in calls:
                continue
            count = ControlCount(slide.barcode, slide.analyser, calls[slide.slide_id])
            checks.append(judge_control(count, slide.control, rules.control_slides, night=night, model_id=model_id))
            found.append((slide.control, slide.analyser))
    analysers = {slide.analyser for slide in slides if slide.control is None}
    return checks + missing_controls(rules.controls, found, night=night, analysers=analysers)


def _earlier(
    connection: sa.Connection, night: date, analyser: str | None, model_id: str | None, rules: QualityRules
) -> dict[str, list[EarlierNight]]:
    found: dict[str, list[EarlierNight]] = defaultdict(list)
    asked: dict[str, Any] = {"night": night, "analyser": analyser, "model_id": model_id,
                             "baseline_nights": rules.figures.baseline_nights}  # fmt: skip
    for row in connection.execute(_SQL["history"], asked):
        found[row.subject].append(EarlierNight(row.night, row.passed, row.figures))
    return found
