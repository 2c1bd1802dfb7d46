"""A variant is trained on a retraining's data set, and the model is on record as its candidate."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import TrainingDataError
from bloodcell.registry.recipes import DEFAULT_RECIPES, DEMO_RECIPES
from bloodcell.registry.registered_models import open_registered, register, serving_models
from bloodcell.retraining.snapshot import take_snapshot, training_set
from bloodcell.retraining.training_runs import read_training_run, too_little
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    import uuid

    from bloodcell.registry.bundle import Bundle
    from bloodcell.registry.recipes import Recipe
    from bloodcell.retraining.training_runs import TrainingRun
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.training.fitting import OnProgress


def train_candidate(
    settings: Settings,
    training_run_id: uuid.UUID,
    variant: str,
    *,
    airflow_run: str | None = None,
    on_progress: OnProgress | None = None,
) -> str:
    """Trains a variant on the retraining's data set; returns the model's id, the one on record if it was done before.

    A kill loses at most an epoch or a few batches of features: the same call goes on there.

    Raises:
        TrainingDataError: Images that cannot train a model.
        WeightsError: Base weights that are missing or altered.
        BundleError: The model to go on from is incomplete or altered.
        ConfigurationError: A retraining without a data set, a full disk.
        StoreUnavailableError: Images that cannot be read.
    """
    from bloodcell.training.bundle_training import train

    database, store = open_database(settings), Store.of(settings)
    retraining = database.transact(lambda c: read_training_run(c, training_run_id))
    if done := database.transact(lambda c: _candidate(c, training_run_id, variant)):
        return done
    with recorded_run(database, "train", airflow_run=airflow_run) as run:
        images = database.transact(lambda c: training_set(c, store, retraining.dataset))
        bundle = train(
            variant,
            images,
            settings,
            recipe=recipe_of(retraining, variant),
            base=_base(database, store, retraining, variant),
            seed=retraining.seed,
            out=settings.data_dir / "training" / "candidates",
            on_progress=on_progress,
        )
        run.n_cells = len(images.training) + len(images.validation)
        run.detail = {"training_run_id": str(training_run_id), "variant": variant, "model_id": bundle.model_id}

        def record(connection: sa.Connection) -> str:
            register(connection, store, bundle, by=retraining.requested_by)
            row = {
                "training_run_id": training_run_id,
                "variant": variant,
                "model_id": bundle.model_id,
                "run_id": run.run_id,
            }
            connection.execute(insert(tables.candidate).values(row).on_conflict_do_nothing())
            return _candidate(connection, training_run_id, variant) or bundle.model_id

        model_id = database.transact(record)
    shutil.rmtree(bundle.folder)  # the store has it
    return model_id


def train_on_labels(
    settings: Settings, variant: str, *, base: str = "imagenet", seed: int = 0, on_progress: OnProgress | None = None
) -> Bundle:
    """Trains a variant on the labels that stand now, and returns its bundle; it is nobody's candidate.

    Raises:
        TrainingDataError: A group without images to train on, or to validate with.
        WeightsError: Base weights that are missing or altered.
        ConfigurationError: An unknown variant, a full disk.
    """
    from bloodcell.training.bundle_training import train

    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "snapshot") as run:
        taken = database.transact(lambda c: take_snapshot(c, settings, run.run_id))
    if lacking := too_little(taken):
        raise TrainingDataError(f"{lacking} Next: bloodcell labels status")
    images = database.transact(lambda c: training_set(c, store, taken.dataset_digest))
    return train(variant, images, settings, base=base, seed=seed, on_progress=on_progress)


def recipe_of(retraining: TrainingRun, variant: str) -> Recipe:
    """Returns how a retraining trains a variant: its default recipe, with the epochs asked for."""
    recipe = (DEMO_RECIPES if retraining.base == "random" else DEFAULT_RECIPES)[variant]
    if recipe.tuning is None or retraining.epochs is None:
        return recipe
    epochs = retraining.epochs
    return replace(recipe, tuning=replace(recipe.tuning, head_epochs=epochs, deep_epochs=epochs))


def _candidate(connection: sa.Connection, training_run_id: uuid.UUID, variant: str) -> str | None:
    table = tables.candidate
    model_id: str | None = connection.scalar(
        sa.select(table.c.model_id).where(table.c.training_run_id == training_run_id, table.c.variant == variant)
    )
    return model_id


def _base(database: Database, store: Store, retraining: TrainingRun, variant: str) -> str | Bundle:
    if retraining.base != "champion":
        return retraining.base
    serving = database.transact(serving_models)
    return open_registered(store, next(model.model_id for model in serving if model.variant == variant))
