"""Tries to promote a model without the approval of a person who may approve, in every way that Airflow's API allows.

    python -m benchmarks.acceptance.forged_approvals WORK

Starts a system of its own in the folder WORK, with a model that learns small coloured cells within seconds, and two
more API servers on its database: SimpleAuth with another user, and Flask AppBuilder as the containers run it. Four
people who may not approve (SimpleAuth's `admin` and a `user`, FAB's `Op` and `Admin`) try four ways on a retraining
whose question is open, and two of them where it was rejected or timed out. Prints a line for each, and ends with
status 1 if the champion ever changed. Takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

from bloodcell.ingest import ingest_night
from bloodcell.labels import import_labels
from bloodcell.service.airflow_api import RETRAIN, AirflowApi
from tests.airflow_page import AirflowPage, forge_approval
from tests.api_servers import PASSWORD, api_server, fab_server
from tests.service.conftest import Up, free_port, running_up, train_small_model, write_night
from tests.service.test_retrain import champion, retraining, rows, started, write_labels

APPROVER: Final = "pathologist"
STATES: Final = ("open", "rejected", "timed out")
TIMEOUT_H: Final = 0.03
"""Hours after which a question times out, so that the script ends today: 108 seconds."""


def _xcoms_and_mark(page: AirflowPage, run_id: str) -> None:
    forge_approval(page, RETRAIN, run_id, APPROVER)
    page.mark_task(RETRAIN, run_id, "approve", "success")
    page.clear_task(RETRAIN, run_id, "promote")


def _other_candidate(page: AirflowPage, run_id: str) -> None:
    page.write_xcom(RETRAIN, run_id, "gate", "return_value", "f" * 64)
    forged = {"model_id": "f" * 64, "summary": "passed everything", "refusals": {}, "reports": {}}
    page.write_xcom(RETRAIN, run_id, "validate", "return_value", forged)
    _xcoms_and_mark(page, run_id)


def _ask_again(page: AirflowPage, run_id: str) -> None:
    page.clear_task(RETRAIN, run_id, "approve")
    _xcoms_and_mark(page, run_id)


def _answer(page: AirflowPage, run_id: str) -> None:
    status = page.answer(RETRAIN, run_id, "approve", reason="I may not")
    if status not in (httpx.codes.FORBIDDEN, httpx.codes.CONFLICT):
        raise RuntimeError(f"expected 403 or 409, received {status}")
    page.mark_task(RETRAIN, run_id, "promote", "success")


WAYS: Final[dict[str, Callable[[AirflowPage, str], None]]] = {
    "XComs and a note, approve marked successful, promote cleared": _xcoms_and_mark,
    "another candidate and summary as XComs, then the same": _other_candidate,
    "approve cleared to ask again, then the same": _ask_again,
    "an answer of one's own, promote marked successful": _answer,
}
ON_ENDED: Final = tuple(WAYS)[:3:2]
"""Ways that are tried on a rejected question and on one that timed out; the others need an open one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--states", nargs="+", choices=STATES, default=STATES, help="of the question; default: all")
    arguments = parser.parse_args()
    work, states = arguments.work, arguments.states
    work.mkdir(parents=True, exist_ok=True)
    bundle = train_small_model(work / "bundle")
    n_bad = 0
    with ExitStack() as stack:
        up = stack.enter_context(running_up(work, bundle, approval_timeout_h=TIMEOUT_H))
        night = write_night(work / "elsewhere", "2026-04-01", slides=12, cells_per_class=3)
        ingest_night(night, up.settings)
        write_labels(work / "labels.csv", night, 0, 12)
        import_labels(work / "labels.csv", up.settings)
        api = stack.enter_context(AirflowApi(up.settings))
        forgers = _forgers(stack, up, work)
        seeds = itertools.count(1)
        n_attempts = 0
        for state in states:
            for forger, page in forgers.items():
                for way in WAYS if state == "open" else ON_ENDED:
                    n_attempts += 1
                    run_id = _waiting_for_a_person(api, seeds)
                    n_bad += not _held(up, api, page, run_id, state, f"{forger}, {state}: {way}", WAYS[way])
    print(f"{n_attempts} attempts, {n_bad} did not hold")
    return 1 if n_bad else 0


def _forgers(stack: ExitStack, up: Up, work: Path) -> dict[str, AirflowPage]:
    """Returns the pages of the people who may not approve."""
    passwords = work / "passwords.json"
    passwords.write_text(json.dumps({"mallory": PASSWORD}))
    more_users = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "mallory:user",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    simple = stack.enter_context(api_server(up.settings, free_port(), work / "simple.log", more_users))
    users = {"operator": "Op", "chief": "Admin"}
    fab = stack.enter_context(fab_server(up.settings, free_port(), work / "fab.log", users))
    return {
        "SimpleAuth admin": stack.enter_context(AirflowPage.of(up.settings)),
        "SimpleAuth user": stack.enter_context(AirflowPage(simple, "mallory", PASSWORD)),
        "FAB Op": stack.enter_context(AirflowPage(fab, "operator", PASSWORD)),
        "FAB Admin": stack.enter_context(AirflowPage(fab, "chief", PASSWORD)),
    }


def _waiting_for_a_person(api: AirflowApi, seeds: Iterator[int]) -> str:
    """Returns a retraining whose question is open; a candidate that the gates refuse is nobody's question."""
    while True:
        run_id = started(api, seed=next(seeds), min_new_labels=0)  # a rejected retraining has used the labels
        state = api.wait(RETRAIN, run_id, timeout_s=600, for_a_person=False)
        if state.waits_for_a_person:
            return run_id
        print(f"not asked: {run_id} ended {state.state}, {api.result(RETRAIN, run_id, 'close')}", flush=True)


def _held(
    up: Up,
    api: AirflowApi,
    page: AirflowPage,
    run_id: str,
    state: str,
    what: str,
    forge: Callable[[AirflowPage, str], None],
) -> bool:
    """Brings a question to a state, tries to forge the approval, and returns whether the champion stayed."""
    before = champion(up.settings)
    if state == "rejected":
        with AirflowApi(up.settings.model_copy(update={"airflow_user": APPROVER})) as approver:
            approver.answer_approval(RETRAIN, run_id, "approve", approve=False, reason="no")
    if state != "open":
        api.wait(RETRAIN, run_id, timeout_s=600)
    error = ""
    try:
        forge(page, run_id)
    except (httpx.HTTPStatusError, RuntimeError) as refusal:
        error = str(refusal).splitlines()[0]
    api.wait(RETRAIN, run_id, timeout_s=600)
    row = retraining(up.settings, run_id)
    refused = rows(
        up.settings,
        f"SELECT error FROM bloodcell.run WHERE airflow_run = '{run_id}' AND stage = 'promote' "
        "ORDER BY started_at DESC",
    )
    promotions = rows(up.settings, "SELECT count(*) AS n FROM bloodcell.model_history")[0]["n"]
    held = champion(up.settings) == before and promotions == 1 and row["state"] != "promoted"
    told = refused[0]["error"][:90] if refused else error or "promote never ran"
    print(f"{'held' if held else 'DIFFERS'}: {what}: {row['state']}; {told}", flush=True)
    return held


if __name__ == "__main__":
    sys.exit(main())
