"""Cells, nights and bundles to measure with."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import bloodcell.registry
import bloodcell.training
from benchmarks.speed.place import Place
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.drawing.drops import draw_folder
from bloodcell.registry.recipes import Recipe, SvmSearch, base_of, default_recipe
from bloodcell.settings import Settings
from bloodcell.storage.atomic_write import part_folder
from tests.small_cells import random_weights

if TYPE_CHECKING:
    import keras

NIGHT = "2026-01-02"
TINY = Recipe(32, ("block2_pool",), svm=SvmSearch(gammas=(0.25,), costs=(0.01,), folds=2))
CELLS_PER_SLIDE = 125
_REAL = Path(__file__).resolve().parents[3] / "shared" / "pbc"


def cell_images(place: Place, n_cells: int) -> list[Path]:
    """Returns files of cells of all classes: real cells, or drawn ones if there are no real ones."""
    folder = _REAL if _REAL.is_dir() else _drawn(place.cache / "drawn")
    by_class = [sorted((folder / cell_class).glob("*.jpg")) for cell_class in CELL_CLASSES]
    mixed = [file for files in zip(*by_class, strict=False) for file in files]
    if len(mixed) < n_cells:
        raise ValueError(f"Expected {n_cells} images of cells in {folder}. Received: {len(mixed)}.")
    return mixed[:n_cells]


def write_night(drops: Path, images: list[Path]) -> Path:
    """Returns a complete night's folder with copies of `images`."""
    return write_bodies(drops, ((f"SNE_{number:08d}.jpg", file.read_bytes()) for number, file in enumerate(images)))


def write_small_night(drops: Path, n_cells: int) -> Path:
    """Returns a complete night's folder with distinct images of 40 x 40 px."""
    rng = np.random.default_rng(0)

    def body() -> bytes:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file, "JPEG")
        return file.getvalue()

    return write_bodies(drops, ((f"LY_{number:08d}.jpg", body()) for number in range(n_cells)))


def write_bodies(drops: Path, bodies: Iterable[tuple[str, bytes]]) -> Path:
    """Returns a complete night's folder with files of these names and contents."""
    night = drops / NIGHT
    for number, (name, body) in enumerate(bodies):
        slide = night / f"S{number // CELLS_PER_SLIDE:04d}"
        slide.mkdir(parents=True, exist_ok=True)
        (slide / name).write_bytes(body)
    (night / ".complete").touch()
    return night


def distinct(jpeg: bytes, number: int) -> bytes:
    """Returns the same picture as a different file, with a comment of eight bytes after the start-of-image marker."""
    return jpeg[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + jpeg[2:]


def bundle_folder(place: Place, variant: str, recipe: Recipe | None = None) -> Path:
    """Returns the folder of a bundle of the variant, which is trained if the cache has none of the present code."""
    from bloodcell.training.bundle_training import train

    recipe = recipe or _quickly_trained(default_recipe(variant))
    kind = f"{variant}-{recipe.side_px}px"
    kept = place.cache / "bundles" / f"{kind}-{_digest(recipe)}"
    if not kept.exists():
        for outdated in kept.parent.glob(f"{kind}-*"):
            shutil.rmtree(outdated)
        labelled = place.cache / "labelled"
        if not labelled.exists():
            draw_folder(place.folder / "labelled", cells_per_class=4, seed=1)
            (place.folder / "labelled").rename(labelled)
        settings = Settings(data_dir=place.folder / "training")
        bundle = train(variant, labelled, settings, recipe=recipe, base=random_weights(base_of(variant)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle.folder, place.folder / kept.name)
        (place.folder / kept.name).rename(kept)
    return kept


def plain_svm(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the decision of a bundle's SVM as a notebook would compute it: scikit-learn's kernel, then NumPy."""
    from sklearn.metrics.pairwise import rbf_kernel

    kernels = {layer.name: [np.asarray(each) for each in layer.weights] for layer in model.layers if layer.weights}
    weights, bias = kernels["decision"]
    if "support" not in kernels:
        return lambda features: features @ weights + bias
    vectors = kernels["support"][0].T / -2
    axes, centre = kernels.get("principal_axes", (np.eye(len(vectors[0])), np.zeros(len(vectors[0]))))
    return lambda features: rbf_kernel(features @ axes + centre, vectors, gamma=1.0) @ weights + bias


def _quickly_trained(recipe: Recipe) -> Recipe:
    if recipe.tuning is not None:
        tuning = replace(recipe.tuning, transforms=1, batch_cells=8, head_epochs=1, deep_epochs=1)
        return replace(recipe, tuning=tuning)
    return replace(recipe, svm=TINY.svm)


def _digest(recipe: Recipe) -> str:
    digest = hashlib.sha256(json.dumps(asdict(recipe)).encode())
    for room in (bloodcell.registry, bloodcell.training):
        for source in sorted(Path(room.__path__[0]).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _drawn(folder: Path) -> Path:
    if not folder.exists():
        with part_folder(folder) as part:
            draw_folder(part, cells_per_class=250, seed=2)
            part.rename(folder)
    return folder
