"""A night on several machines, undisturbed and with each fault: its rows compared with those of one machine.

    python -m benchmarks.acceptance.fleet WORK [--shared ../shared] [--slides 20] [--cells 100] [--s3] [--only WHAT ...]

The machines are namespaces of this one (tests/fleet): a server, a worker of the queue `default`, and two of the queue
`gpu`. After the faults, two workers with one core each are compared with one such worker, and a pathologist approves a
retraining. Needs root and, for the clocks, libfaketime (Debian: faketime). Writes the results into FLEET.md, or
FLEET_S3.md; exit status 1 if a night's rows differ from those of one machine, or if a person's answer does not count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from bloodcell.classify import classify_shard, plan_shards
from bloodcell.demo.retraining_tour import CELLS_PER_SLIDE, N_SLIDES, SETTINGS, write_label_file
from bloodcell.drawing.drops import make_drop
from bloodcell.ingest import ingest_night
from bloodcell.labels import import_labels
from bloodcell.registry.shipped import install_shipped
from bloodcell.results import write_due_results
from bloodcell.service.airflow_api import NIGHTLY_RUN, RETRAIN, AirflowApi
from bloodcell.service.airflow_records import RunState
from bloodcell.service.airflow_session import AirflowRefusedError, AirflowUnavailableError
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from bloodcell.storage.runs import code_version
from tests.fleet.faults import FAULTS, PLACED, S3, S3_CREDENTIALS, S3_FAULTS, WORKERS, Fault, Place, start_s3
from tests.fleet.fleet import USER, Fleet
from tests.live_night import LiveNight, Rows, differences

NIGHT, SMALL_NIGHT = date(2026, 1, 5), date(2026, 1, 6)
SMALL = (4, 40)
"""Slides, and cells per slide, of the night on which faults are tried."""
SHARD_CELLS = 60
SCALING, APPROVAL = "two workers compared with one", "a pathologist approves a retraining"
DRAWN_NIGHT = date(2026, 1, 7)
"""The night to retrain on, of drawn cells: the champion was trained on the real ones, so they can validate nothing."""


@dataclass(frozen=True)
class Outcome:
    """How a night ended.

    Attributes:
        run: The Dag run that was disturbed.
        again: The run that a person would start if the first one failed; None if it succeeded.
        seconds: From the trigger to the end, including the second run.
        idle_s: Time of the disturbed run in which no stage was at work, but Airflow or a starting process.
        classify_s: From the beginning of the first classify task to the end of the last one.
    """

    run: RunState
    again: RunState | None
    seconds: float
    idle_s: float
    classify_s: float

    @property
    def tries(self) -> int:
        """The largest number of tries that a task needed."""
        return max((task.try_number for task in self.run.tasks), default=0)

    def __str__(self) -> str:
        if self.again is None:
            return self.run.state
        failed = sorted({task.task_id for task in self.run.tasks if task.state == "failed"})
        return f"{self.run.state} ({', '.join(failed)}), again: {self.again.state}"


def main() -> int:
    """Runs the night and each fault; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.fleet", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--s3", action="store_true", help=f"the store is an S3 server; faults: {'; '.join(S3_FAULTS)}")
    parser.add_argument("--only", nargs="*", metavar="WHAT", help=f"of: {'; '.join((*FAULTS, SCALING, APPROVAL))}")
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work / "fleet", ignore_errors=True)
    drops = work / "drops"
    make_night(chosen.shared, drops, NIGHT, chosen.slides, chosen.cells)
    make_night(chosen.shared, drops, SMALL_NIGHT, *SMALL)
    expected = on_one_machine(work / "one", drops)
    faults = S3_FAULTS if chosen.s3 else FAULTS
    names = [*faults, *(() if chosen.s3 else (SCALING, APPROVAL))]
    rows, n_bad = [], 0
    with fleet_of(work / "fleet", drops, "s3" if chosen.s3 else "fleet", S3 if chosen.s3 else {}) as fleet:
        if chosen.s3:
            start_s3(fleet, fresh=True)
        fleet.start_all(but=[name for name in PLACED["server"] + PLACED["box"] if "#" in name])
        for what in names if chosen.only is None else chosen.only:
            if what == SCALING:
                row, is_good = scaled(fleet, expected[SMALL_NIGHT])
            elif what == APPROVAL:
                row, is_good = approved(fleet, drops, work)
            else:
                night = NIGHT if what == "nothing" else SMALL_NIGHT
                row, is_good = tried(fleet, night, faults[what], expected[night])
            rows.append((what, *row, f"{datetime.now(UTC):%Y-%m-%d} {code_version()}"))
            n_bad += not is_good
            print(*rows[-1], sep=" | ", flush=True)
    show(rows)
    keep(rows, Path(__file__).parent / ("FLEET_S3.md" if chosen.s3 else "FLEET.md"), names)
    return 1 if n_bad else 0


HEAD = ("what is done", "the run", "tries", "s", "idle, s", "rows", "on")


