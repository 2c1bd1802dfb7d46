"""Candidates: variants trained on a retraining's data set, or calibrated on it, and registered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import TrainingDataError
from bloodcell.registry.recipes import default_recipe
from bloodcell.registry.registered_models import open_registered, register, serving_models
from bloodcell.retraining.site_images import site_images
from bloodcell.retraining.snapshot import take_snapshot, training_set
from bloodcell.retraining.training_runs import read_training_run
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
    """Trains or calibrates a variant on a retraining's data set and registers the model; returns the model's id.

    A repeated call returns the recorded id. After a kill it resumes from the last checkpoint: at most one epoch, or a
    few batches of features, are lost.

    Args:
        settings: Where everything is kept.
        training_run_id: The retraining.
        variant: The variant to train.
        airflow_run: Id of the Dag run that this belongs to.
        on_progress: Called with the name of a step, how much of it is done, and the total.

    Raises:
        TrainingDataError: The images cannot train a model.
        WeightsError: The base weights are missing or altered.
        BundleError: The model to start from is incomplete or altered, or knows too little for a calibration.
        ConfigurationError: The retraining has no data set, or a disk is full.
        StoreUnavailableError: Images cannot be read.
    """
    from bloodcell.site.calibrating import calibrate
    from bloodcell.training.bundle_training import train

    database, store = open_database(settings), Store.of(settings)
    retraining = database.transact(lambda c: read_training_run(c, training_run_id))
    if done := database.transact(lambda c: _candidate(c, training_run_id, variant)):
        return done
    with recorded_run(database, "train", airflow_run=airflow_run) as run:
        out = settings.data_dir / "training" / "candidates"
        if retraining.base == "site":
            of_site = database.transact(lambda c: site_images(c, store, retraining.dataset))
            serving = _serving(database, store, variant)
            calibrated = serving.manifest.site
            (bundle,) = calibrate(
                of_site,
                [_origin(store, serving)],
                settings,
                site=f"labels of {retraining.requested_at:%Y-%m-%d}",
                um_per_px=calibrated.um_per_px if calibrated else None,
                out=out,
                on_progress=on_progress,
            )
            run.n_cells = len(of_site.images)
        else:
            images = database.transact(lambda c: training_set(c, store, retraining.dataset))
            start = _origin(store, _serving(database, store, variant)) if retraining.base == "champion" else None
            bundle = train(
                variant,
                images,
                settings,
                recipe=_recipe(retraining, variant, start),
                base=start or "imagenet",
                seed=retraining.seed,
                out=out,
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
    shutil.rmtree(bundle.folder)  # the store has a copy
    return model_id


def train_on_labels(
    settings: Settings, variant: str, *, seed: int = 0, on_progress: OnProgress | None = None
) -> Bundle:
    """Trains a variant on the current labels, outside of any retraining, and returns its bundle.

    Args:
        settings: Where everything is kept.
        variant: The variant to train.
        seed: Random seed.
        on_progress: Called with the name of a step, how much of it is done, and the total.

    Raises:
        TrainingDataError: A class has no images to train on, or to validate with.
        WeightsError: The base weights are missing or altered.
        ConfigurationError: The variant does not exist, or a disk is full.
    """
    from bloodcell.training.bundle_training import train

    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "snapshot") as run:
        taken = database.transact(lambda c: take_snapshot(c, settings, run.run_id))
    if taken.shortage:
        raise TrainingDataError(f"{taken.shortage} Next: bloodcell labels status")
    images = database.transact(lambda c: training_set(c, store, taken.dataset_digest))
    return train(variant, images, settings, seed=seed, on_progress=on_progress)


def _candidate(connection: sa.Connection, training_run_id: uuid.UUID, variant: str) -> str | None:
    table = tables.candidate
    model_id: str | None = connection.scalar(
        sa.select(table.c.model_id).where(table.c.training_run_id == training_run_id, table.c.variant == variant)
    )
    return model_id


def _serving(database: Database, store: Store, variant: str) -> Bundle:
    serving = database.transact(serving_models)
    return open_registered(store, next(model.model_id for model in serving if model.variant == variant))


def _origin(store: Store, bundle: Bundle) -> Bundle:
    """Returns the model that a model was made of; itself, if it was made of none."""
    if bundle.manifest.turned_from:
        bundle = open_registered(store, bundle.manifest.turned_from)
    return bundle if bundle.manifest.site is None else open_registered(store, bundle.manifest.site.parent_id)


def _recipe(retraining: TrainingRun, variant: str, start: Bundle | None) -> Recipe:
    """Returns the default recipe, or that of a warm start whose features differ, with the requested epochs."""
    recipe = default_recipe(variant)
    if start is not None and start.manifest.recipe.warm_start_parts != recipe.warm_start_parts:
        recipe = start.manifest.recipe
    if recipe.tuning is None or retraining.epochs is None:
        return recipe
    epochs = retraining.epochs
    return replace(recipe, tuning=replace(recipe.tuning, head_epochs=epochs, deep_epochs=epochs))
