"""A night over several machines, undisturbed and with each fault: its rows beside what one machine makes of it.

    python -m tests.acceptance.fleet WORK [--shared ../shared] [--slides 20] [--cells 100] [--only FAULT ...]

The machines are namespaces of this one (tests/fleet): a server, a worker of the queue `default`, two of the queue
`gpu`. Needs root. Ends with a table; exit status 1 where a night's rows are others than one machine's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bloodcell.classify import classify_shard, plan_shards
from bloodcell.database.embedded import embedded_database
from bloodcell.database.engine import open_database
from bloodcell.database.migrations import upgrade
from bloodcell.differential import write_due_differentials
from bloodcell.ingest import ingest_night
from bloodcell.models.shipped import install_shipped
from bloodcell.operations.airflow_api import NIGHTLY_RUN, AirflowApi, AirflowUnavailableError
from bloodcell.operations.airflow_records import RunState
from bloodcell.settings import Settings
from tests.faults.kill_night import Laboratory, Rows, differences
from tests.fleet.fleet import USER, Fleet, waited

NIGHT, SMALL_NIGHT = date(2026, 1, 5), date(2026, 1, 6)
SMALL = (6, 40)
"""Slides and cells a slide of the night that faults are tried on."""
SHARD_CELLS = 60
PLACED = {
    "server": (
        "postgres", "redis", "init", "api-server", "scheduler", "dag-processor", "triggerer", "watcher", "scheduler#2"
    ),
    "box": ("worker",),
    "one": ("cpu-worker",),
    "two": ("cpu-worker#2",),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The running fleet, and what one works at it with."""

    fleet: Fleet
    laboratory: Laboratory
    api: AirflowApi

    def wait_for_calls(self, n: int) -> None:
        """Waits until so many calls of the night are written."""
        waited(lambda: self.laboratory.n_calls() >= n, 300, f"{n} calls")

    def busy(self) -> str:
        """Waits until a worker of the queue gpu is at work in the middle of the night, and returns which."""
        self.wait_for_calls(1)
        waited(lambda: bool(self._at_work()), 120, "a classify task at work")
        return self._at_work()[0]

    def _at_work(self) -> list[str]:
        workers = {"one": "cpu-worker", "two": "cpu-worker#2"}
        runs = self.laboratory.all("SELECT host FROM bloodcell.run WHERE state = 'running' AND night = :night")
        return [workers[str(host)] for (host,) in runs if host in workers]


def ended_and_started(service: str | None, number: signal.Signals) -> Callable[[Place], None]:
    """Returns the fault of a service that a signal ends in the middle of the night, and that is back after 5 s.

    None: of the worker that is at work then.
    """

    def make(place: Place) -> None:
        worker = place.busy()
        name = service or worker
        if number == signal.SIGKILL:
            place.fleet.kill(name)
        else:
            place.fleet.signal(name, number)
        time.sleep(5)
        place.fleet.start(name)

    return make


def power_of_a_worker_fails(place: Place) -> None:
    worker = place.busy()
    host = place.fleet.host_of(worker).name
    place.fleet.reboot(host)
    time.sleep(5)
    place.fleet.start(worker)


def postgres_is_killed(place: Place) -> None:
    place.busy()
    place.fleet.kill("postgres")
    time.sleep(10)
    place.fleet.start_postgres()


def wire_of_a_worker_is_cut(place: Place) -> None:
    host = place.fleet.host_of(place.busy())
    host.cut()
    time.sleep(45)
    host.mend()


def store_is_unmounted(place: Place) -> None:
    place.busy()
    for name in ("one", "two"):
        place.fleet.network.hosts[name].unshare("/var/lib/bloodcell/store")
    time.sleep(20)
    for name in ("one", "two"):
        place.fleet.network.hosts[name].share(place.fleet.volume("store"), "/var/lib/bloodcell/store")


def two_schedulers(place: Place) -> None:
    place.fleet.start("scheduler#2")
    place.busy()
    time.sleep(20)
    place.fleet.kill("scheduler")
    time.sleep(20)
    place.fleet.start("scheduler")
    time.sleep(10)
    place.fleet.kill("scheduler#2")


def s3_refuses(place: Place) -> None:
    place.busy()
    place.fleet.kill("s3")
    time.sleep(20)
    start_s3(place.fleet)


def s3_hangs(place: Place) -> None:
    place.busy()
    place.fleet.signal("s3", signal.SIGSTOP)
    time.sleep(45)
    place.fleet.signal("s3", signal.SIGCONT)


