"""A slide's images are compared with those that its models know, before its cells are classified.

A slide of another stain, lamp, camera or scale is not what the models were measured on. Its result is withheld, with
the reason, until a person has looked at it or the models are calibrated for such images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.appearance.image_look import look_of
from bloodcell.appearance.look_reference import MIN_IMAGES, compared, read_looks
from bloodcell.inference.read_ahead import Skipped, read_ahead
from bloodcell.storage import tables
from bloodcell.storage.decoding import ImageBounds, decode
from bloodcell.storage.locks import wait_for
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from bloodcell.appearance.look_reference import Likeness, LookReference
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store

MAX_IMAGES: Final = 24
"""Images of a slide that are compared: a fifth of a usual slide; their median varies by a tenth of the threshold."""

_SQL: Final = load_statements("classify/slide_look.sql")
_INCOMPLETE: Final = "incomplete"  # instead of the digest where an image could not be read: it is compared again


def check_looks(
    slides: Sequence[int],
    bundles: Mapping[str, Bundle],
    settings: Settings,
    database: Database,
    store: Store,
    *,
    night: date | None = None,
    airflow_run: str | None = None,
) -> None:
    """Compares slides with what models know, where that has not been done for their images.

    Args:
        slides: Slide ids.
        bundles: Model id -> the bundle of each model that classifies them.
        settings: Image bounds and reader threads.
        database: Where the results are written.
        store: Where the images are.
        night: Night of the run, if it works on one.
        airflow_run: Id of the Dag run on whose behalf this is done.

    Raises:
        BundleError: The looks in a bundle are damaged.
        StoreUnavailableError: The store is unavailable.
    """
    known = ((model_id, read_looks(bundle)) for model_id, bundle in bundles.items())
    # a bundle of an earlier release does not know how its images looked
    references = {model_id: reference for model_id, reference in known if reference is not None}
    due = database.transact(partial(_due, slides=slides, models=list(references)))
    if not due:
        return
    with recorded_run(database, "check look", night=night, airflow_run=airflow_run) as run:
        n_unlike = 0
        for sample, looks in _looks(due, store, settings):
            digest = sample.digest if len(looks) == len(sample.images) else _INCOMPLETE
            rows = [
                _compared(references[model_id], looks)
                | {"cell_id": sample.cell_id, "model_id": model_id, "run_id": run.run_id}
                for model_id in sample.models
            ]
            for row in rows:
                row["figures"] = {"sample": digest, **row["figures"]}
            run.n_cells += len(sample.images)
            n_unlike += any(not row["passed"] for row in rows)
            database.transact(partial(_write, slide_id=sample.slide_id, rows=rows))
        run.detail = {"slides": len(due), "unlike": n_unlike}


@dataclass(frozen=True, slots=True)
class _Sample:
    """Images of a slide, and the models that they have not been compared with.

    Attributes:
        slide_id: The slide.
        cell_id: Its first cell.
        images: Digests of the images.
        models: Ids of the models.
    """

    slide_id: int
    cell_id: int
    images: tuple[str, ...]
    models: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identity of the images."""
        return _digest(self.images)


def _digest(images: Sequence[str]) -> str:
    return hashlib.sha256("".join(images).encode()).hexdigest()


def _due(connection: sa.Connection, slides: Sequence[int], models: Sequence[str]) -> list[_Sample]:
    """Returns the slides whose images have not been compared with all models."""
    done = _compared_before(connection, slides, models)
    rows = connection.execute(_SQL["samples"], {"slides": list(slides), "n": MAX_IMAGES})
    samples = (
        _Sample(
            row.slide_id,
            row.cell_id,
            tuple(row.images),
            tuple(each for each in models if (row.slide_id, each, _digest(row.images)) not in done),
        )
        for row in rows
    )
    return [sample for sample in samples if sample.models]


def _compared_before(
    connection: sa.Connection, slides: Sequence[int], models: Sequence[str]
) -> set[tuple[int, str, str]]:
    rows = connection.execute(_SQL["compared"], {"slides": list(slides), "models": list(models)})
    return {(row.slide_id, row.model_id, row.sample) for row in rows}


def _looks(
    samples: Sequence[_Sample], store: Store, settings: Settings
) -> Iterator[tuple[_Sample, list[NDArray[np.float64]]]]:
    """Yields each slide with the looks of its images that can be read; the classification names those that cannot."""
    bounds, skipped = ImageBounds.of(settings), Skipped(store.check)

    def look(item: tuple[int, str]) -> NDArray[np.float64]:
        return look_of(np.asarray(decode(store.read_image(item[1]), bounds)))

    batches = ([(number, image) for image in sample.images] for number, sample in enumerate(samples))
    unread = dict(enumerate(samples))
    for items, looks in read_ahead(batches, look, settings.reader_threads, skipped):
        yield unread.pop(items[0][0]), looks
    for sample in unread.values():
        yield sample, []


def _compared(reference: LookReference, looks: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
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


def _write(connection: sa.Connection, slide_id: int, rows: Sequence[dict[str, Any]]) -> None:
    wait_for(connection, "check")
    done = _compared_before(connection, [slide_id], [row["model_id"] for row in rows])
    new = [row for row in rows if (slide_id, row["model_id"], row["figures"]["sample"]) not in done]
    if new:
        connection.execute(sa.insert(tables.look_check), new)
