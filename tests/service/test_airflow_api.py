"""The client's errors say what to do next; test_up.py tests the responses of a real Airflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError, RetryLaterError
from bloodcell.service.airflow_api import AirflowApi
from bloodcell.service.airflow_session import AirflowRefusedError, AirflowUnavailableError
from bloodcell.settings import Settings
from tests.serving import serving

Answer = tuple[int, object]


class Scripted(ThreadingHTTPServer):
    """Responds to each request with the next of its answers, and then keeps repeating the last one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer] = []
        self.log_in: Answer = (201, {"access_token": "one"})
        self.tokens: list[str | None] = []
        self.bodies: list[dict[str, object]] = []
        self.requests: list[str] = []
        self.delays: list[float] = []


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.tokens.append(self.headers["Authorization"])
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        time.sleep(self.server.delays.pop(0) if self.server.delays else 0)
        self._send(*answer)

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.path == "/auth/token":
            self._send(*self.server.log_in)
        else:
            self.do_GET()

    do_PATCH = do_POST

    def _send(self, status: int, body: object) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        with suppress(ConnectionError):  # the client did not wait
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def airflow() -> Iterator[Scripted]:
    server = Scripted()
    with serving(server):
        yield server


@pytest.fixture
def api(airflow: Scripted, tmp_path: Path) -> Iterator[AirflowApi]:
    password = tmp_path / "password"
    password.write_text("secret")
    settings = Settings(airflow_url=f"http://127.0.0.1:{airflow.server_port}", airflow_password_file=password)
    with AirflowApi(settings) as session:
        yield session


@pytest.fixture
def patient(airflow: Scripted, api: AirflowApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowApi]:
    """A session that keeps asking a busy server."""
    monkeypatch.setattr("bloodcell.service.airflow_session._TIMEOUT_S", 0.3)
    monkeypatch.setattr("bloodcell.service.airflow_session._PAUSE_S", 0.01)
    with AirflowApi(api._settings, patience_s=30) as session:
        yield session


def test_a_token_that_is_no_longer_accepted_is_renewed(airflow: Scripted, api: AirflowApi) -> None:
    airflow.answers = [(200, {"slots": 1})]
    assert api.pool_slots("gpu") == 1

    airflow.log_in = (201, {"access_token": "two"})
    airflow.answers = [(401, {"detail": "expired"}), (200, {"slots": 2})]

    assert api.pool_slots("gpu") == 2
    assert airflow.tokens == ["Bearer one", "Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((500, {"detail": "database unavailable"}), AirflowUnavailableError),
        ((503, "not json at all"), AirflowUnavailableError),
        ((200, b"<html>Another program listens here</html>"), AirflowUnavailableError),
        ((403, {"detail": "Forbidden"}), ConfigurationError),
        ((401, {"detail": "no"}), ConfigurationError),
        ((400, {"detail": "bad night"}), AirflowRefusedError),
    ],
)
def test_each_kind_of_response_has_its_own_error(
    airflow: Scripted, api: AirflowApi, answer: Answer, kind: type[Exception]
) -> None:
    airflow.answers = [answer]

    with pytest.raises(kind):
        api.trigger("nightly_run", conf={})


def test_a_refusal_by_airflow_contains_airflows_reason(airflow: Scripted, api: AirflowApi) -> None:
    airflow.answers = [(400, {"detail": "night: 'yesterday' is not a 'date'"})]

    with pytest.raises(AirflowRefusedError, match="'yesterday' is not a 'date'") as refused:
        api.trigger("nightly_run", conf={"night": "yesterday"})

    assert refused.value.status == 400


def test_a_wrong_password_names_the_setting(airflow: Scripted, api: AirflowApi) -> None:
    airflow.log_in = (401, {"detail": "Invalid credentials"})

    with pytest.raises(ConfigurationError, match="BLOODCELL_AIRFLOW_PASSWORD_FILE"):
        api.pool_slots("gpu")


def test_an_invalid_address_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="BLOODCELL_AIRFLOW_URL"):
        AirflowApi(Settings(airflow_url="http://127.0.0.1:port"))


