"""Children are started again when they die, and stopped without leaving a process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bloodcell.service.processes import Child, NewLines, Program, end_processes, marked_processes

MARK = "BLOODCELL_STACK"
STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", ignore])
subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
time.sleep(600)
"""


def until(is_true: Callable[[], object], timeout_s: float = 20) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def ours(environment: dict[str, str]) -> list[psutil.Process]:
    """Returns the processes with this test's mark."""
    return marked_processes({MARK: environment[MARK]})


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """An environment with a mark of this test's own; processes that a failing test leaves behind are ended."""
    marked = {**os.environ, MARK: uuid.uuid4().hex}
    yield marked
    end_processes(ours(marked), patience_s=0)


def started(tmp_path: Path, environment: dict[str, str], code: str, lines: list[str] | None = None) -> Child:
    program = Program("worker", (sys.executable, "-c", code), tmp_path / "logs" / "worker.log")
    child = Child(program, environment, MARK, (lines if lines is not None else []).append)
    child.start()
    return child


@pytest.mark.slow
def test_no_stubborn_child_or_grandchild_is_left_after_stop(tmp_path: Path, environment: dict[str, str]) -> None:
    child = started(tmp_path, environment, STUBBORN_FAMILY)
    until(lambda: (tmp_path / "logs" / "worker.log").read_text().count("up") == 2)
    assert len(ours(environment)) == 3

    child.stop(patience_s=0.2)

    assert not ours(environment)


@pytest.mark.slow
def test_a_grandchild_whose_parent_died_is_found_by_its_mark(tmp_path: Path, environment: dict[str, str]) -> None:
    child = started(tmp_path, environment, STUBBORN_FAMILY)
    until(lambda: (tmp_path / "logs" / "worker.log").read_text().count("up") == 2)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.pid is None)

    orphans = ours(environment)
    assert len(orphans) == 2
    end_processes(orphans, patience_s=0.1)

    assert not ours(environment)


def test_a_dead_child_is_started_again_after_a_growing_pause(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloodcell.service.processes._FIRST_PAUSE_S", 0.1)
    lines: list[str] = []
    child = started(tmp_path, environment, "raise SystemExit(3)", lines)

    def looked_until(n_lines: int) -> bool:
        child.look()
        return len(lines) >= n_lines

    until(lambda: looked_until(3))
    child.stop(patience_s=1)

    assert "worker ended (exit status 3), starting it again in 0.1 s" in lines[0]
    assert "in 0.2 s" in lines[1]
    assert "in 0.4 s" in lines[2]
    assert str(tmp_path / "logs" / "worker.log") in lines[0]


@pytest.mark.slow
def test_processes_left_by_a_dead_child_are_ended_before_it_is_started_again(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloodcell.service.processes._FIRST_PAUSE_S", 0.0)
    child = started(tmp_path, environment, STUBBORN_FAMILY)
    until(lambda: (tmp_path / "logs" / "worker.log").read_text().count("up") == 2)
    assert child.pid
    first_family = ours(environment)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.pid is None)

    def looked() -> bool:
        child.look()
        return child.pid is not None

    until(looked)

    assert not any(process.is_running() for process in first_family)
    child.stop(patience_s=0.2)
    assert not ours(environment)


def test_a_child_killed_by_a_signal_is_announced_with_its_name(tmp_path: Path, environment: dict[str, str]) -> None:
    lines: list[str] = []
    child = started(tmp_path, environment, "import time; time.sleep(600)", lines)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.pid is None)

    child.look()
    child.stop(patience_s=1)

    assert "signal SIGKILL" in lines[0]


def test_a_running_child_is_left_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    lines: list[str] = []
    child = started(tmp_path, environment, "import time; time.sleep(600)", lines)
    before = child.pid

    child.look()

    assert child.pid == before
    assert lines == []
    child.stop(patience_s=5)


def test_a_large_log_is_set_aside(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloodcell.service.processes._LOG_BYTES", 10)
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir()
    log.write_text("the night before")

    child = started(tmp_path, environment, "print('new')")
    until(lambda: child.pid is None)
    child.stop(patience_s=1)

    assert log.read_text() == "new\n"
    assert log.with_suffix(".old.log").read_text() == "the night before"


def test_processes_of_another_installation_are_not_found(tmp_path: Path, environment: dict[str, str]) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**environment, MARK: "other"}
    )
    try:
        assert psutil.Process(other.pid) not in ours(environment)
    finally:
        other.communicate(b"\n")


def test_only_whole_lines_that_are_new_are_read_and_a_log_may_be_renamed(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("of an earlier start\n")
    lines = NewLines(log)
    assert lines.read() == []
    with log.open("a") as file:
        file.write("one\ntwo\nthr")
    assert lines.read() == ["one", "two"]
    with log.open("a") as file:
        file.write("ee\n")
    assert lines.read() == ["three"]
    log.rename(tmp_path / "a.old.log")
    assert lines.read() == []
    log.write_text("four\n")
    assert lines.read() == ["four"]
