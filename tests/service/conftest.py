"""One running system for all tests that need a real Airflow: `bloodcell up`, started as a person would start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.environment import STACK_MARK
from bloodcell.registry.bundle import Bundle
from bloodcell.service.processes import end_processes, marked_processes
from bloodcell.settings import Settings
from bloodcell.training.bundle_training import train
from tests.laboratory import make_champion
from tests.small_cells import SVM_RECIPE, draw, make_cells, random_weights

CODES = dict(zip(CELL_CLASSES, ("BA", "EO", "ERB", "MY", "LY", "MO", "SNE", "PLT"), strict=True))
Answer = TypeVar("Answer")
READY_S = 300.0
UP: dict[str, Any] = {
    # nothing starts by itself except what the watcher announces
    **dict.fromkeys(("nightly_cron", "labels_cron", "retrain_cron", "check_cron", "clean_cron", "verify_cron"), ""),
    "watch_interval_s": 0.5,
    "settle_s": 5.0,
    "approvers": "pathologist",
    "keep_airflow_days": 3650,
    "shipped_models": False,  # the model under test is trained on small coloured cells
    # figures from a hold-out of a few dozen cells are noise; tests/retraining shows that gates refuse
    "sample_cells": 100_000,
    "gate_min_out_of_scope_cells": 0,
    "gate_min_class_patients": 1,
    "gate_min_holdout_cells": 1,
    "gate_min_holdout_patients": 2,
    "gate_accuracy_margin": 0.5,
    "gate_class_margin": 0.9,
    "gate_class_unclassified_margin": 0.9,
    "gate_max_calibration_error": 1.0,
    "gate_unclassified_margin": 0.9,
}
"""Settings of the running system, in addition to its data folder and its port."""


@dataclass
class Up:
    """A running `bloodcell up`."""

    settings: Settings
    process: subprocess.Popen[str]
    printed: Path

    def processes(self) -> list[psutil.Process]:
        """Returns every process that it started, including zombies but not Postgres."""
        marked = marked_processes({STACK_MARK: str(self.settings.data_dir.resolve())})
        return [process for process in marked if process.pid != self.process.pid]

    def ask(self, question: Callable[[psutil.Process], Answer]) -> list[tuple[psutil.Process, Answer]]:
        """Returns each process with its answer, without those that end before they answer."""
        answers = []
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                answers.append((process, question(process)))
        return answers

    def program(self, *last_arguments: str) -> psutil.Process:
        """Returns the process whose command line ends with these."""
        lines = self.ask(psutil.Process.cmdline)
        return next(process for process, line in lines if line[-len(last_arguments) :] == [*last_arguments])

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stops it and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


def write_night(drops: Path, night: str, *, slides: int = 2, cells_per_class: int = 2) -> Path:
    """Writes a complete night of small coloured cells, like those that the test model was trained on."""
    folder = drops / night
    for slide in range(slides):
        barcode = f"{night.replace('-', '')}-{slide}"
        (folder / barcode).mkdir(parents=True)
        for number, cell_class in enumerate(CELL_CLASSES * cells_per_class):
            rng = np.random.default_rng((int(night.replace("-", "")), slide, number))
            draw(cell_class, rng).save(folder / barcode / f"{CODES[cell_class]}_{number}.png")
    (folder / ".complete").touch()
    return folder


def free_port() -> int:
    """Returns an unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_small_model(folder: Path) -> Bundle:
    """Returns a model that was trained on the small coloured cells within seconds."""
    cells = make_cells(folder / "cells", 12)
    return train("vgg16_svm", cells, Settings(data_dir=folder / "data"), recipe=SVM_RECIPE, base=random_weights())


@contextmanager
def running_up(folder: Path, bundle: Bundle, **more: Any) -> Iterator[Up]:
    """Yields a running system with a champion, and stops it at the end.

    Args:
        folder: An empty folder.
        bundle: The champion.
        more: Settings in addition to `UP`, or instead.
    """
    values = UP | more
    values |= {"desk_url": f"http://127.0.0.1:{free_port()}"}
    settings = Settings(data_dir=folder / "data", airflow_url=f"http://127.0.0.1:{free_port()}", **values)
    port = settings.airflow_url.rpartition(":")[2]
    environment = {
        **os.environ,
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        **{f"BLOODCELL_{name.upper()}": str(value) for name, value in values.items()},
        "AIRFLOW__CORE__DAGS_FOLDER": "/nowhere",
    }
    printed = folder / "printed"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bloodcell", "up", "--port", port],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Up(settings, process, printed)
    try:
        deadline = time.monotonic() + READY_S
        while "bloodcell is up." not in printed.read_text():
            assert process.poll() is None, printed.read_text()
            assert time.monotonic() < deadline, printed.read_text()
            time.sleep(0.2)
        # opening the embedded server here would make this process one of its users and so keep the server running
        running.settings = settings.model_copy(update={"database_url": _url(settings.data_dir / "postgres")})
        make_champion(running.settings, bundle, reason="the only one")
        yield running
    finally:
        running.stop()
        end_processes(running.processes(), patience_s=0)


@pytest.fixture(scope="session")
def up_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model trained on the small coloured cells."""
    return train_small_model(tmp_path_factory.mktemp("up_bundle"))


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory, up_bundle: Bundle) -> Iterator[Up]:
    """A running system with a champion; it is stopped when the session ends."""
    with running_up(tmp_path_factory.mktemp("up"), up_bundle) as running:
        yield running


def _url(pgdata: Path) -> str:
    socket_folder = (pgdata / "postmaster.pid").read_text().splitlines()[4]
    return f"postgresql+psycopg2://postgres@/bloodcell?host={socket_folder}"
