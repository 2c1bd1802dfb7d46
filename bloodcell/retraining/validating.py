"""Candidates, champion and challengers on the same hold-out: figures, gates, a page; all of it on record."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import ConfigurationError
from bloodcell.evaluation.comparison_records import Comparison, Holdout, Predictions
from bloodcell.evaluation.model_comparison import compare
from bloodcell.inference.model_output import calls_of
from bloodcell.registry.bundle import images_of
from bloodcell.registry.promotion_proof import Gate, all_passed, refusal
from bloodcell.registry.registered_models import champion, find_model, open_registered, serving_models
from bloodcell.retraining.gates import judge_gates
from bloodcell.retraining.snapshot import stored_images
from bloodcell.retraining.training_runs import read_training_run, update
from bloodcell.retraining.validation_page import SplitFacts, ValidationFacts, validation_page
from bloodcell.retraining.validation_summary import summary_markdown
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import code_version, recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.evaluation.comparison_records import ModelFigures
    from bloodcell.inference.model_output import ModelOutput
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database


@dataclass(frozen=True, slots=True)
class Validated:
    """A candidate that was judged.

    Attributes:
        model_id: The candidate.
        variant: Its variant.
        passed: Whether it passed every gate.
        refusal: Why it did not, empty where it did.
        accuracy: On the hold-out, None for an empty one.
        summary: For the person who approves, Markdown.
        report: Where the page is.
    """

    model_id: str
    variant: str
    passed: bool
    refusal: str
    accuracy: float | None
    summary: str
    report: str


@dataclass(frozen=True, slots=True)
class _Trial:
    """Who is judged on what, and on whose behalf."""

    dataset_digest: str
    candidates: tuple[str, ...]
    champion_id: str | None
    challengers: tuple[str, ...]
    training_run_id: uuid.UUID | None
    requested_by: str
    reason: str
    base: str
    seed: int
    epochs: int | None


def validate_candidates(
    settings: Settings,
    training_run_id: uuid.UUID,
    *,
    airflow_run: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Validated, ...]:
    """Judges a retraining's candidates on its hold-out and returns them, the best first; again judges the same again.

    Where no candidate passes, the retraining's state becomes `refused`, with the reasons.

    Raises:
        BundleError: A bundle that is missing, incomplete or altered.
        StoreUnavailableError: Images that cannot be read, a page that cannot be kept.
        ConfigurationError: A retraining without candidates.
    """
    database = open_database(settings)

    def trial(connection: sa.Connection) -> _Trial:
        run = read_training_run(connection, training_run_id)
        table = tables.candidate
        found = connection.scalars(
            sa.select(table.c.model_id).where(table.c.training_run_id == training_run_id).order_by(table.c.variant)
        )
        return _Trial(
            run.dataset, tuple(found), run.champion_id, _challengers(connection), training_run_id, run.requested_by,
            run.reason, run.base, run.seed, run.epochs,
        )  # fmt: skip

    asked = database.transact(trial)
    judged = _validate(database, settings, asked, airflow_run, on_progress)
    if not any(each.passed for each in judged):
        why = " ".join(f"{each.variant} {each.model_id[:12]}: {each.refusal}" for each in judged)
        changes = {"state": "refused", "state_reason": why, "ended_at": sa.func.now()}
        database.transact(lambda c: update(c, training_run_id, **changes))
    return judged


def validate_model(
    settings: Settings, model: str, *, by: str, on_progress: Callable[[int, int], None] | None = None
) -> Validated:
    """Judges any registered model against the champion on the newest data set's hold-out.

    Raises:
        UnknownRecordError: No such model.
        ConfigurationError: There is no data set yet, or the model is the champion itself.
        BundleError: A bundle that is missing, incomplete or altered.
    """
    database = open_database(settings)
    trial = database.transact(lambda c: _trial_of(c, model, None, by))
    return _validate(database, settings, trial, None, on_progress)[0]


def compare_models(
    settings: Settings, model: str, other: str, *, on_progress: Callable[[int, int], None] | None = None
) -> tuple[Comparison, tuple[Gate, ...], str]:
    """Returns how a model does beside another on the newest hold-out, whether it would pass, and both in Markdown.

    Nothing is put on record. Raises as `validate_model`.
    """
    database = open_database(settings)
    trial = database.transact(lambda c: _trial_of(c, model, other, ""))
    (judged,) = _try(database, Store.of(settings), settings, trial, on_progress, keep=False)
    return judged.comparison, judged.gates, judged.validated.summary


def _trial_of(connection: sa.Connection, model: str, other: str | None, by: str) -> _Trial:
    """A model against another, by default against the champion and beside the challengers, on the newest data set."""
    found = find_model(connection, model).model_id
    against = find_model(connection, other).model_id if other else champion(connection)
    digest = connection.scalar(
        sa.text("SELECT dataset_digest FROM bloodcell.dataset ORDER BY created_at DESC, dataset_digest LIMIT 1")
    )
    if digest is None:
        raise ConfigurationError(
            "There is no data set to validate on yet: a retraining takes one. Next: bloodcell labels import, then "
            "bloodcell retrain --reason R"
        )
    if found == against:
        what = "is compared with itself" if other else "is the champion: there is nothing to compare it with"
        raise ConfigurationError(f"Model {found[:12]} {what}. Next: bloodcell models list")
    challengers = () if other else _challengers(connection)
    return _Trial(digest, (found,), against, challengers, None, by, "validated by hand", "", 0, None)


def _challengers(connection: sa.Connection) -> tuple[str, ...]:
    if champion(connection) is None:
        return ()
    return tuple(model.model_id for model in serving_models(connection) if model.role == "challenger")


def _validate(
    database: Database,
    settings: Settings,
    trial: _Trial,
    airflow_run: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Validated, ...]:
    if not trial.candidates:
        raise ConfigurationError(f"Retraining {trial.training_run_id} has no candidate to validate: none was trained.")
    store = Store.of(settings)
    with recorded_run(database, "validate", airflow_run=airflow_run) as run:
        judged = _try(database, store, settings, trial, on_progress)
        run.n_cells = judged[0].comparison.n_cells

        def record(connection: sa.Connection) -> None:
            for each in judged:
                _record(connection, trial, each, run.run_id)

        database.transact(record)
        run.detail = {each.validated.model_id: each.validated.refusal or "passed" for each in judged}
    best_first = sorted((each.validated for each in judged), key=lambda each: (not each.passed, -(each.accuracy or 0)))
    return tuple(best_first)


def _try(
    database: Database,
    store: Store,
    settings: Settings,
    trial: _Trial,
    on_progress: Callable[[int, int], None] | None,
    *,
    keep: bool = True,
) -> list[_Judged]:
    """Runs all the models over the hold-out, each image decoded once, and judges each candidate."""
    from bloodcell.inference.predicting import predict_all

    known = dict.fromkeys((*trial.candidates, *filter(None, [trial.champion_id]), *trial.challengers))
    bundles = {model_id: open_registered(store, model_id) for model_id in known}
    material = database.transact(lambda c: _Material.read(c, trial.dataset_digest, bundles))
    outputs = predict_all(
        list(bundles.values()),
        material.images + material.outside,
        lambda image: store.read_image(image.sha256),
        settings,
        on_progress,
    )
    keeper = store if keep else None
    return [_judge(keeper, settings, trial, each, material, bundles, outputs) for each in trial.candidates]


@dataclass(frozen=True, slots=True)
class _Material:
    """The hold-out, without images that any of the models was made from, and the cells outside the eight groups."""

    images: tuple[LabelledImage, ...]
    holdout: Holdout
    outside: tuple[LabelledImage, ...]
    splits: tuple[SplitFacts, ...]
    left_out: tuple[tuple[str, int], ...]
    labels_until: datetime | None

    @classmethod
    def read(cls, connection: sa.Connection, digest: str, bundles: Mapping[str, Bundle]) -> _Material:
        """Reads it from the database."""
        learnt = images_of(*bundles.values())
        found = stored_images(connection, digest, "holdout")
        images = tuple(image for image in found if image.sha256 not in learnt)
        origin = {row.sha256: row for row in connection.execute(sa.text(_ORIGIN), {"digest": digest})}
        patients = {key: number for number, key in enumerate(sorted({row.split_key for row in origin.values()}))}
        data = connection.execute(sa.text(_DATASET), {"digest": digest}).one()
        left_out = dict(data.left_out)
        if n_learnt := len(found) - len(images):
            left_out["hold-out image that a compared model was trained on"] = n_learnt
        return cls(
            images,
            Holdout(
                truth=np.array([CELL_CLASSES.index(image.cell_class) for image in images], np.int64),
                patients=np.array([patients[origin[image.sha256].split_key] for image in images], np.int64),
                slides=np.array([origin[image.sha256].slide_id for image in images], np.int64),
            ),
            stored_images(connection, digest, "out_of_scope"),
            tuple(SplitFacts(*row) for row in connection.execute(sa.text(_SPLITS), {"digest": digest})),
            tuple(left_out.items()),
            data.labels_until,
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    comparison: Comparison
    gates: tuple[Gate, ...]
    validated: Validated


def _judge(
    keeper: Store | None,
    settings: Settings,
    trial: _Trial,
    candidate: str,
    material: _Material,
    bundles: Mapping[str, Bundle],
    outputs: Mapping[str, ModelOutput],
) -> _Judged:
    others = [model_id for model_id in bundles if model_id not in (candidate, trial.champion_id)]
    order: list[tuple[str, Any]] = [(candidate, "candidate")]
    order += [(trial.champion_id, "champion")] if trial.champion_id else []
    order += [(model_id, "challenger") for model_id in others]
    n_cells = len(material.images)
    answers = [_answers(bundles[model_id], role, outputs[model_id], n_cells) for model_id, role in order]
    comparison = compare(material.holdout, answers)
    gates = judge_gates(comparison, settings)
    facts = ValidationFacts(
        training_run_id=str(trial.training_run_id or "by hand"),
        requested_by=trial.requested_by,
        reason=trial.reason,
        base=trial.base,
        seed=trial.seed,
        epochs=trial.epochs,
        dataset_digest=trial.dataset_digest,
        labels_until=material.labels_until,
        splits=material.splits,
        left_out=material.left_out,
        code_version=code_version(),
        validated_at=datetime.now(UTC),
    )
    report = keeper.put_report(candidate, validation_page(comparison, gates, facts).encode()) if keeper else ""
    summary = summary_markdown(comparison, gates, facts)
    figures = comparison.candidate
    return _Judged(
        comparison,
        gates,
        Validated(
            candidate,
            bundles[candidate].manifest.variant,
            all_passed(gates),
            refusal(gates),
            figures.accuracy.value if figures else None,
            f"{summary}\n\nThe whole page: `{report}`" if report else summary,
            report,
        ),
    )


def _answers(bundle: Bundle, role: Any, output: ModelOutput, n_cells: int) -> Predictions:
    calls = calls_of(bundle, output)
    return Predictions(
        model_id=bundle.model_id,
        variant=bundle.manifest.variant,
        role=role,
        probabilities=output.probabilities[:n_cells],
        unclassified=calls.unclassified[:n_cells],
        novelty=output.novelty[:n_cells],
        out_of_scope_unclassified=calls.unclassified[n_cells:],
        out_of_scope_novelty=output.novelty[n_cells:],
        novelty_threshold=bundle.manifest.novelty_threshold,
    )


def _record(connection: sa.Connection, trial: _Trial, judged: _Judged, run_id: uuid.UUID) -> None:
    comparison, validated = judged.comparison, judged.validated
    for figures in comparison.models:
        row = _evaluation(figures, comparison) | {"dataset_digest": trial.dataset_digest, "run_id": run_id}
        connection.execute(insert(tables.evaluation).values(row).on_conflict_do_nothing())
    row = {
        "validation_id": uuid.uuid4(),
        "training_run_id": trial.training_run_id,
        "model_id": validated.model_id,
        "champion_id": trial.champion_id,
        "dataset_digest": trial.dataset_digest,
        "passed": validated.passed,
        "gates": [gate.to_json() for gate in judged.gates],
        "report": validated.report,
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
        "calibration_error": figures.calibration_error,
        "unclassified": figures.unclassified.value,
        "figures": everything["evaluation"] | {"by_patient": by_patient},
    }


_ORIGIN = """
    SELECT i.sha256, i.split_key, c.slide_id FROM bloodcell.dataset_image i JOIN bloodcell.cell c USING (cell_id)
    WHERE i.dataset_digest = :digest AND i.split = 'holdout'
"""
_DATASET = """
    SELECT d.left_out, (SELECT l.recorded_at FROM bloodcell.label l WHERE l.label_id = d.until_label_id) AS labels_until
    FROM bloodcell.dataset d WHERE d.dataset_digest = :digest
"""
_SPLITS = """
    SELECT split, count(DISTINCT split_key), count(*) FROM bloodcell.dataset_image WHERE dataset_digest = :digest
    GROUP BY split ORDER BY array_position(ARRAY['training', 'validation', 'holdout', 'out_of_scope'], split)
"""
