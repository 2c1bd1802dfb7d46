"""Trains like the bundle `tuned_bundle`, and kills its own process with SIGKILL at a given moment.

Usage: killed_training.py CELLS DATA_DIR STEP NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from bloodcell.models.training import train
from tests.small_cells import TUNED_RECIPE, model_settings

cells, data_dir, fatal_step, fatal_number = sys.argv[1:]


def die_at(step: str, done: int, total: int) -> None:
    if step == fatal_step and done == int(fatal_number):
        os.kill(os.getpid(), signal.SIGKILL)


train("vgg16", Path(cells), model_settings(Path(data_dir)), recipe=TUNED_RECIPE, base="random", on_progress=die_at)
