"""Whether pandas, DuckDB, dbt and OMOP's table read what the database says of a month; writes MONTH_EXPORTED.md.

    python -m benchmarks.acceptance.month_exported WORK

Fills a month of nights with signed, corrected, withheld, unsigned and withdrawn slides, exports it with
`bloodcell export` to Parquet and CSV, and compares rows and sums with those of the database. Exit status 1 if any
differ, or if a test of the dbt project or a constraint of OMOP's table fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import sqlalchemy as sa

from bloodcell.presentation.markdown import Markdown, markdown_table
from bloodcell.settings import Settings
from bloodcell.storage.database import Database, open_database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from tests.exchange.analyst import Analyst
from tests.exchange.month import FIRST, LAST, fill_month
from tests.exchange.test_mart_export import omop_measurements

OUT = Path(__file__).parent / "MONTH_EXPORTED.md"
FORMATS = ("parquet", "csv")
SUMS = {
    "mart_slide": ("state", "n_leucocytes"),
    "mart_slide_class": ("class", "n_cells"),
    "mart_cell": ("called_class", "1"),
}
"""Mart -> by which column which figure is added up."""


@dataclass(frozen=True)
class Comparison:
    """A figure by the database and by each program that reads the files."""

    what: str
    expected: Any
    found: Mapping[str, Any]

    @property
    def is_equal(self) -> bool:
        return all(figure == self.expected for figure in self.found.values())

    @property
    def row(self) -> list[str]:
        others = ("equal" if each == self.expected else f"**{shown(each)}**" for each in self.found.values())
        return [self.what, shown(self.expected), *others]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    work: Path = parser.parse_args().work.resolve()
    with month(work) as settings:
        database = open_database(settings)
        compared = list(exported(settings, database, work))
        built = [dbt_built(settings, work), omop_filled(database)]
    head = ["what", "database", *compared[0].found]
    tables = [table(head, [each.row for each in compared]), table(["what", "outcome", ""], built)]
    rows = {each.what: each.expected for each in compared}
    n_slides, n_cells = rows["mart_slide: rows"], rows["mart_cell: rows"]
    size = f"{(LAST - FIRST).days + 1} nights, {n_slides:,} slides that count, {n_cells:,} cells"
    first = f"Written by `python -m benchmarks.acceptance.month_exported` on {datetime.now(UTC):%Y-%m-%d}: {size}."
    OUT.write_text("\n\n".join(["# A month, exported", first, *tables]) + "\n")
    is_good = all(each.is_equal for each in compared) and all(row[-1] == "good" for row in built)
    return int(not is_good)


@contextmanager
def month(work: Path) -> Iterator[Settings]:
    """Yields the settings of a laboratory with a month of nights."""
    server = embedded_database(Settings(data_dir=work / "server"))
    try:
        url = server.url()
        upgrade(url)
        settings = Settings(data_dir=work / "data", database_url=url)
        fill_month(open_database(settings))
        yield settings
    finally:
        server.stop()


def exported(settings: Settings, database: Database, work: Path) -> Iterator[Comparison]:
    """Exports the month by the command line, and yields what the files say beside what the database says."""
    for kind in FORMATS:
        command = [sys.executable, "-m", "bloodcell", "export", "--from", str(FIRST), "--to", str(LAST)]
        command += ["--out", str(work / kind), "--format", kind]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", **settings.as_variables()}, check=True)
    for mart, (by, of) in SUMS.items():
        query = f"SELECT {by}, count(*), sum({of}) FROM {{}} GROUP BY 1"
        with database.connect() as connection:
            expected = figures(connection.execute(sa.text(query.format(f"bloodcell.{mart}"))).all())
        found = {}
        for kind in FORMATS:
            path = work / kind / f"{mart}.{kind}"
            relation = duckdb.sql(query.format(f"'{path}'"))
            assert relation is not None
            found[f"{kind}, pandas"] = with_pandas(path, by, of)
            found[f"{kind}, DuckDB"] = figures(relation.fetchall())
        yield Comparison(f"{mart}: rows", n_rows(expected), {name: n_rows(each) for name, each in found.items()})
        what = f"{mart}: {'cells' if of == '1' else of} by {by}"
        yield Comparison(what, sums(expected), {name: sums(each) for name, each in found.items()})


Figures = Mapping[str, tuple[int, int]]
"""Value of a column -> rows with it, and the sum of a figure over them."""


def figures(rows: Any) -> Figures:
    return {str(value): (int(n), int(total)) for value, n, total in rows}


def with_pandas(path: Path, by: str, of: str) -> Figures:
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    groups = frame.assign(figure=1 if of == "1" else frame[of]).groupby(by)["figure"]
    return figures(zip(groups.groups, groups.size(), groups.sum(), strict=True))


def n_rows(found: Figures) -> int:
    return sum(n for n, _ in found.values())


def sums(found: Figures) -> dict[str, int]:
    return {value: total for value, (_, total) in sorted(found.items()) if total}


def shown(figure: Any) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in figure.items()) if isinstance(figure, dict) else f"{figure:,}"


def dbt_built(settings: Settings, work: Path) -> list[str]:
    assert settings.plain_database_url
    analyst = Analyst.hired(settings.plain_database_url, work)
    done = analyst.dbt("build")
    outcomes = Counter(analyst.outcomes().values())
    is_good = done.returncode == 0 and outcomes.keys() == {"success", "pass"}
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
    return ["`dbt build` as an analyst's login: models and tests", told, "good" if is_good else "**BAD**"]


def omop_filled(database: Database) -> list[str]:
    signed = sa.text(
        "SELECT count(l.percentage) + count(l.absolute_10e9_per_l) FROM bloodcell.mart_slide_class l "
        "WHERE state IN ('final', 'amended', 'corrected')"
    )
    with database.begin() as connection:
        rows, expected = omop_measurements(connection), connection.scalar(signed)
    is_good = len(rows) == len({row.measurement_id for row in rows}) == expected
    told = f"{len(rows):,} rows of the view `omop_measurement`; {expected:,} shares and counts are signed"
    return ["MEASUREMENT of OMOP CDM 5.4, as omop-cdm defines it", told, "good" if is_good else "**BAD**"]


def table(head: list[str], rows: list[list[str]]) -> str:
    return markdown_table([Markdown(cell) for cell in head], [[Markdown(cell) for cell in row] for row in rows])


if __name__ == "__main__":
    sys.exit(main())
