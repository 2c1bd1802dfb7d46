"""What each role may do: readers see only the views, the app never deletes, history cannot be changed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect, psql_command
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade
from tests.conftest import ROOT
from tests.laboratory import NIGHT, Laboratory
from tests.storage.conftest import as_superuser, refused

ONLY_READ = ("bloodcell_reader", "bloodcell_reviewer", "bloodcell_desk")
APPEND_ONLY = {
    "model": "registered_by",
    "promotion": "reason",
    "drop_file_history": "path",
    "label": "labelled_by",
    "label_file": "path",
    "data_split": "split",
    "dataset": "left_out",
    "dataset_image": "split",
    "candidate": "variant",
    "evaluation": "figures",
    "validation": "gates",
    "model_check": "reason",
    "look_check": "reason",
    "sentinel": "chosen_at",
    "sentinel_reference": "host",
    "control_slide": "name",
    "quality_check": "reason",
    "quality_override": "reason",
    "quality_restart": "reason",
    "eqa_round": "name",
    "eqa_reading": "person",
    "eqa_target": "requested_by",
    "checked_cell": "called_class",
    "cell_code": "name",
    "approval_question": "model_id",
    "approval_answer": "decision",
    "erasure": "reason",
    "erasure_removal": "part",
    "erasure_dataset": "split",
    "erased_slide": "barcode",
    "erasure_secret": "secret",
    "slide_withdrawal": "reason",
    "message_attempt": "answer",
    "lab_order": "order_id",
    "message_action": "reason",
    "cell_call": "called_class",
    "former_call": "called_class",
    "slide_report": "n_cells",
    "differential": "n_cells",
    "result": "state",
    "laboratory_rules": "version",
    "sampled_cell": "is_read_twice",
    "lockbox_opening": "reason",
    "slide_opening": "person",
    "slide_comment": "text",
}
TABLES = [table.name for table in tables.metadata.sorted_tables]
CHANGED_BY_APP = {
    "lock",
    "run",
    "drop",
    "drop_file",
    "training_run",
    "receiver",
    "outgoing_message",
    "omop_concept",
}
CHANGED_COLUMNS = {"receiver": "removed_at", "outgoing_message": "state"}  # the app may change only some columns
MAY_WRITE = {
    "bloodcell_reader": [],
    "bloodcell_reviewer": [("bloodcell.cell_label", "INSERT")],
    "bloodcell_desk": [],  # it writes through functions that look up who the session belongs to
}


@pytest.fixture(scope="module")
def laboratory_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A migrated database with a row in most tables, which all tests here share because none of them can change it."""
    from tests.conftest import _administer

    _administer(postgres, f"CREATE DATABASE rights TEMPLATE {template}")
    url = postgres.url("rights")
    laboratory = Laboratory(Database(connect(url, role="bloodcell_app"), patience_s=0))
    laboratory.model()
    cells = laboratory.cells(laboratory.slide("S1"), ["LY", "MO"])
    laboratory.call(cells, ["lymphocyte", "monocyte"])
    laboratory.file("S1/a.jpg", "quarantined", reason="empty")
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.drop_file SET reason = 'truncated'"))
    yield url
    _administer(postgres, "DROP DATABASE rights WITH (FORCE)")


def attempt(url: str, role: str | None, *statements: str) -> None:
    with connect(url, role=role).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def views(url: str) -> list[str]:
    with connect(url).connect() as connection:
        return list(connection.scalars(sa.text("SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell'")))


@pytest.mark.parametrize("role", ONLY_READ)
def test_views_can_be_read_and_tables_cannot(laboratory_url: str, role: str) -> None:
    names = views(laboratory_url)
    assert len(names) > 15
    attempt(laboratory_url, role, *(f'SELECT * FROM bloodcell."{name}"' for name in names))
    for table in (*TABLES, "cell_call_2026_03", "alembic_version"):
        with refused():
            attempt(laboratory_url, role, f'SELECT 1 FROM bloodcell."{table}"')


def test_a_readers_own_view_can_be_shared_with_a_login_that_is_not_a_reader(laboratory_url: str) -> None:
    made = (
        "CREATE ROLE lab_reader",
        "GRANT bloodcell_reader TO lab_reader",
        "CREATE ROLE lab_guest",
        "CREATE SCHEMA lab AUTHORIZATION lab_reader",
        "GRANT USAGE ON SCHEMA lab TO lab_guest",
        "SET ROLE lab_reader",
        *(f'CREATE VIEW lab."{name}" AS SELECT * FROM bloodcell."{name}"' for name in views(laboratory_url)),
        "GRANT SELECT ON ALL TABLES IN SCHEMA lab TO lab_guest",
    )
    try:
        attempt(laboratory_url, None, *made)
        attempt(laboratory_url, "lab_guest", *(f'SELECT * FROM lab."{name}"' for name in views(laboratory_url)))
        with refused():
            attempt(laboratory_url, "lab_guest", "SELECT * FROM bloodcell.slide_differential")
    finally:
        attempt(
            laboratory_url, None, "DROP SCHEMA lab CASCADE", "DROP OWNED BY lab_reader, lab_guest",
            "DROP ROLE lab_reader, lab_guest",
        )  # fmt: skip


