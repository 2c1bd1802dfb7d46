"""Writes a night while twenty readers do their worst: it may take 1.2 times as long at most, with equal rows.

    python -m benchmarks.acceptance.bad_readers WORK [--rounds 5] [--slides 8] [--cells 30] [--burning 0]

Draws a night and, in turn, ingests, classifies and adds it up alone and beside the readers, each time in a fresh
database whose month has no partition yet. The readers have logins as the documentation makes them, and switch their
time-outs off. All open connections until they are refused. Some keep transactions and cursors open after reading every
view, some hold every advisory lock that bloodcell ever took, some try to lock, change and end what is not theirs, and
some read an endless COPY. `--burning` replaces that many of them by readers whose endless joins keep a core busy;
no setting of Postgres limits those to less than a core each. Ends with status 1 if a figure is missed.
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg2
import sqlalchemy as sa

from benchmarks.speed.place import administer
from bloodcell.classify import classify_shard, plan_shards
from bloodcell.drawing import make_drop
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import open_bundle
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import limit_logins, upgrade
from tests.laboratory import make_champion

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier, Event

NIGHT: Final = date(2026, 3, 14)
N_READERS: Final = 20
AT_MOST: Final = 1.2
RESERVED: Final = 20
VARIANT: Final = "inception_v3_svm"
FORMER_KEYS: Final = (0x70726F6D6F7465, 0x636865636B, 0x73706C6974, 0x626C6F6F64)
"""Keys of the advisory locks that release 0.2.0 took, besides those of slides and partitions."""
ROWS: Final = """
SELECT s.barcode, c.file_name, k.model_id, k.called_class, k.top_class, k.unclassified_reason,
       round(k.confidence::numeric, 3)
FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id) JOIN bloodcell.slide s USING (slide_id)
UNION ALL
SELECT s.barcode, d.class, r.model_id, d.n_cells::text, d.percentage::text, d.flag, NULL
FROM bloodcell.differential d JOIN bloodcell.slide_report r USING (report_id) JOIN bloodcell.slide s USING (slide_id)
UNION ALL
SELECT barcode, path, outcome, reason, sha256, NULL, NULL FROM bloodcell.drop_file
ORDER BY 1, 2, 3, 4
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--cells", type=int, default=30, help="cells per slide")
    parser.add_argument("--burning", type=int, default=0, help="readers that keep a core busy")
    arguments = parser.parse_args()
    server = embedded_database(Settings(data_dir=arguments.work / "data"))
    administer(server.url("postgres"), f"ALTER SYSTEM SET reserved_connections = {RESERVED}")
    server.stop()
    server = embedded_database(Settings(data_dir=arguments.work / "data"))
    try:
        make_template(server, arguments.work)
        make_drop(arguments.work / "drops", night=NIGHT, n_slides=arguments.slides, cells_per_slide=arguments.cells)
        return compared(server, arguments.work, arguments.rounds, arguments.burning)
    finally:
        server.stop()


def make_template(server: EmbeddedPostgres, work: Path) -> None:
    """Makes the migrated database with a champion that each round copies, and the logins of service and readers."""
    logins = [f"CREATE ROLE bad_{n} LOGIN IN ROLE bloodcell_reader" for n in range(N_READERS)]
    administer(server.url("postgres"), "CREATE DATABASE migrated")
    upgrade(server.url("migrated"))
    for statement in ("CREATE ROLE service LOGIN IN ROLE bloodcell_app", *logins):
        administer(server.url("postgres"), statement)
    limit_logins(server.url("migrated"))
    (champion,) = (b.folder for b in shipped_bundles() if b.manifest.variant == VARIANT)
    make_champion(Settings(data_dir=work, database_url=server.url("migrated")), open_bundle(champion))


