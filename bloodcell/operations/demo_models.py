"""The demo's four models: trained once on drawn cells, kept, and of no use for real ones."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bloodcell.errors import BloodcellError, BundleError
from bloodcell.models.bundle import Bundle, open_bundle
from bloodcell.models.recipes import DEMO_RECIPES
from bloodcell.operations.processes import open_log

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bloodcell.settings import Settings

CELLS_PER_GROUP: Final = 40
_SEED: Final = 7

OnStep = Callable[[str, int, int], None]


def demo_models(settings: Settings, on_step: OnStep) -> dict[str, Bundle]:
    """Returns variant -> bundle, trained where they are not there yet.

    Args:
        settings: Of the demo; the bundles are kept under its data folder.
        on_step: Called with a step's name, what is done and what there is to do.

    Raises:
        BloodcellError: The training failed.
    """
    found = _kept(settings.data_dir / "bundles")
    missing = [variant for variant in DEMO_RECIPES if variant not in found]
    if not missing:
        return found
    images = settings.data_dir / "drawn"
    if not (images / ".complete").exists():
        _draw(images, on_step)
    _train_apart(missing, images, settings, on_step)
    return _kept(settings.data_dir / "bundles")


def _kept(folder: Path) -> dict[str, Bundle]:
    """Returns the bundles that are there and whole; a broken one is trained again."""
    found = {}
    for bundle_folder in sorted(folder.glob("*/bundle.json")):
        try:
            bundle = open_bundle(bundle_folder.parent)
        except BundleError:
            shutil.rmtree(bundle_folder.parent)
        else:
            found[bundle.manifest.variant] = bundle
    return found


def _draw(images: Path, on_step: OnStep) -> None:
    from bloodcell.drawing.drops import draw_folder

    shutil.rmtree(images, ignore_errors=True)  # a drawing that was broken off
    n_cells = CELLS_PER_GROUP * 8
    n_drawn = 0

    def on_cell() -> None:
        nonlocal n_drawn
        n_drawn += 1
        on_step("draw cells to learn from", n_drawn, n_cells)

    draw_folder(images, cells_per_group=CELLS_PER_GROUP, seed=_SEED, on_cell=on_cell)
    (images / ".complete").touch()


def _train_apart(variants: list[str], images: Path, settings: Settings, on_step: OnStep) -> None:
    """Trains in a process of its own: TensorFlow gives a GPU's memory back only when its process ends."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(variants, images, settings, sender))
    process.start()
    sender.close()
    try:
        while True:
            step = receiver.recv()
            if isinstance(step, BloodcellError):
                raise step
            on_step(*step)
    except EOFError:
        process.join()
        if process.exitcode:
            log = settings.data_dir / "logs" / "training.log"
            raise BloodcellError(
                f"Training the demo models ended with exit status {process.exitcode}; see {log}."
            ) from None
    finally:
        process.terminate()
        process.join()


def _train(variants: list[str], images: Path, settings: Settings, sender: Connection) -> None:
    with open_log(settings.data_dir / "logs" / "training.log") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())  # TensorFlow's chatter would break the progress bars
    from bloodcell.models.training import train

    def tell(variant: str, step: str, done: int, total: int) -> None:
        sender.send((f"{variant}: {step}", done, total))

    try:
        for variant in variants:
            train(
                variant,
                images,
                settings,
                recipe=DEMO_RECIPES[variant],
                base="random",
                seed=_SEED,
                on_progress=functools.partial(tell, variant),
            )
    except BloodcellError as error:
        sender.send(BloodcellError(f"{type(error).__name__}: {error}"))
    sender.close()
