"""Validation: candidates, champion and challengers on the same hold-out; figures, gates and page are recorded."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy.dialects.postgresql import insert

from bloodcell.registry.promotion_proof import all_passed, refusal
from bloodcell.retraining.judging import judge_candidates
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.retraining.validation_page import validation_page
from bloodcell.retraining.validation_plan import plan_of_model, plan_of_retraining
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from bloodcell.evaluation.comparison_records import Comparison, ModelFigures
    from bloodcell.retraining.judging import Judgement
    from bloodcell.retraining.validation_plan import ValidationPlan
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

    OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Validated:
    """A validated candidate.

    Attributes:
        model_id: The candidate.
        variant: Its variant.
        passed: Whether it passed every gate.
        refusal: The reasons of the gates that failed, empty if none failed.
        accuracy: Its accuracy on the hold-out, None if the hold-out is empty.
        summary: For the person who approves, in Markdown.
        report: Where the page is.
    """

    model_id: str
    variant: str
    passed: bool
    refusal: str
    accuracy: float | None
    summary: str
    report: str


def validate_candidates(
    settings: Settings,
    training_run_id: uuid.UUID,
    *,
    airflow_run: str | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Validated, ...]:
    """Validates a retraining's candidates and returns them, the best first; a repeated call adds no rows.

    If no candidate passes every gate, the retraining's state becomes `refused`, with the reasons.

    Args:
        settings: Where everything is kept.
        training_run_id: The retraining.
        airflow_run: Id of the Dag run that this belongs to.
        on_progress: Called with the number of cells done, and the total.

    Raises:
        BundleError: A bundle is missing, incomplete or altered.
        StoreUnavailableError: Images cannot be read, or the page cannot be stored.
        ConfigurationError: The retraining has no candidates.
    """
    database = open_database(settings)
    plan = database.transact(lambda c: plan_of_retraining(c, training_run_id))
    validated = _validate(database, settings, plan, airflow_run, on_progress)
    if not any(each.passed for each in validated):
        why = " ".join(f"{each.variant} {each.model_id[:12]}: {each.refusal}" for each in validated)
        database.transact(
            lambda c: change_state(c, training_run_id, TrainingState.REFUSED, step=Step.VALIDATE, reason=why)
        )
    return validated


def validate_model(settings: Settings, model: str, *, by: str, on_progress: OnProgress | None = None) -> Validated:
    """Validates any registered model against the champion, on the hold-out of the newest data set.

    Args:
        settings: Where everything is kept.
        model: Id of the model, or its first characters.
        by: The person who requests it.
        on_progress: Called with the number of cells done, and the total.

    Raises:
        UnknownRecordError: There is no such model.
        ConfigurationError: There is no data set yet, or the model is the champion itself.
        BundleError: A bundle is missing, incomplete or altered.
    """
    database = open_database(settings)
    plan = database.transact(lambda c: plan_of_model(c, model, by=by))
    return _validate(database, settings, plan, None, on_progress)[0]


def compare_models(settings: Settings, model: str, other: str, *, on_progress: OnProgress | None = None) -> Judgement:
    """Returns the judgement of a model against another, on the hold-out of the newest data set; nothing is recorded.

    Args:
        settings: Where everything is kept.
        model: Id of the model, or its first characters.
        other: Id of the model to compare with, or its first characters.
        on_progress: Called with the number of cells done, and the total.

    Raises:
        UnknownRecordError: There is no such model.
        ConfigurationError: There is no data set yet, or both are the same model.
        BundleError: A bundle is missing, incomplete or altered.
    """
    database = open_database(settings)
    plan = database.transact(lambda c: plan_of_model(c, model, other=other))
    (judgement,) = judge_candidates(database, Store.of(settings), settings, plan, on_progress)
    return judgement


def _validate(
    database: Database,
    settings: Settings,
    plan: ValidationPlan,
    airflow_run: str | None,
    on_progress: OnProgress | None,
) -> tuple[Validated, ...]:
    store = Store.of(settings)
    with recorded_run(database, "validate", airflow_run=airflow_run) as run:
        judgements = judge_candidates(database, store, settings, plan, on_progress)
        validated = [_with_page(store, each) for each in judgements]
        run.n_cells = judgements[0].comparison.n_cells

        def record(connection: sa.Connection) -> None:
            for judgement, each in zip(judgements, validated, strict=True):
                _record(connection, plan, judgement, each, run.run_id)

        database.transact(record)
        run.detail = {each.model_id: each.refusal or "passed" for each in validated}
    return tuple(sorted(validated, key=lambda each: (not each.passed, -(each.accuracy or 0))))


def _with_page(store: Store, judgement: Judgement) -> Validated:
    """Stores the candidate's page."""
    page = validation_page(judgement.comparison, judgement.gates, judgement.facts)
    report = store.put_report(judgement.model_id, page.encode())
    figures = judgement.comparison.candidate
    return Validated(
        model_id=judgement.model_id,
        variant=judgement.variant,
        passed=all_passed(judgement.gates),
        refusal=refusal(judgement.gates),
        accuracy=figures.accuracy.value if figures else None,
        summary=f"{judgement.summary}\n\nThe whole page: `{report}`",
        report=report,
    )


def _record(
    connection: sa.Connection,
    plan: ValidationPlan,
    judgement: Judgement,
    validated: Validated,
    run_id: uuid.UUID,
) -> None:
    for figures in judgement.comparison.models:
        row = _evaluation(figures, judgement.comparison) | {"dataset_digest": plan.dataset_digest, "run_id": run_id}
        connection.execute(insert(tables.evaluation).values(row).on_conflict_do_nothing())
    row = {
        "validation_id": uuid.uuid4(),
        "training_run_id": plan.training_run_id,
        "model_id": validated.model_id,
        "champion_id": plan.champion_id,
        "dataset_digest": plan.dataset_digest,
        "passed": validated.passed,
        "gates": [gate.to_json() for gate in judgement.gates],
        "report": validated.report,
        "summary": validated.summary,
        "run_id": run_id,
    }
    connection.execute(insert(tables.validation).values(row).on_conflict_do_nothing(constraint="validation_once"))


def _evaluation(figures: ModelFigures, comparison: Comparison) -> dict[str, object]:
    everything = asdict(figures)
    by_patient = {name: everything[name] for name in ("classes", "agreement", "out_of_scope", "covered_accuracy")}
    return {
        "model_id": figures.model_id,
        "n_cells": comparison.n_cells,
        "n_patients": comparison.n_patients,
        "accuracy": figures.accuracy.value,
        "accuracy_lower": figures.accuracy.lower,
        "accuracy_upper": figures.accuracy.upper,
        "macro_f1": figures.macro_f1.value,
        "calibration_error": figures.calibration.value,
        "unclassified": figures.unclassified.value,
        "figures": everything["evaluation"] | {"by_patient": by_patient},
    }