def compared(server: EmbeddedPostgres, work: Path, rounds: int, n_burning: int) -> int:
    write_night(server, work, "warm")  # loads the model
    alone, beside, seen, rows = [], [], [], []
    for number in range(rounds):
        took, expected = write_night(server, work, f"alone_{number}")
        alone.append(took)
        fresh(server, f"beside_{number}")
        with bad_readers(server, f"beside_{number}", n_burning):
            seen.append(refused_and_held(server, f"beside_{number}"))
            took, found = write_night(server, work, f"beside_{number}")
        beside.append(took)
        rows.append(found == expected and len(found) > 0)
        print(f"round {number + 1}: alone {alone[-1]:.1f} s, beside the readers {took:.1f} s, {len(found)} rows, "
              f"{'equal' if rows[-1] else 'DIFFERENT'}; {seen[-1]}", flush=True)  # fmt: skip
    ratio = statistics.median(beside) / statistics.median(alone)
    pairs = ", ".join(f"{b / a:.2f}" for a, b in zip(alone, beside, strict=True))
    print(f"beside {N_READERS} readers ({n_burning} of them burning a core) the night takes {ratio:.2f} times as long "
          f"(median of {rounds}; by round: {pairs}); at most {AT_MOST} is allowed")  # fmt: skip
    return 0 if ratio <= AT_MOST and all(rows) else 1


def fresh(server: EmbeddedPostgres, name: str) -> None:
    if name not in administer(server.url("postgres"), "SELECT datname FROM pg_database"):
        administer(server.url("postgres"), f"CREATE DATABASE {name} TEMPLATE migrated")


def write_night(server: EmbeddedPostgres, work: Path, name: str) -> tuple[float, list[Any]]:
    """Returns the seconds that a night takes in the database of this name, and the rows that it wrote."""
    fresh(server, name)
    url = sa.make_url(server.url(name)).set(username="service").render_as_string(hide_password=False)
    settings = Settings(
        data_dir=work, database_url=url, drops_dir=work / "drops", store_url=str(work / "store"), settle_s=0
    )
    started = time.monotonic()
    ingest_night(work / "drops" / NIGHT.isoformat(), settings)
    for shard in plan_shards(settings, night=NIGHT):
        classify_shard(shard, settings)
    write_due_results(settings, night=NIGHT)
    took = time.monotonic() - started
    with connect(server.url(name)).connect() as connection:
        return took, [tuple(row) for row in connection.execute(sa.text(ROWS))]


def refused_and_held(server: EmbeddedPostgres, name: str) -> str:
    """Says what the readers hold."""
    with connect(server.url(name)).connect() as connection:
        connections, idle, locks = connection.execute(
            sa.text(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'bad%'), "
                "(SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'bad%' AND state = 'idle in transaction'), "
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"
            )
        ).one()
    return f"readers hold {connections} connections, {idle} open transactions, {locks} advisory locks"


