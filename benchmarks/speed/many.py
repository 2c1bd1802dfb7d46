"""Ten million calls in Postgres: how long queries take, and how fast rows are written.

    python -m benchmarks.speed.many [WORK] [--calls 10000000] [--results FILE]

SQL makes up the rows (three hundred nights, a hundred cells per slide, the four shipped models), the library counts
the slides and makes their results, and SQL gives each result four versions. Takes a quarter of an hour and 10 GB. WORK
is kept, so that a rerun only measures. Writes MANY.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from benchmarks.speed.line import machine
from bloodcell.registry.shipped import install_shipped
from bloodcell.resources import sql_folder
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.connections import psql_command
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade

N_NIGHTS, N_MODELS, CELLS_PER_SLIDE, N_VERSIONS = 300, 4, 100, 4
RESULTS = Path(__file__).parent / "MANY.md"
N_TIMES = 5

FILL = """
    INSERT INTO bloodcell.run (run_id, stage, state, code_version, host)
    VALUES ('00000000-0000-4000-8000-000000000001', 'ingest', 'succeeded', 'many', 'many');
    INSERT INTO bloodcell."drop" (night, folder, completed_at, first_seen_at, run_id)
    SELECT night, night::text, night + interval '30 hours', night + interval '26 hours',
           '00000000-0000-4000-8000-000000000001'
    FROM (SELECT date '{last}' - n AS night FROM generate_series(0, {nights} - 1) n) nights;
    INSERT INTO bloodcell.slide (barcode, night, patient_key, record_state, run_id)
    SELECT 'M' || lpad(n::text, 8, '0'), date '{last}' - (n % {nights})::int, 'P' || n % 20000, 'read',
           '00000000-0000-4000-8000-000000000001'
    FROM generate_series(1, {slides}) n;
    INSERT INTO bloodcell.image (sha256, size_bytes, width_px, height_px, format)
    SELECT encode(sha256(n::text::bytea), 'hex'), 15000, 360, 363, 'JPEG'
    FROM generate_series(1, {cells}) n;
    INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, analyser_code, analyser_class, run_id)
    SELECT s.slide_id, 'SNE_' || lpad(n::text, 8, '0') || '.jpg', s.night, encode(sha256(n::text::bytea), 'hex'),
           'SNE', 'neutrophil', '00000000-0000-4000-8000-000000000001'
    FROM generate_series(1, {cells}) n
    JOIN bloodcell.slide s ON s.barcode = 'M' || lpad(((n - 1) / {per_slide} + 1)::text, 8, '0');
    INSERT INTO bloodcell.drop_file (night, path, barcode, outcome, cell_id, sha256, size_bytes, changed_ns, run_id)
    SELECT c.night, s.barcode || '/' || c.file_name, s.barcode, 'cell', c.cell_id, c.sha256, 15000, 1,
           '00000000-0000-4000-8000-000000000001'
    FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id);
    SELECT bloodcell.ensure_call_partition(month::date)
    FROM generate_series(date_trunc('month', date '{last}' - {nights}), date '{last}', interval '1 month') month;
"""
CALLS = """
    INSERT INTO bloodcell.cell_call (cell_id, model_id, night, called_class, top_class, unclassified_reason, confidence,
        novelty, p_basophil, p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet,
        run_id)
    SELECT cell_id, '{model}', night,
           CASE WHEN draw < 3 THEN 'unclassified' ELSE top END, top, CASE WHEN draw < 3 THEN 'novel' END, 0.98, draw,
           0, 0, 0, 0, 0.01, 0.01, 0.98, 0, '00000000-0000-4000-8000-000000000001'
    FROM (SELECT cell_id, night, draw,
                 CASE WHEN draw < 60 THEN 'neutrophil' WHEN draw < 90 THEN 'lymphocyte' WHEN draw < 96 THEN 'monocyte'
                      WHEN draw < 99 THEN 'eosinophil' ELSE 'basophil' END AS top
          FROM (SELECT cell_id, night, abs(hashint8(cell_id)) % 100 AS draw FROM bloodcell.cell
                WHERE night BETWEEN '{first}' AND '{last}') c) k
    ORDER BY night, cell_id
"""


# a slide in two is signed, and a version made since then waits for a person
VERSIONS = """
    INSERT INTO bloodcell.result
        (slide_id, number, state, report_id, causes, withheld_for, review_for, digest, run_id,
         signed_by)
    SELECT v.slide_id, v.number + n, CASE WHEN signs THEN 'final' ELSE v.state END, v.report_id, '{{calls}}',
           v.withheld_for, v.review_for, v.digest, CASE WHEN NOT signs THEN v.run_id END,
           CASE WHEN signs THEN 'anna' END
    FROM bloodcell.result v, generate_series(1, {versions} - 1) n,
         LATERAL (SELECT n = {versions} - 2 AND v.slide_id % 2 = 0 AS signs) s
"""


def main() -> None:
    """Fills, measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.many", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path, nargs="?", default=Path("many-work"))
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    settings = Settings(data_dir=chosen.work.resolve(), settle_s=0)
    with _server(settings) as postgres:
        filled = settings.data_dir / f"filled-{chosen.calls}"
        if not filled.exists():
            _fill(settings, postgres, chosen.calls)
            filled.touch()
        chosen.results.write_text(_measured(settings, postgres))
    print(f"Written: {chosen.results}")


@contextmanager
def _server(settings: Settings) -> Iterator[EmbeddedPostgres]:
    postgres = embedded_database(settings)
    try:
        upgrade(postgres.url())
        yield postgres
    finally:
        postgres.stop()


