"""Child processes that are kept running, and stopped without leaving any behind.

Each child leads a session of its own, so a Ctrl-C in the terminal reaches only this process, which then stops the
children. A child and everything that it starts carry the child's marks in their environment. The marks identify a
process that has lost its parent (a task of a killed scheduler), which is ended before the child is started again.
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
_STEADY_S: Final = 120.0  # a child that ran this long is started again after the first pause
_LOG_BYTES: Final = 10_000_000

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One program to keep running: a readable name, its command, its log file."""

    name: str
    command: Sequence[str]
    log: Path


class Child:
    """A program that is started, and started again with growing pauses whenever it ends.

    Args:
        program: What to run.
        environment: Its environment.
        mark: Name of the variable of `environment` that distinguishes this installation's processes from all others.
        announce: Called with a line for a person when the program has ended.
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
        """Process id; None while the program is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Starts the program and appends its output to its log."""
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
        """Ends the program and everything it started: asks first, and kills after `patience_s`."""
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
    """Returns this user's processes, except this one, whose environment has all these variables."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and marks.items() <= process.environ().items():
                found.append(process)
    return found


def end_processes(processes: Sequence[psutil.Process], *, patience_s: float) -> None:
    """Ends the processes: asks first, and kills those still running after `patience_s` seconds."""
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
    """Returns a log opened for appending; a large log is first renamed to *.old.log, replacing the previous one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
    return path.open("ab")


class NewLines:
    """The lines that a program appends to its log from now on.

    Args:
        log: The log; it may not exist yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._place = log.stat().st_size if log.exists() else 0

    def read(self) -> list[str]:
        """Returns the lines that were completed since the last call."""
        try:
            if self._log.stat().st_size < self._place:  # a large log was renamed, and a new one begun
                self._place = 0
            with self._log.open("rb") as log:
                log.seek(self._place)
                body = log.read(_LOG_BYTES)
        except OSError:  # it is not there yet, or cannot be read now: its lines come later
            return []
        complete = body[: body.rfind(b"\n") + 1]
        self._place += len(complete)
        return complete.decode("utf-8", "backslashreplace").splitlines()


def _ending(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
