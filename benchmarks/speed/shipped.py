"""The shipped models: how long they take to load, and their forward pass beside a plain Keras model's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.material import plain_svm
from benchmarks.speed.place import Place
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.recipes import base_of
from bloodcell.registry.shipped import shipped_bundles

BATCH_CELLS = 32


def loading(place: Place) -> list[Line]:
    import keras

    keras.Sequential([keras.layers.Dense(1)]).build((None, 1))  # TensorFlow's own start is no model's
    lines = []
    for shipped in shipped_bundles():
        took = []
        for _ in range(1 if place.quick else 3):
            started = time.perf_counter()
            load_model(open_bundle(shipped.folder))
            took.append(time.perf_counter() - started)
        name = f"verify and load the shipped {shipped.manifest.variant}"
        lines.append(Line(name, "", max(took), f"s: {shown(took)}", at_most=5, unit=" s"))
    return lines


def forward(place: Place) -> list[Line]:
    return [_forward(place, bundle) for bundle in shipped_bundles()]


def _forward(place: Place, bundle: Bundle) -> Line:
    recipe = bundle.manifest.recipe
    crop_px = recipe.crop_px or recipe.side_px
    random = np.random.default_rng(0)
    cells = random.integers(0, 256, (BATCH_CELLS, *bundle.input_size.shape), dtype=np.uint8)
    margin = (recipe.side_px - crop_px) // 2
    ready = cells[:, margin : margin + crop_px, margin : margin + crop_px].astype(np.float32) / 127.5 - 1
    network, plain = MergedNetwork([bundle], batch_cells=BATCH_CELLS), _plain(bundle, crop_px)
    rounds = 1 if place.quick else 5
    of_plain, of_bundle = alternately(
        rounds, lambda: _seconds(lambda: plain(ready)), lambda: _seconds(lambda: network({bundle.input_size: cells}))
    )
    return Line(
        f"forward pass of the shipped {bundle.manifest.variant}",
        "the same base straight from keras.applications on pixels already cut and scaled"
        + (", then the decision with scikit-learn's kernel" if recipe.svm else ""),
        ratio(of_plain, of_bundle),
        f"ms per cell: {shown(of_bundle, 1e3 / BATCH_CELLS, 1)}; plain: {shown(of_plain, 1e3 / BATCH_CELLS, 1)}",
        at_least=0.95,
    )


def _plain(bundle: Bundle, crop_px: int) -> Callable[[np.ndarray], Any]:
    """Returns what a notebook would run: Keras' base with a head, or with averages for scikit-learn's SVM."""
    import keras

    recipe = bundle.manifest.recipe
    make = keras.applications.VGG16 if base_of(bundle.manifest.variant) == "vgg16" else keras.applications.InceptionV3
    base = make(include_top=False, weights=None, input_shape=(crop_px, crop_px, 3))
    if recipe.svm is None:
        averages = keras.layers.GlobalAveragePooling2D()(base.output)
        model = keras.Model(base.inputs, keras.layers.Dense(8, activation="softmax")(averages))
        model.compile(jit_compile=False)
        return lambda cells: model.predict_on_batch(cells)
    averages = [keras.layers.GlobalAveragePooling2D()(base.get_layer(name).output) for name in recipe.feature_layers]
    model = keras.Model(base.inputs, keras.layers.Concatenate()(averages * len(recipe.pooled_parts)))
    model.compile(jit_compile=False)
    decide = plain_svm(load_model(bundle))
    return lambda cells: decide(np.asarray(model.predict_on_batch(cells)))


def _seconds(work: Callable[[], object]) -> float:
    work()  # the first pass after the other side's finds cold caches
    started = time.perf_counter()
    for _ in range(3):
        work()
    return (time.perf_counter() - started) / 3