def _fill(settings: Settings, postgres: EmbeddedPostgres, n_calls: int) -> None:
    install_shipped(settings, open_database(settings))
    last = datetime.now(UTC).date() - timedelta(days=1)
    n_cells = n_calls // N_MODELS
    engine = sa.create_engine(postgres.url(), poolclass=sa.NullPool)
    values = {"last": last, "nights": N_NIGHTS, "slides": n_cells // CELLS_PER_SLIDE, "cells": n_cells}
    for statement in FILL.format(**values, per_slide=CELLS_PER_SLIDE).split(";\n"):
        if statement.strip():
            _said(" ".join(statement.split())[:60], lambda s=statement: _executed(engine, s))  # type: ignore[misc]
    with engine.connect() as connection:
        models = list(connection.scalars(sa.text("SELECT model_id FROM bloodcell.model ORDER BY 1")))
    for model in models:
        text = CALLS.format(model=model, first=last - timedelta(days=N_NIGHTS), last=last)
        _said(f"calls of {model[:12]}", lambda t=text: _executed(engine, t))  # type: ignore[misc]
    _said("analyze", lambda: _executed(engine, "ANALYZE"))
    for n in range(N_NIGHTS):
        night = last - timedelta(days=n)
        _said(f"differentials of {night}", lambda d=night: write_due_results(settings, night=d))  # type: ignore[misc]
    _said("versions", lambda: _executed(engine, VERSIONS.format(versions=N_VERSIONS)))
    _said("analyze", lambda: _executed(engine, "ANALYZE"))


def _executed(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _said(what: str, work: Callable[[], object]) -> None:
    started = time.monotonic()
    work()
    print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)


def _measured(settings: Settings, postgres: EmbeddedPostgres) -> str:
    engine = sa.create_engine(postgres.url(), poolclass=sa.NullPool)
    with engine.connect() as connection:
        counted = {
            name: connection.scalar(sa.text(f"SELECT count(*) FROM bloodcell.{name}"))
            for name in ("cell_call", "cell", "slide", "drop_file", "slide_report", "result")
        }
        size = connection.scalar(sa.text("SELECT pg_size_pretty(pg_database_size(current_database()))"))
        barcode = connection.scalar(sa.text("SELECT max(barcode) FROM bloodcell.slide"))
        last: date = connection.scalar(sa.text("SELECT max(night) FROM bloodcell.slide"))
    month = {"since": f"'{last - timedelta(days=30)}'"}
    slide = {"barcode": f"'{barcode}'"}
    lines = [
        "# Ten million calls",
        "",
        "Written by `python -m benchmarks.speed.many`. "
        "Times are medians of five on an open connection, in the order measured.",
        "",
        *(f"- {fact}" for fact in machine()),
        f"- {', '.join(f'{name} {n:,}' for name, n in counted.items())} rows; {size} in all",
        "",
        "| what | ms | target |",
        "| --- | ---: | --- |",
    ]
    statements = {
        "result of one slide (query 01)": (_query("01_", slide), "under 5 ms"),
        "result of one slide as of a moment (query 39)": (
            _query("39_", slide | {"as_of": "now()::text"}),
            "under 20 ms",
        ),
        "versions of one slide (query 38)": (_query("38_", slide), ""),
        "a month's worklist (query 37)": (_query("37_", month), "under 1,000 ms"),
        "a month's statistics (query 19)": (_query("19_", month), "under 1,000 ms"),
        "twelve months' statistics (query 19)": (_query("19_", {"since": f"'{last - timedelta(days=365)}'"}), ""),
        "unclassified rate of a month (query 15)": (_query("15_", month), ""),
        "operating figures (view `operating_figure`)": ("SELECT * FROM bloodcell.operating_figure", ""),
    }
    plans = []
    with engine.connect() as connection:
        for what, (statement, target) in statements.items():
            took = []
            for _ in range(N_TIMES + 1):
                started = time.perf_counter()
                assert connection.exec_driver_sql(statement, execution_options={"no_parameters": True}).all()
                took.append(1e3 * (time.perf_counter() - started))
            first, *rest = took
            lines.append(f"| {what} | {sorted(rest)[N_TIMES // 2]:,.1f} (the first {first:,.1f}) | {target} |")
            explain = f"EXPLAIN (ANALYZE, BUFFERS) {statement}"
            plan = connection.exec_driver_sql(explain, execution_options={"no_parameters": True}).scalars()
            plans.append(f"## {what[0].upper()}{what[1:]}\n\n```\n" + "\n".join(plan) + "\n```\n")
    lines.append(_every_query(settings, postgres))
    return "\n".join([*lines, "", *plans])


def _query(prefix: str, values: dict[str, str]) -> str:
    """Returns a query's last statement with its psql variables put in."""
    (path,) = (sql_folder() / "queries").glob(f"{prefix}*.sql")
    statement = path.read_text().split("\\endif")[-1].strip().rstrip(";")
    return re.sub(r":'(\w+)'", lambda match: values[match[1]], statement)


def _every_query(settings: Settings, postgres: EmbeddedPostgres) -> str:
    """Returns a sentence that names the queries that are slow when psql runs them with their defaults."""
    command, environment = psql_command(settings)
    slow = []
    for path in sorted((sql_folder() / "queries").glob("*.sql")):
        started = time.perf_counter()
        done = subprocess.run(
            [str(postgres.psql), *command[1:], "-X", "-q", "-f", str(path)],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        took = time.perf_counter() - started
        assert done.returncode == 0, done.stderr
        print(f"{took:7.2f} s  {path.name}", flush=True)
        if took > 1:
            slow.append(f"{path.name} {took:.1f} s")
    return f"\nQueries that take more than one second in psql, with their defaults: {', '.join(slow) or 'none'}."


if __name__ == "__main__":
    main()
