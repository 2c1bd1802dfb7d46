"""Measures whether training keeps the device busy: epochs from rows mapped from disk, against arrays in memory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.speed.line import Line, ratio, shown
from benchmarks.speed.material import cell_images
from benchmarks.speed.place import Place

N_EPOCHS = 4  # the first traces the step and is left out


def epochs(place: Place) -> list[Line]:
    """Measures the deep stage of InceptionV3 at 224 px, from its cut at mixed7, and what cached features save."""
    import keras

    from bloodcell.cells.classes import CELL_CLASSES
    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.settings import Settings
    from bloodcell.training import base_networks, fine_tuning
    from bloodcell.training.feature_cache import Rows, cached_outputs
    from bloodcell.training.image_changes import AS_IS
    from bloodcell.training.image_folders import read_file

    layers, cut_layer = ("mixed7", "mixed8"), "mixed7"
    n_images = 64 if place.quick else 512
    settings = Settings(data_dir=place.folder / "training")
    paths = cell_images(place, n_images)
    images = [LabelledImage(path, path.parent.name, f"{number:064x}") for number, path in enumerate(paths)]
    labels = np.array([CELL_CLASSES.index(image.cell_class) for image in images])
    network = base_networks.build_base("inception_v3", 224)
    cut = base_networks.feature_map(network, cut_layer)

    def features() -> tuple[float, Rows]:
        began = time.perf_counter()
        found = cached_outputs(
            network, {"map": cut}, images, read=read_file, change=AS_IS, cache=place.folder / "features",
            settings=settings, on_image=lambda done, total: None,
        )  # fmt: skip
        return time.perf_counter() - began, found["map"]

    first_s, rows = features()
    again_s, rows = features()
    in_memory = rows[:].astype(np.float32)

    def images_per_s(inputs: Rows | np.ndarray, work: Path) -> list[float]:
        keras.utils.set_random_seed(0)
        pooled = base_networks.pooled(network, layers)
        model = keras.Model(cut, keras.layers.Dense(len(CELL_CLASSES))(pooled))
        work.mkdir(parents=True)
        times, n_steps = [time.perf_counter()], n_images // 32
        fine_tuning.train_stage(
            model,
            fine_tuning.CachedRows([inputs], labels),
            fine_tuning.CachedRows([in_memory[:32]], labels[:32]),
            fine_tuning.Stage("deep", N_EPOCHS, 1e-4, 1e-3, 32, N_EPOCHS, 0),
            work,
            lambda done, total: times.append(time.perf_counter()) if done % n_steps == 0 else None,
        )
        return [n_images / seconds for seconds in np.diff(times)[1:]]

    mapped, preloaded = [], []
    for number in range(1 if place.quick else 2):
        mapped += images_per_s(rows, place.folder / f"mapped{number}")
        preloaded += images_per_s(in_memory, place.folder / f"preloaded{number}")
    return [
        Line(
            "fine-tuning from cached features, images/s",
            "the same from arrays in memory",
            ratio(mapped, preloaded),
            f"images/s: {shown(mapped, digits=0)}; in memory: {shown(preloaded, digits=0)}; {n_images} images",
            at_least=0.9,
        ),
        Line(
            "features of images that were trained on before",
            "of new ones",
            first_s / again_s,
            f"s: {first_s:.2f}; again: {again_s:.3f}; {n_images} images",
        ),
    ]