@pytest.mark.parametrize("role", ONLY_READ)
def test_a_reader_writes_nothing_and_a_reviewer_only_labels(laboratory_url: str, role: str) -> None:
    writable = sa.text(
        "SELECT c.oid::regclass::text, p FROM pg_class c, "
        "unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN']) p "
        "WHERE relnamespace = 'bloodcell'::regnamespace AND relkind IN ('r', 'p', 'v') "
        "AND has_table_privilege(:role, c.oid, p)"
    )
    with connect(laboratory_url).connect() as connection:
        assert [tuple(row) for row in connection.execute(writable, {"role": role})] == MAY_WRITE[role]
    # a view over one table would accept a change
    for statement in (
        "DELETE FROM bloodcell.file_account",
        "UPDATE bloodcell.file_account SET reason = 'none'",
        "INSERT INTO bloodcell.file_history (night, path, outcome) VALUES (now(), 'p', 'cell')",
        "DELETE FROM bloodcell.cell_call",
        "TRUNCATE bloodcell.cell_call",
    ):
        with refused():
            attempt(laboratory_url, role, statement)


@pytest.mark.parametrize("role", (*ONLY_READ, "bloodcell_app"))
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE bloodcell.own (n int)",
        "CREATE VIEW bloodcell.own AS SELECT 1",
        "CREATE TABLE public.own (n int)",
        "CREATE SCHEMA own",
        "CREATE ROLE own",
        "DROP TRIGGER append_only ON bloodcell.promotion",
        "ALTER TABLE bloodcell.promotion DISABLE TRIGGER ALL",
        "DROP VIEW bloodcell.champion",
        "SET ROLE bloodcell_owner",
    ],
)
def test_nothing_can_be_created_or_altered(laboratory_url: str, role: str, statement: str) -> None:
    if statement.startswith("SET ROLE"):
        # membership is checked instead, because a superuser may set any role
        with connect(laboratory_url).connect() as connection:
            assert not connection.scalar(sa.text("SELECT pg_has_role(:r, 'bloodcell_owner', 'MEMBER')"), {"r": role})
        return
    with refused():
        attempt(laboratory_url, role, statement)


@pytest.mark.parametrize("role", ONLY_READ)
def test_a_reader_cannot_make_partitions_or_statistics(laboratory_url: str, role: str) -> None:
    with refused():
        attempt(laboratory_url, role, "SELECT bloodcell.ensure_call_partition('2040-01-01')")
    with refused():
        attempt(laboratory_url, role, "SELECT bloodcell.analyze_labels()")


@pytest.mark.parametrize("role", (*ONLY_READ, "bloodcell_app"))
@pytest.mark.parametrize(
    "function",
    [
        "keep_drop_file_history",
        "enter_label",
        "require_passed_gates",
        "refuse_change",
        "carry_out_withdrawal",
        "refuse_missing_call",
    ],
)
def test_history_cannot_be_forged_with_a_trigger_on_a_temporary_table(
    laboratory_url: str, role: str, function: str
) -> None:
    with refused():
        attempt(
            laboratory_url,
            role,
            "CREATE TEMP TABLE own (LIKE bloodcell.cell_label)",
            f"CREATE TRIGGER forge AFTER UPDATE ON own FOR EACH ROW EXECUTE FUNCTION bloodcell.{function}()",
        )


@pytest.mark.parametrize(
    ("column", "value"), [("recorded_by", "'anna'"), ("recorded_at", "now() - interval '1 year'"), ("label_id", "1")]
)
def test_the_database_sets_who_wrote_a_label_and_when(laboratory_url: str, column: str, value: str) -> None:
    statement = (
        f"INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, source, {column}) "
        f"OVERRIDING SYSTEM VALUE SELECT cell_id, 'ig', 'anna', now(), false, 'csv', {value} FROM bloodcell.cell"
    )
    with refused():
        attempt(laboratory_url, "bloodcell_app", statement)


def test_the_app_cannot_add_codes(laboratory_url: str) -> None:
    with refused():
        attempt(laboratory_url, "bloodcell_app", "INSERT INTO bloodcell.cell_code VALUES ('X', 'ig', 'x')")