def test_a_proxy_is_not_used_for_an_airflow_on_this_machine(
    airflow: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    password = tmp_path / "password"
    password.write_text("secret")
    settings = Settings(airflow_url=f"http://127.0.0.1:{airflow.server_port}", airflow_password_file=password)
    airflow.answers = [(200, {"slots": 1})]

    with AirflowApi(settings) as api:
        assert api.pool_slots("gpu") == 1


def test_the_error_of_an_unavailable_server_says_how_to_start_it(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    settings = Settings(airflow_url="http://127.0.0.1:9", airflow_password_file=password)

    with AirflowApi(settings) as api, pytest.raises(AirflowUnavailableError, match="bloodcell up"):
        api.pool_slots("gpu")


def test_a_missing_pool_and_a_missing_question_are_none(airflow: Scripted, api: AirflowApi) -> None:
    airflow.answers = [(404, {"detail": "not found"})]

    assert api.pool_slots("gpu") is None
    assert api.approval("retrain", "r", "approve") is None


def question(**answered: object) -> dict[str, object]:
    """A question as a real Airflow describes it."""
    return {
        "subject": "Make model c0ffee champion?",
        "body": "passed all gates",
        "assigned_users": [{"id": "pathologist", "name": "pathologist"}],
        "created_at": "2026-03-14T02:00:00Z",
        "task_instance": {"state": "awaiting_input"},
        "responded_at": None,
        "responded_by_user": None,
        "chosen_options": None,
        "params_input": {},
        **answered,
    }


ANSWERED = question(
    task_instance={"state": "success"},
    responded_at="2026-03-14T08:30:00Z",
    responded_by_user={"id": "pathologist", "name": "pathologist"},
    chosen_options=["Approve"],
    params_input={"reason": "page read"},
)


def test_an_answer_is_sent_with_its_reason_and_returned_with_person_and_time(
    airflow: Scripted, api: AirflowApi
) -> None:
    airflow.answers = [(200, question()), (200, {}), (200, ANSWERED)]

    answer = api.answer_approval("retrain", "r", "approve", approve=True, reason="page read")

    assert airflow.bodies[-1] == {"chosen_options": ["Approve"], "params_input": {"reason": "page read"}}
    assert (answer.chosen, answer.by, answer.reason) == ("Approve", "pathologist", "page read")
    assert answer.at == datetime(2026, 3, 14, 8, 30, tzinfo=UTC)
    assert not answer.is_waiting


def test_a_new_question_is_answered_only_once_airflow_keeps_answers(
    airflow: Scripted, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloodcell.service.airflow_api.EARLIEST_ANSWER_S", 1.0)
    asked_at = datetime.now(UTC)
    airflow.answers = [(200, question(created_at=asked_at.isoformat())), (200, {}), (200, ANSWERED)]

    api.answer_approval("retrain", "r", "approve", approve=False, reason="no")

    assert (datetime.now(UTC) - asked_at).total_seconds() >= 1.0
    assert airflow.bodies[-1]["chosen_options"] == ["Reject"]


@pytest.mark.parametrize(
    ("answers", "status", "says"),
    [
        ([(404, {"detail": "not found"})], 404, "Task approve of run r of retrain asks nothing"),
        (
            [(200, question()), (403, {"detail": "not a respondent"})],
            403,
            "'admin' may not answer.*these users may: path",
        ),
        ([(200, ANSWERED)], 409, "answered already: Approve, by pathologist at 2026-03-14 08:30"),
        ([(200, question()), (409, {"detail": "again"}), (200, ANSWERED)], 409, "answered already: Approve, by path"),
        (
            [(200, question(task_instance={"state": "failed"}))],
            409,
            "no longer waits for an answer: its task is failed",
        ),
        ([(200, question()), (400, {"detail": "Invalid options"})], 400, "Invalid options"),
    ],
)
def test_the_error_of_an_answer_without_effect_says_why(
    airflow: Scripted, api: AirflowApi, answers: list[Answer], status: int, says: str
) -> None:
    airflow.answers = answers

    with pytest.raises(AirflowRefusedError, match=says) as refused:
        api.answer_approval("retrain", "r", "approve", approve=True, reason="because")

    assert refused.value.status == status


def test_waiting_ends_at_a_question_unless_it_waits_for_the_answer(airflow: Scripted, api: AirflowApi) -> None:
    task = {"task_id": "approve", "map_index": -1, "state": "awaiting_input", "try_number": 1, "pid": None}
    airflow.answers = [(200, {"state": "running"}), (200, {"task_instances": [{**task, "start_date": None}]})]

    run = api.wait("retrain", "r", timeout_s=30, for_a_person=False)

    assert (run.state, run.waits_for_a_person) == ("running", True)


def test_the_address_of_a_runs_page_contains_the_runs_id_unquoted(api: AirflowApi) -> None:
    page = api.run_page("retrain", "manual__2026-03-14T02:00:00+00:00")

    assert page.endswith("/dags/retrain/runs/manual__2026-03-14T02:00:00+00:00")


def test_waiting_continues_while_airflow_is_unavailable_for_a_while(airflow: Scripted, api: AirflowApi) -> None:
    task = {"task_id": "ingest", "map_index": -1, "state": "success", "try_number": 1, "pid": 7, "start_date": None}
    airflow.answers = [
        (500, {"detail": "unavailable"}),
        (200, {"state": "running"}),
        (200, {"task_instances": [{**task, "state": None}]}),
        (200, {"state": "success"}),
        (200, {"task_instances": [task]}),
    ]
    seen: list[str] = []

    run = api.wait("nightly_run", "r", timeout_s=30, interval_s=0.01, on_progress=lambda run: seen.append(run.state))

    assert seen == ["running", "success"]
    assert run.task_counts == {"success": 1}


def test_the_error_of_a_run_that_does_not_end_says_its_state(airflow: Scripted, api: AirflowApi) -> None:
    airflow.answers = [(500, {"detail": "unavailable"})]

    with pytest.raises(RetryLaterError, match="Airflow did not respond"):
        api.wait("nightly_run", "r", timeout_s=0.05, interval_s=0.01)


def test_a_busy_server_is_asked_again_and_no_second_run_is_started(airflow: Scripted, patient: AirflowApi) -> None:
    airflow.delays = [1.0]  # the first request times out, although it starts the run
    airflow.answers = [(200, {}), (503, {"detail": "busy"}), (409, {"detail": "exists"})]

    run_id = patient.trigger("nightly_run", conf={})

    assert airflow.requests == ["POST /api/v2/dags/nightly_run/dagRuns"] * 3
    assert {body["dag_run_id"] for body in airflow.bodies if "dag_run_id" in body} == {run_id}


def test_an_answer_that_had_to_be_sent_twice_counts_once(
    airflow: Scripted, patient: AirflowApi, tmp_path: Path
) -> None:
    own = {"id": "admin", "name": "admin"}
    answered = question(**{**ANSWERED, "responded_by_user": own})
    airflow.delays = [0, 1.0]
    airflow.answers = [(200, question()), (200, {}), (409, {"detail": "answered"}), (200, answered)]

    assert patient.answer_approval("retrain", "r", "approve", approve=True, reason="page read").by == "admin"

    airflow.delays = [0, 1.0]
    airflow.answers = [(200, question()), (200, {}), (409, {"detail": "answered"}), (200, answered)]
    with pytest.raises(AirflowRefusedError, match="answered already: Approve, by admin"):
        patient.answer_approval("retrain", "r", "approve", approve=True, reason="another reason")


def test_patience_ends_and_a_closed_port_needs_none(
    airflow: Scripted, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloodcell.service.airflow_session._PAUSE_S", 0.05)
    airflow.answers = [(500, {"detail": "busy"})]
    with AirflowApi(api._settings, patience_s=0.2) as session, pytest.raises(AirflowUnavailableError, match="busy"):
        session.unpause("retrain")
    assert 2 <= len(airflow.requests) <= 6
    closed = api._settings.model_copy(update={"airflow_url": "http://127.0.0.1:9"})
    began = time.monotonic()
    with AirflowApi(closed, patience_s=30) as session, pytest.raises(AirflowUnavailableError, match="bloodcell up"):
        session.unpause("retrain")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("present", "text", "written"),
    [
        (None, "skipped: too few", "skipped: too few"),
        ("ask dr.a", "skipped: too few", "ask dr.a\n\nskipped: too few"),
        ("skipped: too few", "skipped: too few", None),
        ("x" * 990, "skipped: too few", "x" * 990 + "\n\nskipped…"),
        (None, "y" * 1200, "y" * 999 + "…"),
    ],
)
def test_a_note_is_added_below_what_a_person_wrote(
    airflow: Scripted, api: AirflowApi, present: str | None, text: str, written: str | None
) -> None:
    airflow.answers = [(200, {"note": present}), (200, {})]

    api.add_note("retrain", "r", text)

    assert [body["note"] for body in airflow.bodies if "note" in body] == ([] if written is None else [written])
