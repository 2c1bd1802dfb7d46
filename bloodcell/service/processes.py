"""Child processes that are kept running, and stopped so that none is left over.

Each child leads its own session, so a Ctrl-C in the terminal reaches only this process, which then stops the
children in order. A child and whatever it starts carry its marks in their environment: what lost its parent (a killed
scheduler's tasks) is found by them, and ended before the child is started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from bloodcell.environment import PROGRAM_MARK

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_STEADY_S: Final = 120.0  # a child that ran this long starts again without a growing pause
_LOG_BYTES: Final = 10_000_000

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One child to keep running: its name for people, its command, its log file."""

    name: str
    command: Sequence[str]
    log: Path


class Child:
    """A program that is started, and started again with growing pauses whenever it ends.

    Args:
        program: What to run.
        environment: Its environment.
        mark: Name of the variable of `environment` that tells this installation's processes from all others.
        announce: Told when it ended.
    """

    def __init__(self, program: Program, environment: Mapping[str, str], mark: str, announce: Announce) -> None:
        self.program = program
        self._environment = {**environment, PROGRAM_MARK: program.name}
        self._marks = {mark: environment[mark], PROGRAM_MARK: program.name}
        self._announce = announce
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_again_at: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """Process id, None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts the program, its output appended to its log."""
        with open_log(self.program.log) as log:
            self._process = subprocess.Popen(
                self.program.command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        self._start_again_at = None

    def look(self) -> None:
        """Starts the program again if it ended and its pause is over."""
        now = time.monotonic()
        if self._process is None or self._process.poll() is None:
            return
        if self._start_again_at is None:
            if now - self._started_at > _STEADY_S:
                self._pause_s = _FIRST_PAUSE_S
            self._start_again_at = now + self._pause_s
            self._announce(
                f"{self.program.name} ended ({_ending(self._process.returncode)}), starting it again in "
                f"{self._pause_s:g} s. Its log: {self.program.log}"
            )
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        elif now >= self._start_again_at:
            end_processes(marked_processes(self._marks), patience_s=0)
            self.start()

    def stop(self, patience_s: float) -> None:
        """Ends the program and all it started: asked first, killed after `patience_s`."""
        if self._process is None:
            return
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        end_processes(marked_processes(self._marks), patience_s=0)
        self._process.wait()


def marked_processes(marks: Mapping[str, str]) -> list[psutil.Process]:
    """Returns the processes of this user, but this one, whose environment has all these variables."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and marks.items() <= process.environ().items():
                found.append(process)
    return found


def end_processes(processes: Sequence[psutil.Process], *, patience_s: float) -> None:
    """Ends the processes: asked first, those still there after `patience_s` killed."""
    if patience_s > 0:
        for process in processes:
            with suppress(psutil.Error):
                process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def open_log(path: Path) -> IO[bytes]:
    """Returns a log opened to append; one that grew large is set aside first, replacing the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
    return path.open("ab")


def _ending(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
