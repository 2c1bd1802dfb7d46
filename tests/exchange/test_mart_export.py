"""Results as files: what analysts' programs read is what the database says."""

from __future__ import annotations

import csv
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from omop_cdm.regular.cdm54 import Measurement

from bloodcell.exchange.mart_export import MARTS, export_marts
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, NIGHT, Laboratory


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    """Three slides: a signed and corrected one, one with a barcode like a formula, and one that was withdrawn."""
    laboratory = Laboratory(database)
    laboratory.model()
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    for barcode in ("S-1", "=1+1", "S-3"):
        slide = laboratory.slide(barcode, wbc_10e9_per_l=7.5, wbc_is_corrected=False)
        cells = laboratory.cells(slide, ["SNE"] * 60 + ["LY"] * 59 + [None])
        calls = ["neutrophil"] * 60 + ["lymphocyte"] * 59 + ["unclassified"]
        laboratory.call(cells, calls)
        laboratory.call(cells, calls, CHALLENGER)
        laboratory.count(slide)
        if barcode == "S-1":
            laboratory.label(cells[-1:], ["BL"])
            laboratory.count(slide)
            laboratory.sign("S-1", 2)
    with database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
            "SELECT slide_id, 'withdraw', 'wrong tube', 'anna', run_id FROM bloodcell.slide WHERE barcode = 'S-3'"
        )
    return laboratory


def test_pandas_and_duckdb_read_what_the_database_says(laboratory: Laboratory, tmp_path: Path) -> None:
    exported = export_marts(laboratory.database, tmp_path, NIGHT, NIGHT, "parquet")
    assert [(each.path.name, each.n_rows) for each in exported[:3]] == [
        ("mart_slide.parquet", 2), ("mart_slide_class.parquet", 19), ("mart_cell.parquet", 240),
    ]  # fmt: skip
    slides = pd.read_parquet(tmp_path / "mart_slide.parquet").set_index("barcode")
    assert list(slides.index) == ["=1+1", "S-1"]
    signed = slides.to_dict("index")["S-1"]
    assert (signed["state"], signed["n_leucocytes"], signed["neutrophil_percent"]) == ("final", 120, 50.0)
    assert signed["other_percent"] == pytest.approx(100 / 120)
    assert signed["neutrophil_10e9_per_l"] == pytest.approx(3.75)
    assert slides["made_at"].dt.tz is not None
    assert slides.loc["=1+1", "withheld_for"] == ""
    relation = duckdb.sql(
        f"SELECT class, sum(n_cells) FROM '{tmp_path}/mart_slide_class.parquet' WHERE n_cells > 0 GROUP BY 1 ORDER BY 1"
    )
    assert relation is not None
    assert relation.fetchall() == [("BL", 1), ("lymphocyte", 118), ("neutrophil", 120), ("unclassified", 1)]
    schema = pyarrow.parquet.read_schema(tmp_path / "mart_cell.parquet")
    assert schema.field("confidence").metadata == {b"comment": b"Calibrated probability of top_class, 0 to 1."}
    own = pd.read_parquet(tmp_path / "mart_cell.parquet")
    with laboratory.database.connect() as connection:
        theirs = [
            dict(row._mapping)
            for row in connection.execute(sa.text("SELECT * FROM bloodcell.mart_cell ORDER BY cell_id"))
        ]
    for mine, stored in zip(own.sort_values("cell_id").to_dict("records"), theirs, strict=True):
        assert {name: plain(value) for name, value in mine.items()} == {
            name: plain(value) for name, value in stored.items()
        }


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return pd.Timestamp(value).tz_convert("UTC").isoformat()
    if isinstance(value, float):
        return None if value != value else pytest.approx(value, rel=1e-6)
    return value


