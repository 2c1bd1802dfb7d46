"""Trains like a bundle of `tests.small_cells`, and kills its own process with SIGKILL at a given moment.

Usage: killed_training.py CELLS DATA_DIR RECIPE WEIGHTS STEP NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from bloodcell.training.bundle_training import train
from tests import small_cells

cells, data_dir, recipe, weights, fatal_step, fatal_number = sys.argv[1:]


def die_at(step: str, done: int, total: int) -> None:
    if step == fatal_step and done == int(fatal_number):
        os.kill(os.getpid(), signal.SIGKILL)


train(
    "vgg16",
    Path(cells),
    small_cells.model_settings(Path(data_dir)),
    recipe=getattr(small_cells, recipe),
    base=Path(weights),
    on_progress=die_at,
)