@pytest.mark.parametrize("table", [*TABLES, "alembic_version", "cell_call_2026_03"])
def test_the_app_can_delete_nothing(laboratory_url: str, table: str) -> None:
    for statement in (f'DELETE FROM bloodcell."{table}"', f'TRUNCATE bloodcell."{table}" CASCADE'):
        with refused():
            attempt(laboratory_url, "bloodcell_app", statement)


def test_the_app_changes_only_tables_that_a_stage_updates(laboratory_url: str) -> None:
    for table in tables.metadata.sorted_tables:
        column = CHANGED_COLUMNS.get(table.name) or next(c.name for c in table.columns if not c.name.endswith("_id"))
        statement = f'UPDATE bloodcell."{table.name}" SET "{column}" = "{column}"'
        if table.name in CHANGED_BY_APP:
            attempt(laboratory_url, "bloodcell_app", statement)
        else:
            with refused():
                attempt(laboratory_url, "bloodcell_app", statement)


def test_the_app_adds_to_history_only_by_examining_a_file_again(laboratory_url: str) -> None:
    with refused():
        attempt(
            laboratory_url,
            "bloodcell_app",
            "INSERT INTO bloodcell.drop_file_history (night, path, outcome, run_id) "
            "VALUES (now(), 'p', 'cell', gen_random_uuid())",
        )
    with connect(laboratory_url, role="bloodcell_reader").connect() as connection:
        history = connection.execute(sa.text("SELECT night, path, outcome, reason FROM bloodcell.file_history")).all()
    assert [tuple(row) for row in history] == [(NIGHT, "S1/a.jpg", "quarantined", "empty")]


def test_every_reported_fact_is_append_only() -> None:
    # a slide is completed by later records, an image is removed because of its age, a renamed slide's cells move
    completed = {"slide", "image", "cell", "erasure_pending"}
    # a session of the desk is used and ends, and a lease runs out: only functions of the desk change them
    completed |= {"desk_session", "slide_lease"}
    assert set(TABLES) == APPEND_ONLY.keys() | CHANGED_BY_APP | completed


@pytest.mark.parametrize("role", ["bloodcell_owner", None])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_not_even_the_owner_changes_an_append_only_table(laboratory_url: str, table: str, role: str | None) -> None:
    column = APPEND_ONLY[table]
    for statement in (
        f"UPDATE bloodcell.{table} SET {column} = {column}",
        f"DELETE FROM bloodcell.{table}",
        f"TRUNCATE bloodcell.{table} CASCADE",
    ):
        with refused():
            attempt(laboratory_url, role, statement)


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server without bloodcell's roles."""
    server = embedded_database(Settings(data_dir=tmp_path / "fresh"))
    yield server
    server.stop()


def test_on_a_laboratorys_own_server_every_login_has_a_password_and_the_service_may_read(
    tmp_path: Path, fresh_server: EmbeddedPostgres
) -> None:
    """Follows docker/README.md: the script, a migration as bloodcell_admin, then psql as the service's login."""
    server = sa.make_url(fresh_server.url("postgres"))
    environment = {
        "PATH": f"{fresh_server.psql.parent}:/usr/bin:/bin", "PGHOST": str(server.query["host"]),
        "POSTGRES_USER": str(server.username), "SECRETS": str(tmp_path),
    }  # fmt: skip
    logins = (
        "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL "
        "AND (rolname = 'airflow' OR rolname LIKE 'bloodcell%') ORDER BY 1"
    )

    def made() -> tuple[int, list[str]]:
        script = ["sh", str(ROOT / "docker" / "postgres-init.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, check=False)
        with as_superuser(fresh_server.url("postgres")).connect() as connection:
            return done.returncode, list(connection.scalars(sa.text(logins)))

    for name in ("airflow_password", "bloodcell_password", "bloodcell_desk_password", "grafana_database_password"):
        (tmp_path / name).write_text(name)
    assert made() == (1, [])
    (tmp_path / "bloodcell_admin_password").write_text("c")
    with as_superuser(fresh_server.url("postgres")).connect() as connection:
        for database in ("airflow", "bloodcell"):
            connection.execute(sa.text(f"DROP DATABASE {database}"))  # the embedded server made them
    assert made() == (0, ["airflow", "bloodcell", "bloodcell_admin", "bloodcell_desk_login", "bloodcell_grafana"])

    def url(login: str) -> str:
        return server.set(username=login, database="bloodcell").render_as_string(hide_password=False)

    upgrade(url("bloodcell_admin"))
    command, given = psql_command(Settings(database_url=url("bloodcell")))
    reading = [str(fresh_server.psql), *command[1:], "-XAtc", "SELECT current_user, count(*) FROM night_summary"]
    asked = subprocess.run(reading, env=environment | given, capture_output=True, text=True, check=False)
    assert asked.stdout == "bloodcell_reader|0\n", asked.stderr
