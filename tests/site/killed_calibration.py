"""Calibrates on a folder of images, and kills its own process with SIGKILL at a given moment.

Usage: killed_calibration.py IMAGES DATA_DIR PARENT STEP NUMBER. The step "bundle" is the writing of a bundle's
NUMBER-th file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from bloodcell.registry.bundle import open_bundle
from bloodcell.settings import Settings
from bloodcell.site.calibrating import calibrate
from bloodcell.site.site_images import read_site_images

images, data_dir, parent, fatal_step, fatal_number = sys.argv[1:]


def die_at(step: str, done: int, total: int) -> None:
    if step.endswith(fatal_step) and done >= int(fatal_number):
        os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing() -> None:
    place = Path(data_dir) / "bundles"
    while len([path for path in place.rglob("*") if path.is_file()]) < int(fatal_number):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if fatal_step == "bundle":
    threading.Thread(target=die_while_writing, daemon=True).start()
settings = Settings(data_dir=Path(data_dir))
found = read_site_images(settings, Path(images))
calibrate(found, [open_bundle(Path(parent))], settings, site="A", on_progress=die_at)
