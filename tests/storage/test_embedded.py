"""The embedded server starts again whatever its predecessor left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from bloodcell.errors import DatabaseUnavailableError
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from tests.storage.conftest import until


def kill(server: EmbeddedPostgres) -> None:
    """Kills the postmaster and waits until it is gone."""
    process = psutil.Process(server.server.get_pid())
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def answers(server: EmbeddedPostgres) -> bool:
    with connect(server.url()).connect() as connection:
        return connection.scalar(sa.text("SELECT true")) is True


def test_a_running_server_is_left_alone(own_server: EmbeddedPostgres) -> None:
    pid = own_server.server.get_pid()
    assert own_server.ensure_running() is False
    assert own_server.server.get_pid() == pid


def test_asking_for_the_database_again_finds_the_same_server(
    own_settings: Settings, own_server: EmbeddedPostgres
) -> None:
    assert embedded_database(own_settings).server.get_pid() == own_server.server.get_pid()


def test_asking_for_the_database_starts_a_server_that_died(
    own_settings: Settings, own_server: EmbeddedPostgres
) -> None:
    kill(own_server)
    assert answers(embedded_database(own_settings))


def test_neither_an_error_nor_the_log_of_the_server_quotes_a_row(own_server: EmbeddedPostgres) -> None:
    made = "CREATE TEMPORARY TABLE slide (patient_key text UNIQUE CHECK (patient_key <> 'P-7731'))"
    row = sa.text("INSERT INTO slide VALUES (:key)")
    for refused in ("P-7731", "P-8842"):  # by the check, and as a key that is there twice
        with pytest.raises(sa.exc.IntegrityError) as error, connect(own_server.url()).begin() as connection:
            connection.execute(sa.text(made))
            connection.execute(row, {"key": refused})
            connection.execute(row, {"key": refused})
        shown = "".join(traceback.format_exception(error.value))
        assert "violates" in shown
        assert refused not in shown + (own_server.server.pgdata / "log").read_text()
    assert "violates" in (own_server.server.pgdata / "log").read_text()


def test_a_dead_server_that_was_not_reaped_does_not_count_as_running(own_server: EmbeddedPostgres) -> None:
    # a container without an init leaves a zombie whose process id is in both lock files
    kill(own_server)
    zombie = subprocess.Popen([own_server.psql.with_name("postgres"), "--version"], stdout=subprocess.DEVNULL)
    try:
        until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
        postmaster = own_server.server.pgdata / "postmaster.pid"
        _, *others = postmaster.read_text().splitlines(keepends=True)
        postmaster.write_text("".join([f"{zombie.pid}\n", *others]))
        socket_lock = Path(others[3].strip(), f".s.PGSQL.{others[2].strip()}.lock")
        socket_lock.write_text("".join([f"{zombie.pid}\n", *others]))

        assert own_server.ensure_running() is True
        assert answers(own_server)
    finally:
        zombie.wait()


def test_the_data_folder_of_another_postgres_is_reported_as_not_starting(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(DatabaseUnavailableError, match=r"(?s)does not start.*version 9") as caught:
        embedded_database(Settings(data_dir=tmp_path))
    assert str(tmp_path) in str(caught.value)


COME_AND_GO = """
import sys
from pathlib import Path
from bloodcell.settings import Settings
from bloodcell.storage.embedded import _register, embedded_database

server = embedded_database(Settings(data_dir=Path(sys.argv[1]))).server
for _ in range(300):
    _register(server)
    server._cleanup()
"""


def test_no_process_is_forgotten_while_others_come_and_go(own_settings: Settings, own_server: EmbeddedPostgres) -> None:
    with connect(own_server.url()).connect() as connection:  # lost if the last of the others stops the server
        others = [
            subprocess.Popen([sys.executable, "-c", COME_AND_GO, str(own_settings.data_dir)], stdin=subprocess.DEVNULL)
            for _ in range(3)
        ]
        assert [each.wait(120) for each in others] == [0, 0, 0]
        assert connection.scalar(sa.text("SELECT true")) is True
    assert own_server.server.global_process_id_list.get_and_add(os.getpid()) == [os.getpid()]


def test_threads_ask_for_the_server_at_once(own_settings: Settings, own_server: EmbeddedPostgres) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embedded_database(own_settings), range(40)))
    assert {each.server.get_pid() for each in found} == {own_server.server.get_pid()}
