"""A night's images are compared with those that the champion knows, before its cells are judged.

Images of another analyser, stain or lamp are not what the champion was measured on. The results are withheld, with the
reason, until a person has looked at them or the models are calibrated for such images. Each analyser is compared by
itself, so that images as usual of one do not hide what another has become.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.appearance.image_look import look_of
from bloodcell.appearance.look_reference import MIN_IMAGES, compared, read_looks
from bloodcell.inference.read_ahead import Skipped, read_ahead
from bloodcell.registry.registered_models import champion, open_registered
from bloodcell.storage import tables
from bloodcell.storage.decoding import ImageBounds, decode
from bloodcell.storage.locks import wait_for
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bloodcell.appearance.look_reference import Likeness, LookReference
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store

MAX_IMAGES: Final = 200
"""Images that are compared of each analyser: a few seconds, and the median is certain to a tenth of a spread."""

_BATCH: Final = 32
_SQL: Final = load_statements("classify/night_look.sql")


def check_nights(
    slides: Sequence[int], settings: Settings, database: Database, store: Store, *, airflow_run: str | None = None
) -> None:
    """Compares the analysers of these slides with what the champion knows, where their images have not been compared.

    Args:
        slides: Slide ids.
        settings: Image bounds and reader threads.
        database: Where the results are written.
        store: Where images and bundles are.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        BundleError: The champion's bundle is incomplete or altered.
        StoreUnavailableError: The store is unavailable.
    """
    model_id = database.transact(champion)
    if model_id is None:
        return
    reference = read_looks(open_registered(store, model_id))
    if reference is None:  # a bundle of an earlier release does not know how its images looked
        return
    for night, analyser in database.transact(lambda c: c.execute(_SQL["analysers"], {"slides": list(slides)}).all()):
        about = {"night": night, "analyser": analyser, "model_id": model_id}
        images = database.transact(partial(_sample, about=about))
        sample = hashlib.sha256("".join(images).encode()).hexdigest()
        if database.transact(partial(_newest_sample, about=about)) == sample:
            continue
        with recorded_run(database, "check look", night=night, airflow_run=airflow_run) as run:
            row = _compared(reference, images, store, settings) | about | {"run_id": run.run_id}
            row["figures"] = {"sample": sample, **row["figures"]}
            run.n_cells = len(images)
            run.detail = {name: row[name] for name in ("analyser", "passed", "reason")}
            database.transact(partial(_write, row=row))


def _sample(connection: sa.Connection, about: Mapping[str, Any]) -> list[str]:
    return list(connection.scalars(_SQL["sample"], {**about, "n": MAX_IMAGES}))


def _newest_sample(connection: sa.Connection, about: Mapping[str, Any]) -> str | None:
    found: str | None = connection.scalar(_SQL["newest_sample"], about)
    return found


def _compared(reference: LookReference, images: Sequence[str], store: Store, settings: Settings) -> dict[str, Any]:
    looks = _looks(images, store, settings)
    if len(looks) < MIN_IMAGES:
        reason = f"Too few images to judge how they look: {len(looks)}, {MIN_IMAGES} are needed."
        return {"n_cells": len(looks), "passed": True, "reason": reason, "figures": {}}
    found = compared(reference, np.stack(looks))
    return {
        "n_cells": found.n_images,
        "distance": found.distance,
        "threshold": found.threshold,
        "passed": found.is_alike,
        "reason": _reason(found),
        "figures": {
            name: {"known": _number(known), "found": _number(here), "difference": _number(difference)}
            for name, (known, here, difference) in found.figures.items()
        },
    }


def _looks(images: Sequence[str], store: Store, settings: Settings) -> list[NDArray[np.float64]]:
    """Returns the looks of the images that can be read; the classification names those that cannot."""
    bounds, skipped = ImageBounds.of(settings), Skipped(store.check)
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))

    def look(sha256: str) -> NDArray[np.float64]:
        return look_of(np.asarray(decode(store.read_image(sha256), bounds)))

    return [found for _, looks in read_ahead(batches, look, settings.reader_threads, skipped) for found in looks]


def _reason(found: Likeness) -> str:
    distance = f"their distance is {found.distance:.1f}, the threshold {found.threshold:.1f}"
    if found.is_alike:
        return f"The images look like those that the model knows: {distance}."
    differing = ", ".join(
        f"{name} ({found.figures[name][1]:.3g} instead of {found.figures[name][0]:.3g})"
        for name in found.most_different[:4]
    )
    return (
        f"The images are unlike those that the model knows: {distance}. Most different: {differing or 'none alone'}. "
        "Next: look at the stain and the lamp, or calibrate the models for such images (bloodcell site calibrate)."
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)


def _write(connection: sa.Connection, row: dict[str, Any]) -> None:
    wait_for(connection, "check")
    if _newest_sample(connection, row) != row["figures"]["sample"]:
        connection.execute(sa.insert(tables.night_check).values(row))
