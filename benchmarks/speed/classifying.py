"""Times classify, from stored files to rows: against the bare forward pass, and against the plain way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.material import bundle_folder, cell_images, plain_svm, write_night
from benchmarks.speed.place import Place
from bloodcell.cells.variants import VARIANTS
from bloodcell.classify import classify_shard, plan_shards
from bloodcell.inference.model_loading import load_model
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.registered_models import register
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.decoding import ImageBounds, decode, resized
from bloodcell.storage.store import Store

TEMPLATE = "classifying"


def n_cells(place: Place) -> int:
    return 64 if place.quick else 224  # whole batches; the first of them warms up


def rounds(place: Place) -> int:
    return 1 if place.quick else 3


def prepare(place: Place) -> None:
    """Makes the database of ingested cells and registered models that the measurements copy."""
    settings = place.template(TEMPLATE)
    ingest_night(write_night(settings.drops, cell_images(place, n_cells(place))), settings)
    for variant in VARIANTS:
        bundle = open_bundle_of(place, variant)
        with connect(str(settings.plain_database_url)).begin() as connection:
            register(connection, Store.of(settings), bundle, by="bench")


def open_bundle_of(place: Place, variant: str) -> Bundle:
    return open_bundle(bundle_folder(place, variant))


def end_to_end(place: Place, variant: str) -> Line:
    bundle = open_bundle_of(place, variant)
    batch_cells = Settings().batch_cells
    bounds, (height, width, _) = ImageBounds.of(Settings()), bundle.input_size
    files = cell_images(place, n_cells(place))
    arrays = np.stack([resized(decode(file.read_bytes(), bounds), height, width) for file in files])

    def bare() -> float:
        model = load_model(bundle)
        model.compile(jit_compile=False)
        batches = np.split(arrays, range(batch_cells, len(arrays), batch_cells))
        model.predict_on_batch(batches[0])
        started = time.perf_counter()
        for batch in batches[1:]:
            model.predict_on_batch(batch)
        return (time.perf_counter() - started) / (len(arrays) - batch_cells)

    of_bare, of_classify = alternately(rounds(place), bare, lambda: seconds_per_cell(place.fresh(TEMPLATE), [bundle]))
    return Line(
        f"classify, {variant} at {height} px: files to rows",
        f"bare forward pass over arrays, batches of {batch_cells}",
        ratio(of_bare, of_classify),
        f"ms per cell: {shown(of_classify, 1e3, 1)}; bare: {shown(of_bare, 1e3, 1)}; {len(arrays)} cells",
        at_least=0.9,
    )


def four_variants(place: Place) -> Line:
    bundles = [open_bundle_of(place, variant) for variant in VARIANTS]
    images = place.folder / "plain" / "cells"
    images.mkdir(parents=True)
    for number, file in enumerate(cell_images(place, n_cells(place))):
        shutil.copyfile(file, images / f"{number:06d}.jpg")
    of_plain, of_classify = alternately(
        1 if place.quick else 2,
        lambda: sum(_plainly(bundle, images.parent) for bundle in bundles),
        lambda: seconds_per_cell(place.fresh(TEMPLATE), bundles),
    )
    return Line(
        "classify, all four variants together: files to rows",
        "the plain way: for each image_dataset_from_directory and model.predict, the SVM's decision on its features",
        ratio(of_plain, of_classify),
        f"ms per cell: {shown(of_classify, 1e3, 1)}; plain: {shown(of_plain, 1e3, 1)}; {n_cells(place)} cells",
        at_least=1.3,
    )


def seconds_per_cell(settings: Settings, bundles: Sequence[Bundle]) -> float:
    """Returns the time per cell of `classify_shard`, from the end of the first batch to the commit of the last row."""
    (shard,) = plan_shards(
        settings.model_copy(update={"shard_cells": 10**6}), model_ids=[bundle.model_id for bundle in bundles]
    )
    ends: list[tuple[float, int]] = []
    summary = classify_shard(shard, settings, on_cells=lambda n: ends.append((time.perf_counter(), n)))
    started, n_first = ends[0]
    return (time.perf_counter() - started) / (summary.n_cells - n_first)


def _plainly(bundle: Bundle, folder: Path) -> float:
    import keras

    model = load_model(bundle)
    decide = None
    if bundle.manifest.variant.endswith("_svm"):
        decide = plain_svm(model)
        model = keras.Model(model.inputs, model.get_layer("features").output)
    model.compile(jit_compile=False)
    height, width, _ = bundle.input_size
    model.predict(np.zeros((32, height, width, 3), np.uint8), verbose=0)

    started = time.perf_counter()
    images = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(height, width), batch_size=32, shuffle=False, verbose=False
    )
    outputs = model.predict(images, verbose=0)
    n = len(decide(outputs).argmax(axis=1)) if decide is not None else len(outputs["probabilities"])
    return (time.perf_counter() - started) / n