def show(rows: list[tuple[str, ...]]) -> None:
    """Prints the table."""
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*row)
    Console(width=180).print(table)


def keep(rows: list[tuple[str, ...]], path: Path, names: list[str]) -> None:
    """Writes rows into the table of a file, where they replace earlier rows of the same name."""
    known = {}
    if path.exists():
        lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
        known = {name: line for name, *line in lines[2:]}
    known |= {name: row for name, *row in rows}
    found = [f"| {' | '.join((name, *known[name]))} |" for name in names if name in known]
    option = " --s3" if path.stem.endswith("S3") else ""
    path.write_text(
        f"""# A night on a fleet of machines

Written by `python -m benchmarks.acceptance.fleet WORK{option}`, whose docstring describes the fleet.
Rows: calls, differentials, reports and files of the night, compared with those of one machine without Airflow.
Idle: time in which no stage was at work, because Airflow was scheduling or a process was starting.
All machines share two cores.

| {" | ".join(HEAD)} |
| --- | --- | ---: | ---: | ---: | --- | --- |
"""
        + "\n".join(found)
        + "\n"
    )


def tried(fleet: Fleet, night: date, fault: Fault, expected: Rows) -> tuple[tuple[str, ...], bool]:
    """Runs a night with a fault; returns the row of the table, and whether the night's rows are as expected."""
    laboratory = LiveNight(fleet.settings(), night)
    with AirflowApi(laboratory.settings) as api:
        outcome = disturbed(Place(fleet, laboratory, api), fault)
    wrong = differences(expected, laboratory.rows())
    verdict = f"{len(wrong)} differ: {wrong[0]}" if wrong else f"equal, {len(expected['cell_call']):,} calls"
    return (str(outcome), str(outcome.tries), f"{outcome.seconds:.0f}", f"{outcome.idle_s:.0f}", verdict), not wrong


def scaled(fleet: Fleet, expected: Rows) -> tuple[tuple[str, ...], bool]:
    """Classifies the small night with one worker that has one core, then with two that have one each."""
    laboratory = LiveNight(fleet.settings(), SMALL_NIGHT)
    took = []
    with AirflowApi(laboratory.settings) as api:
        place = Place(fleet, laboratory, api)
        for workers in (["cpu-worker"], ["cpu-worker", "cpu-worker#2"]):
            for worker in WORKERS.values():
                fleet.kill(worker)
            for core, worker in enumerate(workers):
                fleet.start(worker)
                fleet.wait_for(worker)
                fleet.pin(worker, core)
            took.append(disturbed(place, Fault()))
        for worker in WORKERS.values():
            fleet.kill(worker)
            fleet.start(worker)
        fleet.wait_for(*WORKERS.values())
    one, two = took
    wrong = differences(expected, laboratory.rows())
    speed = f"classify {one.classify_s:.0f} s and {two.classify_s:.0f} s: {one.classify_s / two.classify_s:.2f} times"
    verdict = f"{len(wrong)} differ: {wrong[0]}" if wrong else f"equal; {speed}"
    seconds, idle = f"{one.seconds:.0f}, {two.seconds:.0f}", f"{one.idle_s:.0f}, {two.idle_s:.0f}"
    return (f"{one}, {two}", f"{one.tries}, {two.tries}", seconds, idle, verdict), not wrong


def approved(fleet: Fleet, drops: Path, work: Path) -> tuple[tuple[str, ...], bool]:
    """Retrains on labels of a drawn night; a pathologist who was not asked is refused, one who was asked approves."""
    settings = fleet.settings().model_copy(update={"store_url": str(fleet.volume("store"))})
    drop = make_drop(drops, night=DRAWN_NIGHT, n_slides=N_SLIDES, cells_per_slide=CELLS_PER_SLIDE)
    ingest_night(drop.folder, settings)
    n_labels = import_labels(write_label_file(drop, work / "labels"), settings).n_new
    people = [as_person(fleet, name, work) for name in ("dr.b", "dr.a")]
    conf = {"variants": ["inception_v3_svm"], "base": "champion", "min_new_labels": 1, "reason": "to be asked about"}
    started = time.monotonic()
    with AirflowApi(settings) as api:
        run_id = api.trigger(RETRAIN, conf=conf)
        asked = api.wait(RETRAIN, run_id, timeout_s=3600, for_a_person=False)
        if asked.ended:
            return (asked.state, "", "", "", f"nobody was asked; {n_labels} labels"), False
        said = []
        for person in people:
            try:
                with AirflowApi(person) as theirs:
                    theirs.answer_approval(RETRAIN, run_id, "approve", approve=True, reason="better on the hold-out")
                said.append(f"{person.airflow_user} approves")
            except AirflowRefusedError as error:
                said.append(f"{person.airflow_user} is refused ({error.status})")
        state = api.wait(RETRAIN, run_id, timeout_s=600)
    found = LiveNight(settings, DRAWN_NIGHT).all(
        "SELECT state, decided_by FROM bloodcell.retraining WHERE :night IS NOT NULL"
    )
    verdict = f"{n_labels} labels; {', '.join(said)}; {found[-1].state}, answered by {found[-1].decided_by}"
    is_good = said == ["dr.b is refused (403)", "dr.a approves"] and tuple(found[-1]) == ("promoted", "dr.a")
    tries = max(task.try_number for task in state.tasks)
    return (state.state, str(tries), f"{time.monotonic() - started:.0f}", "", verdict), is_good


