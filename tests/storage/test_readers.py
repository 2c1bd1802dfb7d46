"""What readers do keeps neither the laboratory nor an upgrade waiting; a reader's login has limits."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.storage import migrations
from bloodcell.storage.connections import _READER_LIMITS, connect
from bloodcell.storage.database import Database
from bloodcell.storage.locks import wait_for
from bloodcell.storage.migrations import limit_logins, upgrade
from tests.conftest import ROOT
from tests.laboratory import Laboratory
from tests.storage.conftest import as_superuser, refused

FORMER_LOCKS = (0x70726F6D6F7465, 0x636865636B, 0x73706C6974, 0x626C6F6F64)
ENSURE = sa.text("SELECT bloodcell.ensure_call_partition(:night)")


def login_url(url: str, login: str) -> str:
    return sa.make_url(url).set(username=login).render_as_string(hide_password=False)


@pytest.fixture
def logins(database_url: str) -> Iterator[tuple[str, str]]:
    """URLs of a reader's and a reviewer's login."""
    with as_superuser(database_url).connect() as connection:
        for login, role in (("some_reader", "bloodcell_reader"), ("some_reviewer", "bloodcell_reviewer")):
            connection.execute(sa.text(f"CREATE ROLE {login} LOGIN IN ROLE {role}"))
        yield login_url(database_url, "some_reader"), login_url(database_url, "some_reviewer")
        for login in ("some_reader", "some_reviewer"):
            gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = :login"
            connection.execute(sa.text(gone), {"login": login})
            connection.execute(sa.text(f"DROP ROLE {login}"))


def partitions(connection: sa.Connection) -> list[str]:
    of = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'bloodcell.cell_call'::regclass ORDER BY 1"
    return list(connection.scalars(sa.text(of)))


def read_everything(connection: sa.Connection) -> None:
    views = "SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell'"
    for view in connection.scalars(sa.text(views)).all():
        connection.execute(sa.text(f'SELECT * FROM bloodcell."{view}" LIMIT 1'))


def test_a_readers_open_transaction_does_not_delay_new_partitions(database: Database, logins: tuple[str, str]) -> None:
    with connect(logins[0]).connect() as reader, database.begin() as connection:
        read_everything(reader)
        connection.execute(sa.text("SET LOCAL lock_timeout = '3s'"))
        connection.execute(ENSURE, {"night": date(2031, 12, 24)})
        made = ["bloodcell.cell_call_2031_12", "bloodcell.cell_call_2032_01"]
        assert partitions(connection) == made
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "3s"
        # each has what the table has: CREATE TABLE LIKE copies no foreign keys, but attaching does
        constraints = sa.text(
            "SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = ANY (CAST(:tables AS regclass[])) AND contype <> 'n' ORDER BY 1, 2, 3"
        )
        found: dict[str, list[tuple[str, str]]] = {}
        for table, kind, text in connection.execute(constraints, {"tables": ["bloodcell.cell_call", *made]}):
            found.setdefault(table, []).append((kind, text))
        assert found[made[0]] == found[made[1]] == found["bloodcell.cell_call"]
        assert [kind for kind, _ in found[made[0]]].count("f") == 3


def test_a_reviewer_who_locks_the_view_of_labels_does_not_delay_the_calls_of_the_month(
    database: Database, logins: tuple[str, str]
) -> None:
    laboratory = Laboratory(database)
    laboratory.model()
    (cell,) = laboratory.cells(laboratory.slide("S1"), ["LY"])
    with connect(logins[1]).connect() as reviewer:
        # locks the tables below the view against what the foreign keys of a new partition need
        reviewer.execute(sa.text("LOCK TABLE bloodcell.cell_label IN ROW EXCLUSIVE MODE"))
        laboratory.call([cell], ["lymphocyte"])
        started = time.monotonic()
        database.transact(lambda c: c.execute(ENSURE, {"night": date(2026, 4, 30)}))  # April is there, May is not
        assert time.monotonic() - started < 5
        with database.begin() as connection:
            assert "bloodcell.cell_call_2026_05" not in partitions(connection)
    database.transact(lambda c: c.execute(ENSURE, {"night": date(2026, 4, 30)}))
    with database.begin() as connection:
        assert "bloodcell.cell_call_2026_05" in partitions(connection)


def test_two_classifications_that_open_a_month_together_both_find_its_partition(
    database: Database, database_url: str
) -> None:
    night = {"night": date(2031, 12, 24)}
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, database.begin() as first, as_superuser(database_url).connect() as observer:
        first.execute(ENSURE, night)
        second = pool.submit(database.transact, lambda c: c.execute(ENSURE, night))
        while not observer.scalar(sa.text(waiting)):
            assert not second.done()
            time.sleep(0.01)
        first.commit()
        second.result()
        assert partitions(observer) == ["bloodcell.cell_call_2031_12", "bloodcell.cell_call_2032_01"]


def test_no_statement_of_bloodcell_takes_a_lock_that_every_login_may_hold() -> None:
    files = [path for folder in ("bloodcell", "dags", "sql") for path in (ROOT / folder).rglob("*.*")]
    texts = {path.name: path.read_text() for path in files if path.suffix in (".py", ".sql")}
    taken = {name for name, text in texts.items() if re.search(r"pg_(try_)?advisory", text)}
    assert taken == {"0001_first_schema.py", "0006_locks.py"}  # the first is replaced, the second is its downgrade


@pytest.mark.parametrize(
    ("role", "functions"), [("bloodcell_reader", []), ("bloodcell_reviewer", ["override_check", "sign_result"])]
)
def test_a_reader_calls_no_function_with_the_owners_rights_and_a_reviewer_only_signs_and_overrides(
    database: Database, role: str, functions: list[str]
) -> None:
    callable_ones = sa.text(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'bloodcell'::regnamespace AND prosecdef "
        "AND has_function_privilege(:role, oid, 'EXECUTE')"
    )
    with database.begin() as connection:
        assert sorted(connection.scalars(callable_ones, {"role": role})) == functions


@pytest.mark.parametrize("work", ["check", "promotion", "split"])
def test_work_waits_for_the_same_work_only_and_for_no_reader(
    database: Database, logins: tuple[str, str], work: str
) -> None:
    for url in logins:
        for statement in ("SELECT * FROM bloodcell.lock FOR SHARE", "LOCK TABLE bloodcell.lock IN ACCESS SHARE MODE"):
            with refused(), connect(url).begin() as connection:
                connection.execute(sa.text(statement))
    with connect(logins[0]).connect() as reader, database.begin() as first, database.begin() as second:
        for key in FORMER_LOCKS:
            reader.execute(sa.select(sa.func.pg_advisory_lock(key)))
        wait_for(first, work)  # type: ignore[arg-type]
        second.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
        with refused("55P03"), second.begin_nested():
            wait_for(second, work)  # type: ignore[arg-type]
        wait_for(second, "split" if work == "check" else "check")


@pytest.mark.parametrize(
    ("setting", "statement"),
    [("lock_timeout", "SELECT 1 FROM bloodcell.lock FOR UPDATE"), ("statement_timeout", "SELECT pg_sleep(9)")],
)
def test_a_transaction_that_takes_too_long_is_an_error_of_the_kind_that_is_retried(
    database: Database, setting: str, statement: str
) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.text(f"SET LOCAL {setting} = '50ms'"))
        connection.execute(sa.text(statement))

    with database.begin() as first:
        wait_for(first, "promotion")
        with pytest.raises(DatabaseUnavailableError, match=setting.replace("_", " ")):
            database.transact(work, patience_s=30)


def test_an_upgrade_names_the_session_that_it_would_have_to_wait_for(
    database_url: str, logins: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_LONGEST_WAIT_S", 1)
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text("COMMENT ON SCHEMA bloodcell IS 'views of another release'"))
    with connect(logins[0]).connect() as reader:
        reader.execute(sa.text("SELECT 1 FROM bloodcell.champion"))
        pid = reader.scalar(sa.text("SELECT pg_backend_pid()"))
        with pytest.raises(DatabaseUnavailableError, match=f"process {pid} of some_reader since .*Nothing was changed"):
            upgrade(database_url)
    upgrade(database_url)


def test_logins_of_readers_get_limits_once_and_those_of_the_service_none(
    database_url: str, logins: tuple[str, str]
) -> None:
    made = "CREATE ROLE some_{0} LOGIN {1} IN ROLE bloodcell_reader, {2}"
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text(made.format("service", "", "bloodcell_app")))
        connection.execute(sa.text(made.format("program", "CONNECTION LIMIT 20", "bloodcell_reader")))
        try:
            assert limit_logins(database_url) == []
            limits = sa.text(
                "SELECT rolname, rolconnlimit, rolconfig, pg_has_role(oid, 'pg_use_reserved_connections', 'USAGE') "
                "FROM pg_roles WHERE rolname LIKE 'some\\_%'"
            )
            rows = {name: tuple(row) for name, *row in connection.execute(limits)}
            assert limit_logins(database_url) == []
        finally:
            connection.execute(sa.text("DROP ROLE some_service, some_program"))
    assert rows["some_service"] == (-1, None, True)
    assert rows["some_program"] == (20, None, False)
    for login in ("some_reader", "some_reviewer"):
        n, config, may_use_the_reserve = rows[login]
        assert (n, may_use_the_reserve) == (5, False)
        assert {f"{name}={value}" for name, value in _READER_LIMITS.items()} < set(config)
        assert {"temp_file_limit=10GB", "max_parallel_workers_per_gather=0"} < set(config)
    connections = [connect(logins[0]).connect() for _ in range(5)]
    with pytest.raises(sa.exc.OperationalError, match="too many connections for role"):
        connect(logins[0]).connect()
    for connection in connections:
        connection.close()


def test_who_may_not_limit_a_login_learns_its_name(database_url: str, logins: tuple[str, str]) -> None:
    assert limit_logins(logins[0]) == ["some_reader", "some_reviewer"]
