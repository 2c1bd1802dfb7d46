"""Runs `bloodcell watch` on a drops folder with very many nights: how soon a new one is seen, and what waiting costs.

    python -m benchmarks.acceptance.watched_nights WORK [--nights 1000] [--slides 100] [--idle-s 120]

Makes the nights, all of them ingested according to the ledger, starts the watcher as a process of its own against a
small server that takes announcements as Airflow does, and measures. Then it writes a night of as many slides while
something reads all files of the newest nights, as ingest does. Ends with status 1 if a night is seen later than 5 s
after its marker, or waiting takes 1 % of a core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import psutil
import sqlalchemy as sa

from bloodcell.inbox.settling import folders_changed_ns
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from bloodcell.storage.runs import recorded_run
from tests.service.test_watch import StandIn, until
from tests.serving import serving

LAST: Final = date(2026, 6, 30)
SEEN_S: Final = 5.0
IDLE_SHARE: Final = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--nights", type=int, default=1_000)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--idle-s", type=float, default=120)
    arguments = parser.parse_args()
    settings = Settings(data_dir=arguments.work / "data")
    server = embedded_database(settings)
    try:
        upgrade(server.url())
        for number in range(arguments.nights):
            write_night(settings.drops / (LAST - timedelta(days=number)).isoformat(), arguments.slides)
        time.sleep(1)
        note_ingested(settings, server.url())
        airflow = StandIn()
        with serving(airflow):
            return measured(settings, airflow, arguments.slides, arguments.idle_s)
    finally:
        server.stop()


def write_night(night: Path, n_slides: int) -> None:
    for slide in range(n_slides):
        folder = night / f"S{slide}"
        folder.mkdir(parents=True)
        (folder / "LY_1.jpg").write_bytes(b"a cell")
    (night / ".complete").touch()


def note_ingested(settings: Settings, url: str) -> None:
    """Writes into the ledger that every night was completely ingested."""
    from bloodcell.storage.database import Database

    with recorded_run(Database(connect(url), 0), "ingest") as run, connect(url).begin() as connection:
        rows = [
            {
                "night": date.fromisoformat(night.name),
                "folder": night.name,
                "run_id": run.run_id,
                "folders_changed_ns": folders_changed_ns(night),
                "completed_at": sa.func.now(),
            }
            for night in settings.drops.iterdir()
        ]
        for row in rows:
            connection.execute(sa.insert(tables.drop).values(row))


def measured(settings: Settings, airflow: StandIn, n_slides: int, idle_s: float) -> int:
    password = settings.data_dir / "password"
    password.write_text("secret\n")
    environment = os.environ | settings.as_variables()
    environment |= {
        "BLOODCELL_AIRFLOW_URL": f"http://127.0.0.1:{airflow.server_port}",
        "BLOODCELL_AIRFLOW_PASSWORD_FILE": str(password),
    }
    watcher = subprocess.Popen([sys.executable, "-m", "bloodcell", "watch"], env=environment)
    try:
        process = psutil.Process(watcher.pid)
        until(lambda: (settings.data_dir / "watcher.alive").exists(), 120)
        time.sleep(10)
        idle = _share(process, idle_s)
        seen = [_seen_s(settings, airflow, LAST + timedelta(days=day), n_slides) for day in (1, 2, 3)]
        stop = threading.Event()
        reader = threading.Thread(target=_read_again_and_again, args=(settings.drops, stop))
        reader.start()
        beside_reading = _share(process, 30)
        seen.append(_seen_s(settings, airflow, LAST + timedelta(days=4), n_slides))
        stop.set()
        reader.join()
        print(
            f"{len(list(settings.drops.iterdir())):,} nights of {n_slides} slides: a new night is seen after "
            f"{', '.join(f'{s:.1f}' for s in seen)} s (the last beside a reader); waiting takes {idle:.2%} of a core, "
            f"beside a reader {beside_reading:.2%}; {process.memory_info().rss / 2**20:.0f} MiB, "
            f"{len(airflow.nights)} announcements"
        )
        return 0 if max(seen) < SEEN_S and idle < IDLE_SHARE and len(airflow.nights) == len(seen) else 1
    finally:
        watcher.terminate()
        watcher.wait(20)


def _share(process: psutil.Process, seconds: float) -> float:
    """Returns the share of a core that a process uses during some seconds."""
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / seconds


def _seen_s(settings: Settings, airflow: StandIn, night: date, n_slides: int) -> float:
    """Writes a night and returns the seconds from its marker to its announcement."""
    write_night(settings.drops / night.isoformat(), n_slides)
    started = time.monotonic()
    until(lambda: night.isoformat() in airflow.nights, 60)
    return time.monotonic() - started


def _read_again_and_again(drops: Path, stop: threading.Event) -> None:
    newest = sorted(drops.iterdir())[-5:]
    while not stop.is_set():
        for night in newest:
            for file in night.glob("*/*.jpg"):
                file.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
