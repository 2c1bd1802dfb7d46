"""An export imports again unchanged; no field is read as a formula; images are sorted by class."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, StoreUnavailableError
from bloodcell.labels import LabelExport, export_labels, import_labels
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.conftest import small_disk
from tests.labels.conftest import AT, Labelled, Rows
from tests.laboratory import Laboratory

LATER = "2026-03-16T09:30:00.123456Z"
HEADER = "cell_id,label,labelled_by,labelled_at,blind,adjudication,note"


def test_an_export_imports_again_without_new_labels(
    cells: list[int], labelled: Labelled, database: Database, settings: Settings, tmp_path: Path, rows: Rows
) -> None:
    labelled(
        f"{cells[0]},SNE,anna,{AT},1,0,",
        f'{cells[0]},MO,"Łoś, Jürgen",{LATER},0,0,"two; or ""three""\nlobes"',
        f"{cells[1]},LY,anna,{AT},0,0,",
        f"{cells[1]},BL,anna,{LATER},0,1,a correction",
        f"{cells[2]},ig,'=1+1,{AT},0,0,'-2",
        f"{cells[3]},ig,'quoted',{AT},0,0,''=x",
        header=HEADER,
    )
    out = tmp_path / "out.csv"
    assert export_labels(database, out) == LabelExport(5, 0)
    before = rows("SELECT * FROM bloodcell.label ORDER BY label_id")
    again = import_labels(out, settings)
    assert (again.is_taken, again.n_rows, again.n_known, again.n_new, again.ignored_columns) == (True, 5, 5, 0, ())
    assert rows("SELECT * FROM bloodcell.label ORDER BY label_id") == before


def test_an_export_restores_the_labels_in_another_database(
    cells: list[int], labelled: Labelled, database: Database, tmp_path: Path
) -> None:
    labelled(f"{cells[0]},SNE,anna,{AT},1,0,fine", header=HEADER)
    export_labels(database, tmp_path / "out.csv")
    body = (tmp_path / "out.csv").read_bytes()
    assert body.startswith(b"\xef\xbb\xbf")
    (row,) = csv.DictReader(body.decode("utf-8-sig").splitlines())
    assert row == {
        "cell_id": str(cells[0]),
        "slide": "S1",
        "file": "0.jpg",
        "label": "SNE",
        "labelled_by": "anna",
        "labelled_at": "2026-03-15T08:30:00.000000Z",
        "blind": "1",
        "adjudication": "0",
        "note": "fine",
    }


@pytest.mark.parametrize("evil", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_field_is_read_as_a_formula(
    laboratory: Laboratory, labelled: Labelled, database: Database, settings: Settings, tmp_path: Path, evil: str
) -> None:
    (cell,) = laboratory.cells(laboratory.slide(evil), ["LY"], names=[f"{evil}.jpg"])
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.label (cell_id, class, labelled_by, labelled_at, is_blind, note, source) "
                "VALUES (:cell, 'ig', :evil, '2026-03-15', false, :evil, 'view')"
            ),
            {"cell": cell, "evil": evil.strip()},
        )
    export_labels(database, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    for name in ("slide", "file", "labelled_by", "note"):
        assert row[name].startswith("'"), name
    assert import_labels(tmp_path / "out.csv", settings).n_known == 1


def test_without_labels_the_file_has_only_column_names(database: Database, tmp_path: Path) -> None:
    assert export_labels(database, tmp_path / "out.csv") == LabelExport(0, 0)
    assert (tmp_path / "out.csv").read_text("utf-8-sig").startswith("cell_id,slide,file,label,")


def test_images_are_sorted_by_class_and_code_and_import_again(
    laboratory: Laboratory, labelled: Labelled, database: Database, settings: Settings, tmp_path: Path, rows: Rows
) -> None:
    store = Store.of(settings)
    bodies = [f"image {n}".encode() for n in range(4)]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    for sha256, body in zip(digests, bodies, strict=True):
        store.put_image(sha256, body)
    names = ["0.jpg", "sub/1.jpg", "..", "3.jpg"]
    cells = laboratory.cells(laboratory.slide("S1"), ["LY"] * 4, digests, names)
    labelled(
        f"{cells[0]},SNE,anna,{AT},,,",
        f"{cells[1]},BL,anna,{AT},,,",
        f"{cells[2]},ig,anna,{AT},,,",
        f"{cells[3]},ig,anna,{AT},,,",
        f"{cells[3]},MO,ben,{AT},,,",
        header=HEADER,
    )
    told: list[tuple[str, int, int]] = []
    folder = tmp_path / "images"
    written = export_labels(
        database, tmp_path / "out.csv", images=folder, store=store, on_progress=lambda *step: told.append(step)
    )
    assert written == LabelExport(5, 3)
    assert told[-1] == ("Images", 3, 3)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        "SNE/S1/0.jpg": bodies[0],
        "BL/S1/sub_1.jpg": bodies[1],
        "ig/S1/_..": bodies[2],
    }
    again = import_labels(folder, settings, labelled_by="carl")
    assert (again.n_new, again.n_refused, again.n_contested) == (3, 0, 0)


def test_a_folder_that_is_not_empty_is_refused_and_left_unchanged(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/SNE").mkdir()
    with pytest.raises(ConfigurationError, match="is not empty"):
        export_labels(database, tmp_path / "out.csv", images=tmp_path / "old", store=Store.of(settings))
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_image_is_reported(
    cells: list[int], labelled: Labelled, database: Database, settings: Settings, tmp_path: Path
) -> None:
    labelled(f"{cells[0]},SNE,anna,{AT},,,", header=HEADER)
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        export_labels(database, tmp_path / "out.csv", images=tmp_path / "images", store=Store.of(settings))


def test_an_unwritable_place_is_reported_and_no_partial_file_is_left(
    cells: list[int], labelled: Labelled, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_labels(database, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_labels(database, tmp_path / "folder")
    labelled(*(f"{cells[0]},SNE,person {n},{AT},,,{'long' * 100}" for n in range(1_000)), header=HEADER)
    with small_disk(tmp_path / "small", "64k") as disk:
        with pytest.raises(ConfigurationError, match="No space left"):
            export_labels(database, disk / "out.csv")
        assert list(disk.iterdir()) == []
