"""Each state of a complete night is announced once, whatever happens to Airflow, the folder or the watcher.

The drops are real folders, watched by real observers. Airflow is a small HTTP server here, because it has to become
unavailable and come back on demand; tests/service/test_up.py uses the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bloodcell.inbox.night_folders import completed_state
from bloodcell.service.telemetry import ALIVE
from bloodcell.service.watch import Watcher
from bloodcell.settings import Settings
from tests.serving import serving

SLIDE = "S1"


class StandIn(ThreadingHTTPServer):
    """Accepts announcements as Airflow's API does: a run id that is sent again is refused with 409."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.runs: list[tuple[str, str]] = []
        self.is_away = False
        self.n_refused = 0
        self.n_turned_away = 0

    @property
    def nights(self) -> list[str]:
        return [night for _, night in self.runs]


class _Answer(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.is_away:
            self.server.n_turned_away += 1
            return self._send(503, {"detail": "unavailable"})
        if self.path == "/auth/token":
            return self._send(201, {"access_token": "t"})
        run_id = body["dag_run_id"]
        if run_id in [known for known, _ in self.server.runs]:
            self.server.n_refused += 1
            return self._send(409, {"detail": "known"})
        self.server.runs.append((run_id, body["conf"]["night"]))
        return self._send(200, {"dag_run_id": run_id})

    def _send(self, status: int, body: dict[str, str]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def airflow() -> Iterator[StandIn]:
    """An Airflow that can be made unavailable."""
    server = StandIn()
    with serving(server):
        yield server


@pytest.fixture
def lines() -> list[str]:
    """The lines that the watcher announced."""
    return []


@pytest.fixture(params=["native", "polling"])
def watched(request: pytest.FixtureRequest, settings: Settings, airflow: StandIn, tmp_path: Path) -> Settings:
    """Settings of a watcher; each test runs once with native events and once with polling."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    return settings.model_copy(
        update={
            "airflow_url": f"http://127.0.0.1:{airflow.server_port}",
            "airflow_password_file": password,
            "watch_interval_s": 0.05,
            "watch_polling": request.param == "polling",
            "settle_s": 600,
        }
    )


@pytest.fixture
def watching(watched: Settings, lines: list[str]) -> Iterator[Callable[[], Callable[[], None]]]:
    """A function that starts a watcher, and returns a function that ends it."""
    ends: list[Callable[[], None]] = []

    def start() -> Callable[[], None]:
        stop, watcher = threading.Event(), Watcher(watched, announce=lines.append)
        thread = threading.Thread(target=watcher.watch, args=(stop,))
        thread.start()

        def end() -> None:
            stop.set()
            watcher.wake()
            thread.join(20)
            assert not thread.is_alive()

        ends.append(end)
        return end

    yield start
    for end in ends:
        end()


def looked_at(settings: Settings) -> float:
    """Returns when the watcher was last able to look, as its health check sees it."""
    return (settings.data_dir / ALIVE).stat().st_mtime


def until(is_true: Callable[[], object], timeout_s: float = 20) -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def write_night(drops: Path, night: str, *, complete: bool = True) -> Path:
    folder = drops / night
    (folder / SLIDE).mkdir(parents=True)
    (folder / SLIDE / "LY_1.jpg").write_bytes(b"a cell")
    if complete:
        (folder / ".complete").touch()
    return folder


def test_a_night_is_announced_when_its_marker_appears_and_not_before(
    watched: Settings, watching: Callable[[], object], airflow: StandIn, lines: list[str]
) -> None:
    watching()
    unfinished = write_night(watched.drops, "2026-03-13", complete=False)
    write_night(watched.drops, "2026-03-14")
    until(lambda: airflow.nights == ["2026-03-14"])

    (unfinished / ".complete").touch()

    until(lambda: airflow.nights == ["2026-03-14", "2026-03-13"])
    until(lambda: any("Night 2026-03-13 is complete" in line for line in lines))


def test_nights_older_than_the_watcher_are_announced(
    watched: Settings, watching: Callable[[], object], airflow: StandIn
) -> None:
    write_night(watched.drops, "2026-03-13")
    write_night(watched.drops, "2026-03-14")
    (watched.drops / "not a night").mkdir()

    watching()

    until(lambda: sorted(airflow.nights) == ["2026-03-13", "2026-03-14"])


def test_what_is_no_night_is_named_once_and_does_not_disturb(
    watched: Settings, watching: Callable[[], object], airflow: StandIn, lines: list[str]
) -> None:
    for name in ("20261107", "26-11-2026", "2026-11-08 ", "2026-02-30", "2099-01-01", ".hidden"):
        (watched.drops / name).mkdir(parents=True)
    (watched.drops / "LY_1.jpg").write_bytes(b"a cell")
    (watched.drops / "2026-03-15").symlink_to(watched.drops)
    watching()
    write_night(watched.drops, "2026-03-14")
    until(lambda: airflow.nights == ["2026-03-14"])

    def named(name: str) -> list[str]:
        return [line for line in lines if line.startswith(f"In the drops folder: {name}: ")]

    for name in ("20261107", "26-11-2026", "2026-11-08 ", "2026-02-30"):
        until(lambda name=name: len(named(name)) == 1)  # type: ignore[misc]
        assert "expected a date named as BLOODCELL_NIGHT_PATTERN says" in named(name)[0]
    assert "not a folder" in named("LY_1.jpg")[0]
    assert "not a folder" in named("2026-03-15")[0]
    assert "in the future" in named("2099-01-01")[0]
    assert not named(".hidden")


def test_a_missing_drops_folder_is_a_problem_and_is_not_made(
    watched: Settings, watching: Callable[[], object], lines: list[str]
) -> None:
    watching()
    until(lambda: any("Problem with the drops folder" in line and "Mount the share" in line for line in lines))
    assert not watched.drops.exists()


def test_another_layout_of_names_is_a_setting(watched: Settings, airflow: StandIn, lines: list[str]) -> None:
    pattern = r"(?P<day>[0-9]{2})\.(?P<month>[0-9]{2})\.(?P<year>[0-9]{4})"
    german = watched.model_copy(update={"night_pattern": pattern})
    write_night(watched.drops, "14.03.2026")
    stop, watcher = threading.Event(), Watcher(german, announce=lines.append)
    thread = threading.Thread(target=watcher.watch, args=(stop,))
    thread.start()
    try:
        until(lambda: airflow.nights == ["2026-03-14"])
    finally:
        stop.set()
        watcher.wake()
        thread.join()


def test_the_same_state_is_announced_once_even_by_two_watchers(
    watched: Settings, watching: Callable[[], Callable[[], None]], airflow: StandIn
) -> None:
    write_night(watched.drops, "2026-03-14")
    end = watching()
    until(lambda: airflow.nights == ["2026-03-14"])
    end()

    watching()

    until(lambda: airflow.n_refused == 1)
    assert airflow.nights == ["2026-03-14"]


def test_a_night_is_announced_again_after_a_file_is_added_but_not_after_it_is_read(
    watched: Settings, watching: Callable[[], object], airflow: StandIn
) -> None:
    night = write_night(watched.drops, "2026-03-14")
    watching()
    until(lambda: airflow.nights == ["2026-03-14"])
    (night / SLIDE / "LY_1.jpg").read_bytes()
    write_night(watched.drops, "2026-03-15")
    until(lambda: len(airflow.runs) == 2)
    assert airflow.nights == ["2026-03-14", "2026-03-15"]

    (night / SLIDE / "LY_2.jpg").write_bytes(b"another cell")
    (night / ".complete").touch()

    until(lambda: airflow.nights == ["2026-03-14", "2026-03-15", "2026-03-14"])


def test_the_watcher_waits_for_an_unavailable_airflow_and_reports_it_once(
    watched: Settings, watching: Callable[[], object], airflow: StandIn, lines: list[str]
) -> None:
    airflow.is_away = True
    watching()
    write_night(watched.drops, "2026-03-14")
    until(lambda: airflow.n_turned_away >= 3)

    airflow.is_away = False

    until(lambda: airflow.nights == ["2026-03-14"])
    until(lambda: "Night 2026-03-14: working again" in lines)
    assert len([line for line in lines if "Problem with night 2026-03-14" in line]) == 1


def test_a_night_that_is_removed_does_not_stop_the_watcher(
    watched: Settings, watching: Callable[[], object], airflow: StandIn
) -> None:
    watching()
    shutil.rmtree(write_night(watched.drops, "2026-03-13", complete=False))

    write_night(watched.drops, "2026-03-14")

    until(lambda: airflow.nights == ["2026-03-14"])


def test_a_replaced_drops_folder_is_watched(
    watched: Settings, watching: Callable[[], object], airflow: StandIn, lines: list[str]
) -> None:
    watched.drops.mkdir(parents=True)
    watching()
    until(lambda: any(line.startswith("Watching") for line in lines))
    write_night(watched.drops, "2026-03-13")
    until(lambda: airflow.nights == ["2026-03-13"])

    away = watched.drops.with_name("unmounted")
    watched.drops.rename(away)
    until(lambda: any("Problem with the drops folder" in line for line in lines))
    last = looked_at(watched)
    time.sleep(0.5)
    assert looked_at(watched) == last, "its health check has to fail"
    watched.drops.mkdir()
    write_night(watched.drops, "2026-03-14")

    until(lambda: airflow.nights == ["2026-03-13", "2026-03-14"])
    until(lambda: "The drops folder: working again" in lines)
    until(lambda: looked_at(watched) > last)


@pytest.mark.slow
def test_nights_are_announced_while_the_database_is_unavailable(
    watched: Settings, airflow: StandIn, lines: list[str]
) -> None:
    write_night(watched.drops, "2026-03-14")
    away = watched.model_copy(update={"database_url": "postgresql+psycopg2://nobody@127.0.0.1:9/none"})
    stop, watcher = threading.Event(), Watcher(away, announce=lines.append)
    thread = threading.Thread(target=watcher.watch, args=(stop,))
    thread.start()
    try:
        until(lambda: airflow.nights == ["2026-03-14"])
        time.sleep(2)  # the watcher looks several times more
    finally:
        stop.set()
        watcher.wake()
        thread.join()
    assert len([line for line in lines if "Problem with the search for nights" in line]) == 1
    assert not any("working again" in line for line in lines), "the database is still unavailable"


def test_circular_links_are_not_followed(
    watched: Settings,
    watching: Callable[[], Callable[[], None]],
    airflow: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed, real = set[str](), os.scandir

    def scandir(path: str | bytes | Path = ".") -> object:
        listed.add(os.fsdecode(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    folder = write_night(watched.drops, "2026-03-13", complete=False)
    links = [folder / SLIDE / name for name in ("a", "b")]
    for link in links:
        link.symlink_to(folder)
    (folder / ".complete").touch()  # last: an entry that is newer than the marker means that the night still changes
    watching()
    until(lambda: airflow.nights == ["2026-03-13"])
    write_night(watched.drops, "2026-03-14")
    until(lambda: airflow.nights == ["2026-03-13", "2026-03-14"])
    assert str(folder / SLIDE) in listed
    assert not {path for path in listed if path.startswith(tuple(map(str, links)))}


def test_an_unreadable_night_is_announced_and_does_not_stop_the_watcher(
    watched: Settings,
    watching: Callable[[], Callable[[], None]],
    airflow: StandIn,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused, real = write_night(watched.drops, "2026-03-13"), os.scandir

    def scandir(path: str | bytes | Path = ".") -> object:  # root, as whom this may run, can read every folder
        if os.fsencode(path) == os.fsencode(refused):
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    watching()
    until(lambda: any("2026-03-13" in line and "Permission denied" in line for line in lines))
    write_night(watched.drops, "2026-03-14")
    until(lambda: airflow.nights == ["2026-03-14"])


def test_a_night_without_a_marker_is_complete_if_unchanged_for_the_settle_time(tmp_path: Path) -> None:
    night = write_night(tmp_path, "2026-03-14", complete=False)

    assert completed_state(night, settle_s=600) is None
    assert completed_state(night, settle_s=0) is not None


def test_any_file_except_the_marker_changes_the_state(tmp_path: Path) -> None:
    night = write_night(tmp_path, "2026-03-14", complete=False)
    settled = completed_state(night, settle_s=0)
    (night / ".complete").touch()
    assert completed_state(night, settle_s=0) == settled

    cell = night / SLIDE / "LY_1.jpg"
    cell.write_bytes(b"a cell written again")
    os.utime(cell, (2e9, 2e9))

    assert completed_state(night, settle_s=0) != settled


def test_a_marker_older_than_the_newest_file_does_not_count(tmp_path: Path) -> None:
    night = write_night(tmp_path, "2026-03-14")
    assert completed_state(night, settle_s=600) is not None
    time.sleep(0.02)  # the clock of a file system ticks a hundred times a second
    os.utime(night / SLIDE / "LY_1.jpg", (4e9, 4e9))

    assert completed_state(night, settle_s=600) is None


def test_an_empty_folder_is_not_a_complete_night(tmp_path: Path) -> None:
    assert completed_state(tmp_path, settle_s=0) is None
