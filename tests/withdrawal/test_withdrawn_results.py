"""Views, queries, pages, labels and training leave a withdrawn slide out, and take a renamed one for the right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import sqlalchemy as sa

from bloodcell.errors import UnknownRecordError
from bloodcell.labels import export_labels, import_labels
from bloodcell.removal import erase
from bloodcell.report.night_report import night_markdown, night_summary
from bloodcell.report.slide_page import write_report
from bloodcell.results.stored_result import read_result
from bloodcell.retraining.holdout_cells import holdout_cells
from bloodcell.retraining.snapshot import take_snapshot
from bloodcell.storage.connections import psql_command
from bloodcell.storage.embedded import EmbeddedPostgres
from bloodcell.storage.store import Store
from tests.conftest import ROOT, Command
from tests.storage.conftest import refused
from tests.storage.test_queries import run_psql
from tests.withdrawal.conftest import Clinic

SHARED = "SELECT count(*) FROM bloodcell.shared_image"


def cells_of(clinic: Clinic, barcode: str) -> list[int]:
    statement = (
        "SELECT cell_id FROM bloodcell.cell_provenance WHERE barcode = :b AND variant = 'vgg16' ORDER BY cell_id"
    )
    return [int(str(row[0])) for row in clinic.rows(statement, b=barcode)]


def cells_of_new(clinic: Clinic, code: str) -> list[int]:
    return [
        int(str(row[0])) for row in clinic.rows("SELECT cell_id FROM bloodcell.cell WHERE analyser_code = :c", c=code)
    ]


def test_no_view_counts_a_withdrawn_slide(clinic: Clinic) -> None:
    clinic.folder.cell("A", 10, code="BL")
    clinic.folder.cell("B", 110, code="LY", seed=0)  # an image of A
    clinic.ingest()
    clinic.laboratory.call(cells_of_new(clinic, "BL"), ["unclassified"])
    clinic.classify()
    assert clinic.rows(SHARED) == [(2,)]
    assert clinic.rows("SELECT barcode FROM bloodcell.review_queue") == [("A",)]
    clinic.laboratory.label(cells_of(clinic, "A")[:1], ["monocyte"])
    clinic.withdraw("A")
    for view in ("review_queue", "current_label", "shared_image", "model_disagreement", "contested_cell"):
        assert clinic.rows(f"SELECT * FROM bloodcell.{view} WHERE barcode = 'A'") == [], view
    for view in ("cell_result", "slide_summary", "slide_differential", "cell_provenance"):
        found = clinic.rows(
            f"SELECT DISTINCT is_reported, withdrawn_at IS NULL FROM bloodcell.{view} WHERE barcode = 'A'"
        )
        assert found == [(False, False)], view
    assert clinic.rows("SELECT barcode, withdrawn_at IS NULL FROM bloodcell.cell_label") == [("A", False)]
    assert clinic.rows("SELECT sum(n_cells) FROM bloodcell.analyser_agreement") == [(5,)]
    assert clinic.rows("SELECT n_slides, n_slides_reported, n_slides_withdrawn FROM bloodcell.night_summary") == [
        (1, 1, 1)
    ]
    assert clinic.rows("SELECT sum(n_cells) FROM bloodcell.night_calls WHERE is_reported") == [(5,)]


def test_pages_say_that_a_slide_was_withdrawn_and_show_what_was_reported(clinic: Clinic, tmp_path: Path) -> None:
    clinic.withdraw("A", "R", reason="<b>wrong</b> rack")
    read = read_result(clinic.database, "A")
    assert (read.is_reported, read.model.variant, read.differential.n_cells) == (False, "inception_v3_svm", 4)
    assert read.slide.withdrawal is not None
    assert (read.slide.withdrawal.renamed_to, read.slide.withdrawal.requested_by) == ("R", "anna")
    assert read_result(clinic.database, "R").is_reported
    page = tmp_path / "page.html"
    write_report(clinic.database, Store.of(clinic.settings), "A", page)
    assert "Withdrawn: do not use." in page.read_text()
    assert "&lt;b&gt;wrong&lt;/b&gt; rack" in page.read_text()
    assert "Sufficient count" not in page.read_text()
    write_report(clinic.database, Store.of(clinic.settings), "R", page)
    assert "Delivered as" in page.read_text()
    assert "Withdrawn" not in page.read_text()
    summary = night_markdown(night_summary(clinic.database, clinic.laboratory.night))
    assert "**Withdrawn: nothing is reported for them**\n\n- A: " in summary
    assert "its cells are slide R now" in summary
    assert "<b>" not in summary
    # a slide that was renamed back says that there were other results under its barcode
    clinic.withdraw("A", undo=True)
    again = read_result(clinic.database, "A")
    assert again.is_reported
    assert [each.renamed_to for each in again.slide.earlier] == ["R"]


def test_labels_belong_to_the_slide_that_stands(clinic: Clinic, tmp_path: Path) -> None:
    cells = cells_of(clinic, "A")
    clinic.laboratory.label(cells, ["neutrophil"] * 4)
    names = [str(row[0]) for row in clinic.rows("SELECT file_name FROM bloodcell.cell WHERE cell_id = :c", c=cells[0])]
    clinic.withdraw("A")
    export_labels(clinic.database, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().count("\n") == 1
    insert = sa.text("INSERT INTO bloodcell.cell_label (barcode, file_name, label) VALUES ('A', :f, 'ig')")
    with refused("23503"), clinic.database.begin() as connection:
        connection.execute(sa.text("RESET ROLE"))
        connection.execute(insert, {"f": names[0]})
    file = tmp_path / "labels.csv"
    for line in (f"A,{names[0]},", f"A,{names[0]},{cells[0]}"):
        file.write_text(f"slide,file,cell_id,label,labelled_by,labelled_at\n{line},ig,eva,2026-11-22 08:00\n")
        done = import_labels(file, clinic.settings)
        assert [error.text.split(":")[0] for error in done.errors] == ["slide 'A' was withdrawn"], line
    clinic.withdraw("A", "R")
    file.write_text(f"slide,file,label,labelled_by,labelled_at\nR,{names[0]},ig,eva,2026-11-22 08:00\n")
    assert import_labels(file, clinic.settings).n_new == 1
    assert clinic.rows("SELECT barcode, split_key, count(*) FROM bloodcell.current_label GROUP BY 1, 2") == [
        ("R", "slide:R", 4)
    ]


def test_a_snapshot_takes_renamed_cells_as_the_right_patients_and_leaves_withdrawn_ones_out(clinic: Clinic) -> None:
    for barcode, label in (("A", "neutrophil"), ("B", "lymphocyte")):
        clinic.laboratory.label(cells_of(clinic, barcode), [label] * 4)
    clinic.withdraw("A", "R")
    clinic.withdraw("B")
    with clinic.database.begin() as connection:
        taken = take_snapshot(connection, clinic.settings, clinic.laboratory.run("snapshot"))
    assert clinic.rows(
        "SELECT DISTINCT barcode, split_key, class FROM bloodcell.training_image WHERE dataset_digest = :d",
        d=taken.dataset_digest,
    ) == [("R", "slide:R", "neutrophil")]


def test_a_holdout_that_was_taken_earlier_leaves_a_withdrawn_slide_out(clinic: Clinic) -> None:
    cells = {barcode: cells_of(clinic, barcode) for barcode in ("A", "B")}
    for barcode, label in (("A", "neutrophil"), ("B", "lymphocyte")):
        clinic.laboratory.label(cells[barcode], [label] * 4, blind=True)
    clinic.laboratory.dataset("d1", [(cell, "holdout") for cell in (*cells["A"], *cells["B"])])
    clinic.withdraw("A")
    with clinic.database.connect() as connection:
        found = holdout_cells(connection, "d1", ())
    assert {image.cell_class for image in found.images} == {"lymphocyte"}
    assert dict(found.left_out) == {"hold-out image of a slide that was withdrawn or renamed since": 4}


@pytest.mark.parametrize(("kind", "name", "left"), [("slide", "R", {"B"}), ("patient", "p-A", {"B", "R"})])
def test_an_erasure_takes_the_withdrawn_slide_and_its_record_along(
    clinic: Clinic, kind: Literal["slide", "patient"], name: str, left: set[str]
) -> None:
    clinic.withdraw("A", "R")
    erase(clinic.settings, kind, name, reason="consent withdrawn")
    assert {row[0] for row in clinic.rows("SELECT barcode FROM bloodcell.slide")} == left
    assert clinic.rows("SELECT count(*) FROM bloodcell.withdrawal_history") == [(0,)]
    assert set(clinic.reported()) == left
    assert clinic.rows("SELECT DISTINCT delivered_as FROM bloodcell.slide") == [(None,)]
    assert {row[0] for row in clinic.rows("SELECT barcode FROM bloodcell.drop_file")} == {"B"}
    clinic.ingest()
    assert {row[0] for row in clinic.rows("SELECT barcode FROM bloodcell.slide")} == left


def test_the_queries_list_a_withdrawn_slide_and_report_only_the_one_that_stands(
    clinic: Clinic, postgres: EmbeddedPostgres
) -> None:
    clinic.withdraw("A", "R")
    command, environment = psql_command(clinic.settings)

    def ask(name: str, **variables: object) -> list[dict[str, str]]:
        return run_psql(postgres.psql, command, environment, ROOT / "sql" / "queries" / f"{name}.sql", variables)

    (withdrawn,) = ask("36_withdrawn_slides")
    assert [withdrawn[name] for name in ("barcode", "renamed_to", "requested_by")] == ["A", "R", "anna"]
    assert withdrawn["reported_at"]
    assert ask("01_slide_differential", barcode="A") == []
    assert len(ask("01_slide_differential", barcode="R")) == 9
    assert {row["barcode"] for row in ask("11_insufficient_counts", night=clinic.laboratory.night)} == {"B", "R"}
    assert ask("14_patient_history", patient="p-A") == []


def test_the_command_asks_or_needs_yes_and_says_what_it_did(clinic: Clinic, main_here: Command, tmp_path: Path) -> None:
    variables = {
        "BLOODCELL_DATA_DIR": str(clinic.settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(clinic.settings.plain_database_url),
        "COLUMNS": "120",
    }
    asked = main_here("withdraw", "A", "--reason", "wrong rack", **variables)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    record = tmp_path / "slide.json"
    record.write_text(json.dumps({"barcode": "R", "order_id": "O-R", "patient_key": "p-R"}))
    command = (
        "withdraw",
        "A",
        "--reason",
        "wrong rack",
        "--renamed-to",
        "R",
        "--record",
        str(record),
        "--by",
        "eva",
        "--yes",
    )
    done = main_here(*command, **variables)
    assert done.returncode == 0, done.stderr
    assert "Slide A of night 2026-11-21 is withdrawn; its cells are slide R now." in done.stdout
    assert "Next: bloodcell differential R" in done.stdout
    again = main_here(*command, "--json", **variables)
    assert again.returncode == 3
    assert json.loads(again.stdout)["done"] is False
    assert "for eva" in json.loads(again.stdout)["reason"]
    shown = main_here("differential", "A", **variables)
    assert "WITHDRAWN, do not use: Slide A" in " ".join(shown.stdout.split())
    as_json = json.loads(main_here("differential", "A", "--json", **variables).stdout)
    assert as_json["withdrawn"]["renamed_to"] == "R"
    assert as_json["model"]["is_reported"] is False
    wrong = main_here(
        "withdraw", "B", "--reason", "r", "--renamed-to", "R", "--record", str(tmp_path / "none"), **variables
    )
    assert wrong.returncode == 2
    unknown = main_here("withdraw", "X", "--reason", "r", "--yes", **variables)
    assert (unknown.returncode, "No slide has or had the barcode 'X'" in unknown.stderr) == (1, True)
    with pytest.raises(UnknownRecordError):
        read_result(clinic.database, "X")