@contextmanager
def bad_readers(server: EmbeddedPostgres, name: str, n_burning: int) -> Iterator[None]:
    """Runs the readers in a process of their own, once each has begun its mischief."""
    context = multiprocessing.get_context("spawn")
    begun, stop = context.Barrier(2), context.Event()
    process = context.Process(target=misbehave, args=(server.url(name), n_burning, begun, stop))
    process.start()
    try:
        begun.wait(120)
        yield
    finally:
        stop.set()
        administer(server.url(name), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'bad%'")
        process.kill()
        process.join()


def misbehave(url: str, n_burning: int, begun: Barrier, stop: Event) -> None:
    peers, ready = threading.Barrier(N_READERS), threading.Barrier(N_READERS + 1)
    kinds: Iterator[Callable[[Reader], None]] = itertools.chain(
        itertools.repeat(Reader.burn, n_burning),
        itertools.cycle((Reader.stay_idle, Reader.hold_locks, Reader.attack, Reader.copy)),
    )
    for number, kind in zip(range(N_READERS), kinds, strict=False):
        reader = Reader(sa.make_url(url).set(username=f"bad_{number}"), peers, ready, stop)
        threading.Thread(target=kind, args=(reader,), daemon=True).start()
    ready.wait(120)
    begun.wait(120)
    stop.wait()


class Reader:
    """A login with the role bloodcell_reader that does what it can."""

    def __init__(self, url: sa.URL, peers: threading.Barrier, ready: threading.Barrier, stop: Event) -> None:
        host = str(url.query["host"])
        self._address = {"host": host, "user": str(url.username), "dbname": str(url.database)}
        self._peers, self._ready, self._stop = peers, ready, stop
        self._held: list[Any] = []

    def stay_idle(self) -> None:
        """Keeps a transaction with a cursor open after reading every view."""
        cursor = self._read_everything()
        cursor.execute("DECLARE held CURSOR FOR SELECT * FROM bloodcell.cell_result, generate_series(1, 100000)")
        cursor.execute("FETCH 1 FROM held")
        self._take_connections()
        self._stop.wait()

    def hold_locks(self) -> None:
        """Keeps every advisory lock that bloodcell ever took."""
        cursor = self._read_everything()
        for key in FORMER_KEYS:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (key,))
        cursor.execute("SELECT pg_advisory_xact_lock_shared(hashtext('bloodcell.cell_call_' || to_char(d, 'YYYY_MM'))) "
                       "FROM generate_series(date '2026-01-01', '2026-12-01', '1 month') d")  # fmt: skip
        cursor.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended(n::text, 0)) "
                       "FROM generate_series(1, 200) n")  # fmt: skip
        self._take_connections()
        self._stop.wait()

    def attack(self) -> None:
        """Tries to lock, to change and to end what is not its own."""
        cursor = self._connect(autocommit=True)
        cursor.execute("SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell'")
        names = [name for (name,) in cursor.fetchall()] + ["cell", "cell_call", "slide", "lock", "run", "promotion"]
        self._take_connections()
        while not self._stop.is_set():
            for name in names:
                for statement in (
                    *(f"BEGIN; LOCK TABLE bloodcell.{name} IN {mode} MODE; SELECT pg_sleep(0.1); ROLLBACK"
                      for mode in ("ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE", "ACCESS SHARE")),
                    f"SELECT * FROM bloodcell.{name} FOR UPDATE",
                    f"DROP VIEW bloodcell.{name}",
                    f"TRUNCATE bloodcell.{name}",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'service'",
                ):  # fmt: skip
                    with suppress(psycopg2.Error):
                        cursor.execute(statement)
                    with suppress(psycopg2.Error):
                        cursor.execute("ROLLBACK")
                    time.sleep(0.05)

    def copy(self) -> None:
        """Reads an endless COPY, slowly."""
        cursor = self._connect()
        self._take_connections()
        with suppress(psycopg2.Error):
            cursor.copy_expert("COPY (SELECT generate_series(1, 1000000000), repeat('x', 1000)) TO STDOUT", _Slow())

    def burn(self) -> None:
        """Keeps a core busy with an endless join."""
        cursor = self._connect()
        self._take_connections()
        with suppress(psycopg2.Error):
            cursor.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, "
                           "generate_series(1, 100000) c WHERE a + b = c")  # fmt: skip

    def _take_connections(self) -> None:
        """Opens connections until Postgres refuses one, when all readers have the one that they need."""
        self._peers.wait()
        with suppress(psycopg2.OperationalError):
            while True:
                self._connect()
        self._ready.wait()

    def _read_everything(self) -> Any:
        cursor = self._connect()
        cursor.execute("SELECT viewname FROM pg_views WHERE schemaname = 'bloodcell'")
        for (name,) in cursor.fetchall():
            cursor.execute(f'SELECT * FROM bloodcell."{name}" LIMIT 1')
        return cursor

    def _connect(self, *, autocommit: bool = False) -> Any:
        connection = psycopg2.connect(**self._address)
        connection.autocommit = True
        self._held.append(connection)
        cursor = connection.cursor()
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
            cursor.execute(f"SET {name} = 0")
        connection.autocommit = autocommit
        return cursor


class _Slow(io.RawIOBase):
    def write(self, data: Any) -> int:
        time.sleep(0.01)
        return len(data)


if __name__ == "__main__":
    sys.exit(main())
