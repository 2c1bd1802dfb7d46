"""A million cells leave as Parquet: `bloodcell export`, against pandas, which reads the same view and writes its rows.

The export also writes the marts of slides and their classes, which pandas does not.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import sqlalchemy as sa

from benchmarks.speed.bare_night import MODEL, NIGHT, add_night
from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.place import Place, apart, peak_mib
from bloodcell.exchange.mart_export import export_marts
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database

CALLED = "called_cells"
CELLS_PER_SLIDE = 100

ROWS = (
    "INSERT INTO bloodcell.slide (barcode, night, patient_key, analyser, record_state, run_id) "
    "SELECT 'S' || i, :night, 'p' || i, 'DI-60', 'read', :run_id FROM generate_series(1, :n / :per_slide) i",
    "INSERT INTO bloodcell.image (sha256, size_bytes, width_px, height_px, format) "
    "SELECT encode(sha256(i::text::bytea), 'hex'), 15000, 360, 363, 'JPEG' FROM generate_series(1, :n) i",
    "INSERT INTO bloodcell.cell (slide_id, file_name, night, sha256, analyser_code, analyser_class, run_id) "
    "SELECT s.slide_id, 'SNE_' || i || '.jpg', :night, encode(sha256(i::text::bytea), 'hex'), 'SNE', 'neutrophil', "
    ":run_id FROM generate_series(1, :n) i JOIN bloodcell.slide s ON s.barcode = 'S' || ((i - 1) / :per_slide + 1)",
    "SELECT bloodcell.ensure_call_partition(:night)",
    "INSERT INTO bloodcell.cell_call (cell_id, model_id, night, called_class, top_class, confidence, novelty, "
    "p_basophil, p_eosinophil, p_erythroblast, p_ig, p_lymphocyte, p_monocyte, p_neutrophil, p_platelet, run_id) "
    "SELECT cell_id, :model, :night, 'neutrophil', 'neutrophil', 0.9 + random() / 10, random(), 0, 0, 0, 0, 0, 0, 1, "
    "0, :run_id FROM bloodcell.cell",
    "INSERT INTO bloodcell.slide_report (slide_id, model_id, number, n_cells, n_leucocytes, n_other_leucocytes, "
    "n_unverified, n_blasts, n_unclassified, n_contested, n_labelled, n_labels, is_sufficient, nrbc_per_100_wbc, "
    "nrbc_lower, nrbc_upper, n_compared, n_agree, calls_digest, labels_digest, run_id) "
    "SELECT slide_id, :model, 1, :per_slide, :per_slide, 0, 0, 0, 0, 0, 0, 0, true, 0, 0, 3, 0, 0, 'c', 'l', :run_id "
    "FROM bloodcell.slide",
    "INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, digest, "
    "run_id) SELECT slide_id, 1, 'machine', report_id, '{calls}', '{}', '{}', 'd', :run_id FROM bloodcell.slide_report",
)


def exporting(place: Place) -> list[Line]:
    few, n = (2_000, 10_000) if place.quick else (10_000, 1_000_000)
    peaks: dict[str, list[float]] = {"ours": [], "pandas": []}
    for each in (few, n):
        apart(make_cells, place, each)

    def ours() -> float:
        peak, seconds = apart(_exported, place, n)
        peaks["ours"].append(peak)
        return seconds

    def plain() -> float:
        peak, seconds = apart(_exported_by_pandas, place, n)
        peaks["pandas"].append(peak)
        return seconds

    of_few = apart(_exported, place, few)[0]
    of_export, of_pandas = alternately(1 if place.quick else 3, ours, plain)
    return [
        Line(
            f"export {n:,} cells to Parquet",
            "pandas.read_sql of the same view, and to_parquet",
            ratio(of_pandas, of_export),
            f"s: {shown(of_export, digits=1)}; pandas: {shown(of_pandas, digits=1)}; MiB: "
            f"{shown(peaks['ours'], digits=0)}; pandas: {shown(peaks['pandas'], digits=0)}",
            at_least=0.5,
        ),
        Line(
            f"export, peak memory at {n:,} cells",
            f"at {few:,}",
            ratio(peaks["ours"], [of_few]),
            f"MiB: {shown(peaks['ours'], digits=0)}; at {few:,}: {of_few:,.0f}",
            at_most=1.1,
        ),
    ]


def make_cells(place: Place, n: int) -> None:
    """Makes the database: one night of cells, a hundred for each slide, with their calls and results."""
    settings, run = _settings(place, n), {"run_id": uuid.uuid4()}
    with connect(str(settings.plain_database_url)).begin() as connection:
        add_night(connection, run["run_id"])
        values = {"n": n, "night": NIGHT, "model": MODEL, "per_slide": CELLS_PER_SLIDE, **run}
        for statement in ROWS:
            connection.execute(sa.text(statement), values)
        connection.execute(sa.text("ANALYZE"))


def _settings(place: Place, n: int) -> Settings:
    return place.template(f"{CALLED}_{n}")


def _exported(place: Place, n: int) -> tuple[float, float]:
    """Returns the process's peak memory in MiB, and the seconds that the export took."""
    settings = _settings(place, n)
    with TemporaryDirectory(dir=place.folder) as folder:
        started = time.perf_counter()
        exported = export_marts(open_database(settings), Path(folder), NIGHT, NIGHT, "parquet")
        seconds = time.perf_counter() - started
        rows = {each.path.stem: each.n_rows for each in exported}
        if rows["mart_cell"] != n:
            raise ValueError(f"Expected {n} cells. Received: {rows}")
        return peak_mib(), seconds


def _exported_by_pandas(place: Place, n: int) -> tuple[float, float]:
    engine = sa.create_engine(str(_settings(place, n).plain_database_url))
    query = sa.text("SELECT * FROM bloodcell.mart_cell WHERE night = :night ORDER BY night, barcode")
    with TemporaryDirectory(dir=place.folder) as folder:
        started = time.perf_counter()
        with engine.connect() as connection:
            frame = pd.read_sql(query, connection, params={"night": NIGHT})
        frame.to_parquet(Path(folder) / "mart_cell.parquet", compression="zstd")
        seconds = time.perf_counter() - started
        if len(frame) != n:
            raise ValueError(f"Expected {n} cells. Received: {len(frame)}")
        return peak_mib(), seconds