FAULTS: dict[str, Callable[[Place], None]] = {
    "nothing": lambda place: None,
    "a worker is killed in a shard": ended_and_started(None, signal.SIGKILL),
    "the power of a worker's machine fails": power_of_a_worker_fails,
    "a worker's wire is cut for 45 s": wire_of_a_worker_is_cut,
    "Redis is restarted": ended_and_started("redis", signal.SIGTERM),
    "Redis is killed": ended_and_started("redis", signal.SIGKILL),
    "Postgres is killed, back after 10 s": postgres_is_killed,
    "the store's share is unmounted for 20 s": store_is_unmounted,
    "the scheduler is killed": ended_and_started("scheduler", signal.SIGKILL),
    "the API server is killed": ended_and_started("api-server", signal.SIGKILL),
    "two schedulers, each killed in turn": two_schedulers,
}
S3_FAULTS: dict[str, Callable[[Place], None]] = {
    "nothing": lambda place: None,
    "S3 refuses connections for 20 s": s3_refuses,
    "S3 does not answer for 45 s": s3_hangs,
}
S3 = {
    "BLOODCELL_STORE_URL": "s3://bloodcell/store",
    "AWS_ENDPOINT_URL": "http://server:9000",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def main() -> int:
    """Runs the night and each fault; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.fleet", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--s3", action="store_true", help=f"the store is an S3 server; faults: {'; '.join(S3_FAULTS)}")
    parser.add_argument("--only", nargs="*", metavar="FAULT", help=f"some of: {'; '.join(FAULTS)}")
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work / "fleet", ignore_errors=True)
    drops = work / "drops"
    make_night(chosen.shared, drops, NIGHT, chosen.slides, chosen.cells)
    make_night(chosen.shared, drops, SMALL_NIGHT, *SMALL)
    expected = on_one_machine(work / "one", drops)
    table = Table("fault", "the run", "tries", "seconds", "rows")
    n_bad = 0
    with fleet_of(work / "fleet", drops, S3 if chosen.s3 else {}) as fleet:
        if chosen.s3:
            start_s3(fleet, fresh=True)
        fleet.start_all()
        for what, make in (S3_FAULTS if chosen.s3 else FAULTS).items():
            if chosen.only is not None and what not in chosen.only:
                continue
            night = NIGHT if what == "nothing" else SMALL_NIGHT
            laboratory = Laboratory(fleet.settings(), night)
            with AirflowApi(laboratory.settings) as api:
                state, seconds = disturbed(Place(fleet, laboratory, api), make)
            wrong = differences(expected[night], laboratory.rows())
            n_bad += bool(wrong)
            tries = max((task.try_number for task in state.tasks), default=0)
            verdict = (
                f"equal, {len(expected[night]['cell_call'])} calls" if not wrong else f"{len(wrong)} others: {wrong[0]}"
            )
            table.add_row(what, state.state, str(tries), f"{seconds:.0f}", verdict)
            print(what, state.state, tries, f"{seconds:.0f} s", verdict, flush=True)
    Console(width=160).print(table)
    return 1 if n_bad else 0


def make_night(shared: Path, drops: Path, night: date, slides: int, cells: int) -> None:
    """Makes a drop of real images."""
    if (drops / night.isoformat()).exists():
        return
    tool = [sys.executable, str(shared / "tools" / "make_drop.py"), str(drops), "--night", night.isoformat()]
    size = ["--slides", str(slides), "--cells", str(cells), "--seed", str(night.toordinal())]
    subprocess.run([*tool, *size, "--images", str(shared / "pbc")], check=True, capture_output=True)


def on_one_machine(data: Path, drops: Path) -> dict[date, Rows]:
    """Returns the rows of both nights as one machine makes them, by the library alone."""
    settings = Settings(data_dir=data, drops_dir=drops, settle_s=0)
    postgres = embedded_database(settings)
    try:
        upgrade(postgres.url())
        install_shipped(settings, open_database(settings))
        found = {}
        for night in (NIGHT, SMALL_NIGHT):
            ingest_night(drops / night.isoformat(), settings)
            for shard in plan_shards(settings, night=night):
                classify_shard(shard, settings)
            write_due_differentials(settings, night=night)
            found[night] = Laboratory(settings, night).rows()
        return found
    finally:
        postgres.stop()


def start_s3(fleet: Fleet, *, fresh: bool = False) -> None:
    """Starts the way to the S3 server, and where it is to be made the server itself, with an empty bucket."""
    if fresh:
        fleet.start_command("s3-server", "server", ["moto_server", "-H", "127.0.0.1", "-p", "9001"], S3)
    fleet.start_command("s3", "server", [sys.executable, "-m", "tests.fleet.forward", "9000", "9001"], {})
    if fresh:
        address = {**S3, "AWS_ENDPOINT_URL": f"http://{fleet.network.address('server')}:9000"}
        make = [sys.executable, "-c", "import s3fs; s3fs.S3FileSystem().mkdir('bloodcell')"]
        environment = {**os.environ, **address, "NO_PROXY": "*"}
        waited(lambda: subprocess.run(make, env=environment, capture_output=True).returncode == 0, 60, "a bucket")


def fleet_of(folder: Path, drops: Path, changes: Mapping[str, str]) -> Fleet:
    """Returns the fleet, whose services are to be started."""
    labels = folder / "labels"
    labels.mkdir(parents=True)
    os.chown(labels, USER, USER)
    more = {
        **dict.fromkeys((f"BLOODCELL_{what}_CRON" for what in ("NIGHTLY", "CHECK", "LABELS", "RETRAIN")), ""),
        "BLOODCELL_SETTLE_S": "0", "BLOODCELL_SHARD_CELLS": str(SHARD_CELLS), "BLOODCELL_GPUS": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30", **changes,
    }  # fmt: skip
    return Fleet(folder / "made", PLACED, {"BLOODCELL_DROPS": str(drops), "BLOODCELL_LABELS": str(labels)}, more=more)


def disturbed(place: Place, make: Callable[[Place], None]) -> tuple[RunState, float]:
    """Runs the night from its beginning with a fault in the middle, and again by hand where the run fails."""
    place.laboratory.forget_calls()
    conf = {"night": place.laboratory.night.isoformat()}
    started = time.monotonic()
    run_id = place.api.trigger(NIGHTLY_RUN, conf=conf)
    make(place)
    state = ended(place.api, run_id)
    if state.state != "success":
        print(f"  {state}", flush=True)
        again = ended(place.api, place.api.trigger(NIGHTLY_RUN, conf=conf))
        print(f"  the rerun: {again.state}", flush=True)
    return state, time.monotonic() - started


def ended(api: AirflowApi, run_id: str) -> RunState:
    """Waits for a run's end, whatever becomes of the API server meanwhile."""
    deadline = time.monotonic() + 1800
    while True:
        try:
            return api.wait(NIGHTLY_RUN, run_id, timeout_s=deadline - time.monotonic(), interval_s=1)
        except AirflowUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
