"""Sessions of people at the desk: how they end, and that nobody but the desk's own role can use or forge one."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from bloodcell.review.local_users import add_user, remove_user, set_password, set_roles
from bloodcell.review.people import Person
from bloodcell.review.sessions import Sessions
from bloodcell.review.writing import RightMissingError
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.review.desk import PASSWORD, RunningDesk
from tests.storage.conftest import refused


def is_open(desk: RunningDesk, token: str) -> bool:
    """Returns whether a token still opens the worklist."""
    return httpx.get(desk.url, cookies={"bloodcell_desk": token}).status_code == 200


def age(desk: RunningDesk, column: str, by: timedelta, token: str) -> None:
    """Moves a time of a session back."""
    session = desk.sessions.of(token, is_use=False)
    assert session is not None
    desk.rows(
        f"UPDATE bloodcell.desk_session SET {column} = {column} - CAST(:by AS interval) WHERE session_id = :id",
        by=by,
        id=session.session_id,
    )


def test_a_person_logs_in_by_the_form_and_out_again(running_desk: RunningDesk) -> None:
    with running_desk.stranger() as browser:
        assert browser.post("/login", data={"name": "anna", "password": "wrong"}).status_code == 403
        assert browser.post("/login", data={"name": "nobody", "password": PASSWORD}).status_code == 403
        entered = browser.post("/login", data={"name": "ANNA", "password": PASSWORD, "next": "/slides/1?a=b"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/slides/1?a=b")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Path=/" in cookie
        page = browser.get("/")
        assert "anna" in page.text, "the name as it was added, not as it was typed"
        csrf = page.text.split('"csrf": "')[1].split('"')[0]
        assert browser.post("/logout", data={"csrf": "0" * 64}).status_code == 403
        left = browser.post("/logout", data={"csrf": csrf})
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert browser.get("/", headers={"accept": "text/html"}).status_code == 303


def test_a_token_is_worth_nothing_after_the_log_out(running_desk: RunningDesk) -> None:
    token, other = running_desk.token("anna"), running_desk.token("anna")
    session = running_desk.sessions.of(token)
    assert session is not None
    assert running_desk.sessions.end(session) == 1
    assert not is_open(running_desk, token)
    assert is_open(running_desk, other), "the session on another computer goes on"


def test_a_log_out_everywhere_ends_the_persons_sessions_and_nobody_elses(running_desk: RunningDesk) -> None:
    tokens = [running_desk.token("anna") for _ in range(3)]
    others = running_desk.token("ben")
    session = running_desk.sessions.of(tokens[0])
    assert session is not None
    running_desk.sessions.end(session, everywhere=True)
    assert [is_open(running_desk, token) for token in tokens] == [False] * 3
    assert is_open(running_desk, others)


def test_an_administrator_ends_the_sessions_of_another_person_and_nobody_else_can(running_desk: RunningDesk) -> None:
    token, adam = running_desk.token("anna"), running_desk.session("adam")
    for name in ("anna", "clara", "vera"):
        with pytest.raises((RightMissingError, sa.exc.DBAPIError)):
            running_desk.sessions.end_of(running_desk.session(name), "anna")
    assert is_open(running_desk, token)
    running_desk.sessions.end_of(adam, "ANNA")
    assert not is_open(running_desk, token)
    assert running_desk.rows(
        "SELECT DISTINCT ended_for FROM bloodcell.desk_session_history "
        "WHERE person = 'anna' AND ended_for = 'administrator'"
    ) == [("administrator",)]


def test_a_session_ends_after_a_pause_and_a_request_before_that_renews_it(running_desk: RunningDesk) -> None:
    token = running_desk.token("anna")
    age(running_desk, "seen_at", timedelta(minutes=14), token)
    assert is_open(running_desk, token)
    age(running_desk, "seen_at", timedelta(minutes=14), token)
    assert is_open(running_desk, token), "the request before has renewed it"
    age(running_desk, "seen_at", timedelta(minutes=16), token)
    assert not is_open(running_desk, token)


def test_a_page_that_renews_its_lease_by_itself_does_not_keep_a_session_alive(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 1})
    with running_desk.client("anna") as anna:
        anna.open(slide)
        token = anna.http.cookies["bloodcell_desk"]
        age(running_desk, "seen_at", timedelta(minutes=8), token)
        assert anna.hold(slide)["is_mine"]
        age(running_desk, "seen_at", timedelta(minutes=8), token)
        assert anna.http.post(f"/api/slides/{slide.slide_id}/lease", json={}).status_code == 401


def test_a_busy_session_ends_after_its_longest_time(running_desk: RunningDesk) -> None:
    token = running_desk.token("anna")
    age(running_desk, "expires_at", timedelta(hours=11, minutes=59), token)
    assert is_open(running_desk, token)
    age(running_desk, "expires_at", timedelta(minutes=2), token)
    assert not is_open(running_desk, token)


@pytest.mark.parametrize("hours", [0.25, 0.5, 1.5, 24.0])
def test_the_longest_time_is_the_one_that_is_set(running_desk: RunningDesk, hours: float) -> None:
    settings = Settings(
        **{**running_desk.settings.model_dump(), "desk_session_h": hours, "desk_idle_min": 10},
    )
    sessions = Sessions(running_desk.sessions._database, settings)

    session = sessions.of(sessions.open(Person("anna", frozenset({"reader"})), "local"))
    assert session is not None
    lasts = running_desk.rows(
        "SELECT extract(epoch FROM expires_at - opened_at)::float FROM bloodcell.desk_session WHERE session_id = :id",
        id=session.session_id,
    )
    assert lasts[0][0] == pytest.approx(hours * 3600, abs=1)


def test_a_changed_password_other_roles_and_a_removal_each_end_a_persons_sessions(running_desk: RunningDesk) -> None:
    users = running_desk.settings.users_file
    add_user(users, "emil", ["reader"], PASSWORD)

    def opened() -> str:

        return running_desk.sessions.open(Person("emil", frozenset({"reader"})), "local")

    token = opened()
    assert is_open(running_desk, token)
    set_password(users, "emil", "eleven boats behind a mill")
    assert not is_open(running_desk, token)
    token = opened()
    set_roles(users, "emil", ["viewer"])
    assert not is_open(running_desk, token)
    token = opened()
    remove_user(users, "emil")
    assert not is_open(running_desk, token)


def test_somebody_who_is_removed_during_the_log_in_gets_no_session(running_desk: RunningDesk) -> None:
    token = running_desk.sessions.open(Person("nobody any more", frozenset({"reader"})), "local")
    assert not is_open(running_desk, token), "between the check of the password and the session"


@pytest.mark.parametrize("token", ["", "x", "0" * 43, "ä", "a" * 5000, "' OR 1=1 --", "..\\..", "\x00"])
def test_a_forged_token_opens_nothing(running_desk: RunningDesk, token: str) -> None:
    assert running_desk.sessions.of(token) is None


def test_the_digest_that_the_database_has_is_no_token(running_desk: RunningDesk) -> None:
    session = running_desk.session("anna")
    assert not is_open(running_desk, session.digest)


def test_cookies_of_other_programs_on_the_same_host_do_not_hide_the_session(running_desk: RunningDesk) -> None:
    # cookies do not tell ports apart: those of Airflow and Jupyter on 127.0.0.1 come along
    token = running_desk.token("anna")
    for other in ('a={"b": 1, "c": [2]}', "user name=x", 'x="un;closed', "bad[name]=1", "=nameless", "ünï=cödé"):
        cookie = f"{other}; bloodcell_desk={token}; z=1".encode("latin-1")
        answer = httpx.get(running_desk.url, headers=[(b"cookie", cookie)])
        assert answer.status_code == 200, other


DESK_FUNCTIONS = (
    "SELECT oid FROM pg_proc WHERE pronamespace = 'bloodcell'::regnamespace AND starts_with(proname, 'desk_')"
)


@pytest.mark.parametrize(
    "role", ["bloodcell_app", "bloodcell_reader", "bloodcell_reviewer", "bloodcell_desk", "public"]
)
def test_only_the_role_of_the_desk_may_call_its_functions(running_desk: RunningDesk, role: str) -> None:
    may = running_desk.rows(
        "SELECT p.proname, has_function_privilege(:role, p.oid, 'EXECUTE') FROM pg_proc p "
        f"WHERE p.oid IN ({DESK_FUNCTIONS})",
        role=role,
    )
    assert len(may) > 8
    allowed = {name for name, allowed in may if allowed}
    assert allowed == ({name for name, _ in may} - {"desk_writer"} if role == "bloodcell_desk" else set())


@pytest.mark.parametrize("role", ["bloodcell_app", "bloodcell_reader", "bloodcell_reviewer", "bloodcell_desk"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT token_digest FROM bloodcell.desk_session",
        "UPDATE bloodcell.desk_session SET ended_at = NULL, ended_for = NULL",
        "INSERT INTO bloodcell.desk_session (token_digest, person, roles, method, idle_s, expires_at) "
        "VALUES ('x', 'anna', '{senior}', 'local', 900, now() + interval '1 h')",
        "INSERT INTO bloodcell.slide_lease (slide_id, session_id, person, held_until) SELECT 1, 1, 'anna', now()",
        "INSERT INTO bloodcell.slide_opening (slide_id, session_id, person) SELECT 1, 1, 'anna'",
        "INSERT INTO bloodcell.slide_comment (slide_id, text, person, session_id, client_key) "
        "SELECT 1, 'x', 'anna', 1, gen_random_uuid()",
        "SELECT bloodcell.sign_newest('S', 1, 'final', NULL, 'anna', NULL)",
    ],
)
def test_no_role_reads_a_token_or_writes_past_the_functions(
    running_desk: RunningDesk, role: str, statement: str
) -> None:
    with refused(), connect(running_desk.database_url, role=role).begin() as connection:
        connection.execute(sa.text(statement))


def test_the_app_writes_no_label_in_the_name_of_a_session(running_desk: RunningDesk) -> None:
    cell = running_desk.slide({"neutrophil": 1}).all_cells[0]
    session = running_desk.session("anna")
    statement = (
        "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source, session_id, "
        "client_key) VALUES (:cell, 'ig', 'anna', now(), false, 'desk', :session, gen_random_uuid())"
    )
    app = Database(connect(running_desk.database_url, role="bloodcell_app"), patience_s=0)
    with refused(), app.begin() as connection:
        connection.execute(sa.text(statement), {"cell": cell, "session": session.session_id})