def as_person(fleet: Fleet, name: str, work: Path) -> Settings:
    """Creates a pathologist's login as in docker/README.md, and returns the settings with which that person acts."""
    password = work / f"{name}.password"
    password.write_text(f"secret of {name}")
    who = ["--username", name, "--firstname", "A", "--lastname", "Doe", "--email", f"{name}@example.org"]
    fleet.run("api-server", "airflow", "users", "create", *who, "--role", "Viewer", "--password", password.read_text())
    fleet.run("api-server", "airflow", "users", "add-role", "--username", name, "--role", "Pathologist")
    return fleet.settings().model_copy(update={"airflow_user": name, "airflow_password_file": password})


def make_night(shared: Path, drops: Path, night: date, slides: int, cells: int) -> None:
    """Makes a drop of real images."""
    if (drops / night.isoformat()).exists():
        return
    tool = [sys.executable, str(shared / "tools" / "make_drop.py"), str(drops), "--night", night.isoformat()]
    size = ["--slides", str(slides), "--cells", str(cells), "--seed", str(night.toordinal())]
    subprocess.run([*tool, *size, "--images", str(shared / "pbc")], check=True, capture_output=True)


def on_one_machine(data: Path, drops: Path) -> dict[date, Rows]:
    """Returns the rows of both nights as one machine makes them with the library alone."""
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
            write_due_results(settings, night=night)
            found[night] = LiveNight(settings, night).rows()
        return found
    finally:
        postgres.stop()


def fleet_of(folder: Path, drops: Path, mark: str, changes: Mapping[str, str]) -> Fleet:
    """Returns the fleet, with its services not yet started."""
    labels = folder / "labels"
    labels.mkdir(parents=True)
    os.chown(labels, USER, USER)
    more = {
        **dict.fromkeys((f"BLOODCELL_{what}_CRON" for what in ("NIGHTLY", "CHECK", "LABELS", "RETRAIN")), ""),
        "BLOODCELL_SETTLE_S": "0", "BLOODCELL_SHARD_CELLS": str(SHARD_CELLS), "BLOODCELL_GPUS": "2",
        "BLOODCELL_APPROVERS": "dr.a", "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        **{f"BLOODCELL_{name.upper()}": str(value) for name, value in SETTINGS.items() if name != "approvers"},
        **changes,
    }  # fmt: skip
    values = {"BLOODCELL_DROPS": str(drops), "BLOODCELL_LABELS": str(labels)}
    return Fleet(folder / "made", PLACED, values, more=more, secrets={"s3_credentials": S3_CREDENTIALS}, mark=mark)


def disturbed(place: Place, fault: Fault) -> Outcome:
    """Runs the night from its beginning with a fault, and again by hand if the run fails."""
    place.laboratory.forget_calls()
    fault.before(place)
    conf = {"night": place.laboratory.night.isoformat()}
    started = time.monotonic()
    run_id = place.api.trigger(NIGHTLY_RUN, conf=conf)
    fault.during(place)
    run, seconds = ended(place.api, run_id), time.monotonic() - started
    worked_s, classify_s = at_work(place.laboratory, run_id)
    fault.after(place)
    if run.state == "success":
        return Outcome(run, None, seconds, seconds - worked_s, classify_s)
    again = ended(place.api, place.api.trigger(NIGHTLY_RUN, conf=conf))
    return Outcome(run, again, time.monotonic() - started, seconds - worked_s, classify_s)


# ranges of time that overlap become one
AT_WORK = """
    SELECT (SELECT coalesce(sum(extract(epoch FROM upper(r) - lower(r))), 0)
            FROM (SELECT unnest(range_agg(tstzrange(started_at, ended_at))) AS r FROM bloodcell.run
                  WHERE airflow_run = :run AND ended_at IS NOT NULL) ranges),
           (SELECT coalesce(extract(epoch FROM max(ended_at) - min(started_at)), 0) FROM bloodcell.run
            WHERE airflow_run = :run AND stage = 'classify')
"""


def at_work(laboratory: LiveNight, run_id: str) -> tuple[float, float]:
    """Returns the seconds in which a stage of the run was at work, and those from classify's first to its last task."""
    statement = sa.text(AT_WORK)
    found = laboratory.database.transact(lambda c: c.execute(statement, {"run": run_id}).one())
    return float(found[0]), float(found[1])


def ended(api: AirflowApi, run_id: str) -> RunState:
    """Returns a run's state at its end, even if the API server fails in the meantime."""
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