def test_a_spreadsheet_runs_no_formula_of_a_csv_file(laboratory: Laboratory, tmp_path: Path) -> None:
    export_marts(laboratory.database, tmp_path, NIGHT, NIGHT, "csv")
    with (tmp_path / "mart_slide.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["barcode"] for row in rows] == ["'=1+1", "S-1"]
    for mart in MARTS:
        with (tmp_path / f"{mart}.csv").open(newline="") as file:
            assert not [value for row in csv.reader(file) for value in row if value[:1] in "=+@" and value[:1]]


def test_the_dictionary_explains_every_column(laboratory: Laboratory, tmp_path: Path) -> None:
    export_marts(laboratory.database, tmp_path, NIGHT, NIGHT, "csv")
    with (tmp_path / "dictionary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["meaning"] for row in rows)
    with (tmp_path / "mart_slide.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [row["column"] for row in rows if row["mart"] == "mart_slide"]


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_other_nights_and_no_nights_give_files_without_rows(
    laboratory: Laboratory, tmp_path: Path, file_format: Any
) -> None:
    later = NIGHT + timedelta(days=1)
    exported = export_marts(laboratory.database, tmp_path, later, date(2030, 1, 1), file_format)
    assert [each.n_rows for each in exported[:3]] == [0, 0, 0]
    read = pd.read_parquet if file_format == "parquet" else pd.read_csv
    assert len(read(tmp_path / f"mart_cell.{file_format}")) == 0


def test_an_export_that_fails_keeps_the_earlier_file(laboratory: Laboratory, tmp_path: Path) -> None:
    export_marts(laboratory.database, tmp_path, NIGHT, NIGHT, "parquet")
    before = (tmp_path / "mart_slide.parquet").read_bytes()
    with laboratory.database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE bloodcell_owner")
        connection.exec_driver_sql("DROP VIEW bloodcell.mart_cell")
    with pytest.raises(IndexError):
        export_marts(laboratory.database, tmp_path, NIGHT, NIGHT, "parquet")
    assert (tmp_path / "mart_slide.parquet").read_bytes() == before
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_reader_sees_the_marts_as_of_a_moment(laboratory: Laboratory, database_url: str) -> None:
    with connect(database_url, role="bloodcell_reader").connect() as connection:
        moments = connection.scalars(
            sa.text("SELECT made_at FROM bloodcell.result_version WHERE barcode = 'S-1' ORDER BY version")
        ).all()
        found = [
            connection.execute(
                sa.text("SELECT version, state FROM bloodcell.mart_slide_as_of(:moment) WHERE barcode = 'S-1'"),
                {"moment": moment},
            ).all()
            for moment in (*moments, moments[0] - timedelta(seconds=1))
        ]
    assert [[tuple(row) for row in rows] for rows in found] == [[(1, "machine")], [(2, "withheld")], [(3, "final")], []]


def test_signed_results_fit_into_omops_table(laboratory: Laboratory, database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("INSERT INTO bloodcell.omop_concept VALUES ('neutrophil', 'percent', 3008342, 8554)")
        rows = omop_measurements(connection)
    by_line = {row.measurement_source_value: row for row in rows}
    assert len({row.measurement_id for row in rows}) == len(by_line) == len(rows) == 14  # seven lines, two values each
    neutrophils = by_line["neutrophil percent"]
    assert (neutrophils.measurement_concept_id, neutrophils.value_as_number) == (3008342, 50)
    assert (by_line["BL absolute"].measurement_concept_id, by_line["BL absolute"].unit_source_value) == (0, "10*9/L")


def omop_measurements(connection: sa.Connection) -> list[sa.Row[Any]]:
    """Returns the rows of the view as a table with omop-cdm's columns, types and constraints takes them."""
    columns = [sa.Column(each.name, each.type, nullable=each.nullable) for each in Measurement.__table__.columns]
    table = sa.Table("measurement", sa.MetaData(), *columns, prefixes=["TEMPORARY"])
    table.create(connection)
    view = sa.table("omop_measurement", *(sa.column(each.name) for each in columns), schema="bloodcell")
    connection.execute(table.insert().from_select([each.name for each in columns], sa.select(view)))
    return list(connection.execute(sa.select(table)).all())
