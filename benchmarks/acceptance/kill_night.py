"""Kills the classify task and Postgres while a night is classified; the rows must equal an undisturbed run's.

    python -m benchmarks.acceptance.kill_night 2026-03-14 [--task-kills 10] [--postgres-kills 2]

Needs a running `bloodcell up` on the same settings (BLOODCELL_DATA_DIR, BLOODCELL_AIRFLOW_URL), the night among its
drops and a champion. The night's calls and differentials are deleted and made again for each kill: never do this to
a laboratory's data.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from datetime import date

from bloodcell.service.airflow_api import NIGHTLY_RUN, AirflowApi
from bloodcell.service.airflow_records import RunState
from bloodcell.settings import Settings
from tests.live_night import LiveNight, classify_task, differences, postmaster_pid, run_night, run_night_and_kill_task


def main() -> int:
    """Kills, compares, and prints for each kill whether the rows were right; exit status 1 if any were not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("night", type=date.fromisoformat)
    parser.add_argument("--task-kills", type=int, default=10)
    parser.add_argument("--postgres-kills", type=int, default=2)
    arguments = parser.parse_args()
    settings = Settings()
    laboratory = LiveNight(settings, arguments.night)
    n_bad = 0
    with AirflowApi(settings) as api:
        print("undisturbed:", run_night(api, arguments.night).state)  # ingests the night if that was not done
        laboratory.forget_calls()
        began = time.monotonic()
        run_id = api.trigger(NIGHTLY_RUN, conf={"night": arguments.night.isoformat()})
        classify_task(api, run_id)
        began = time.monotonic()
        while classify_runs(api, run_id):
            time.sleep(0.2)
        classify_s = time.monotonic() - began
        api.wait(NIGHTLY_RUN, run_id, timeout_s=900)
        expected = laboratory.rows()
        print(f"{len(expected['cell_call'])} calls, classify took {classify_s:.1f} s")
        # no kill at the very end: the next run may be a little faster, and there would be nothing left to kill
        kills = [("task", 0.9 * (n + 0.5) / arguments.task_kills) for n in range(arguments.task_kills)]
        kills += [("postgres", 0.9 * (n + 0.5) / arguments.postgres_kills) for n in range(arguments.postgres_kills)]
        for what, share in kills:
            laboratory.forget_calls()
            after_s = share * classify_s
            if what == "task":
                state = run_night_and_kill_task(api, arguments.night, after_s)
            else:
                state = run_night_and_kill_postgres(laboratory, api, after_s)
            tries = max(task.try_number for task in state.tasks if task.task_id == "classify")
            wrong = differences(expected, laboratory.rows())
            n_bad += bool(wrong) or state.state != "success"
            verdict = "rows equal" if not wrong else f"{len(wrong)} DIFFERENCES, first: {wrong[0]}"
            print(
                f"{what} killed {after_s:5.1f} s into classify: run {state.state}, {tries} tries, {verdict}", flush=True
            )
    return 1 if n_bad else 0


def run_night_and_kill_postgres(laboratory: LiveNight, api: AirflowApi, after_s: float) -> RunState:
    """Runs the night, kills the embedded Postgres `after_s` seconds after classify began, and awaits the run's end."""
    run_id = api.trigger(NIGHTLY_RUN, conf={"night": laboratory.night.isoformat()})
    classify_task(api, run_id)
    time.sleep(after_s)
    os.kill(postmaster_pid(laboratory.settings), signal.SIGKILL)
    return api.wait(NIGHTLY_RUN, run_id, timeout_s=900, interval_s=0.5)


def classify_runs(api: AirflowApi, run_id: str) -> bool:
    """Returns whether a classify task of the run is running."""
    return any(
        task.task_id == "classify" and task.state == "running" for task in api.run_state(NIGHTLY_RUN, run_id).tasks
    )


if __name__ == "__main__":
    sys.exit(main())
