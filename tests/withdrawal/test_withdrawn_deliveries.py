"""A late or repeated delivery neither brings a withdrawn slide back nor counts a cell twice."""

from __future__ import annotations

import io
import shutil
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.ingest.night import NightFolder, picture
from tests.laboratory import at_once
from tests.withdrawal.conftest import TIMES, Clinic

CELLS = "SELECT barcode, count(*) FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) GROUP BY 1 ORDER BY 1"


def touch(clinic: Clinic) -> None:
    """Makes every file look changed, as after a copy of the night's folder."""
    for path in clinic.folder.path.rglob("*.png"):
        shutil.copy2(path, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        path.touch()


def test_the_folder_of_a_renamed_slide_again_changes_nothing_and_late_files_wait(clinic: Clinic) -> None:
    clinic.withdraw("A", "R")
    touch(clinic)
    clinic.deliver("A", [50], "SNE")
    for _ in range(2):
        clinic.ingest()
        assert clinic.ledger() == [
            ("A", "cell", None, 4),
            ("A", "ignored", "slide_record", 1),
            ("A", "quarantined", "slide_withdrawn", 1),
            ("B", "cell", None, 4),
            ("B", "ignored", "slide_record", 1),
        ]
        assert clinic.rows(CELLS) == [("B", 4), ("R", 4)]
    assert clinic.rows("SELECT n_quarantined FROM bloodcell.slide_status WHERE barcode = 'R'") == [(1,)]
    # taken back, the late file becomes a cell as it would have at once
    clinic.withdraw("A", undo=True)
    clinic.ingest()
    assert clinic.rows(CELLS) == [("A", 5), ("B", 4)]


def test_the_same_cells_under_the_right_barcode_count_once(clinic: Clinic) -> None:
    clinic.withdraw("A", "R")
    shutil.copytree(clinic.folder.path / "A", clinic.folder.path / "R")
    clinic.folder.record("R", order_id="O-R", patient_key="p-R", acquired_at=TIMES["A"])
    clinic.folder.cell("R", 50)
    clinic.ingest()
    clinic.classify()
    assert clinic.reported()["R"] == ["p-R", "O-R", 5, "neutrophil"]
    assert clinic.ledger()[2:5] == [
        ("B", "cell", None, 4),
        ("B", "ignored", "slide_record", 1),
        ("R", "cell", None, 1),
    ]
    assert ("R", "duplicate", "same_cell", 4) in clinic.ledger()
    (night,) = clinic.rows("SELECT n_cells, n_duplicates, n_slides, n_slides_withdrawn FROM bloodcell.night_summary")
    assert night == (9, 4, 2, 1)


def test_a_withdrawn_barcode_comes_again_only_with_a_record_and_images_of_its_own(clinic: Clinic) -> None:
    clinic.withdraw("A")
    later = NightFolder(clinic.settings.drops, clinic.laboratory.night.replace(day=22))
    later.cell("A", 300, code="MO")
    clinic.ingest(later)  # without slide.json nothing says that this is another slide
    later.record("A", acquired_at=TIMES["A"])
    clinic.ingest(later)  # the time of the withdrawn slide
    again = later.cell("A", 301, code="SNE", seed=0)
    later.record("A", acquired_at="2026-11-22T20:00:00Z")
    clinic.ingest(later)  # an image of the withdrawn slide
    quarantined = "SELECT path, reason FROM bloodcell.quarantine_report WHERE night = '2026-11-22' ORDER BY path"
    assert clinic.rows(quarantined) == [
        ("A/MO_00000300.png", "slide_withdrawn"),
        ("A/SNE_00000301.png", "slide_withdrawn"),
    ]
    assert clinic.rows("SELECT barcode FROM bloodcell.standing_slide") == [("B",)]
    again.unlink()
    clinic.ingest(later)
    clinic.classify()
    assert clinic.rows(quarantined) == []
    assert clinic.reported()["A"] == [None, None, 1, "monocyte"]
    assert clinic.rows("SELECT night, status FROM bloodcell.slide_status WHERE barcode = 'A' ORDER BY night") == [
        (clinic.laboratory.night, "withdrawn"),
        (clinic.laboratory.night.replace(day=22), "reported"),
    ]


def other_text() -> dict[str, Any]:
    text = PngInfo()
    text.add_text("exported", "2026-11-22")
    return {"pnginfo": text}


@pytest.mark.parametrize("differing", [other_text(), {"compress_level": 1}], ids=["text", "compression"])
def test_a_withdrawn_slide_that_is_exported_again_does_not_come_back(clinic: Clinic, differing: dict[str, Any]) -> None:
    clinic.withdraw("A")
    later = NightFolder(clinic.settings.drops, clinic.laboratory.night.replace(day=22))
    for number in range(4):
        export = io.BytesIO()
        Image.open(io.BytesIO(picture(number))).save(export, "PNG", **differing)
        assert export.getvalue() != picture(number)
        later.write(f"A/SNE_{number:08d}.png", export.getvalue())
    later.record("A", order_id="O-A", patient_key="p-A", acquired_at="2026-11-22T10:00:00Z")
    later.complete()
    clinic.ingest(later)
    clinic.classify()
    assert "A" not in clinic.reported()
    assert ("A", "quarantined", "slide_withdrawn", 4) in clinic.ledger()


@pytest.mark.parametrize("record", [{}, {"order_id": "O-R", "patient_key": "p-R"}], ids=["no record", "no time"])
def test_the_slide_that_has_always_had_the_barcode_is_not_added_to_a_renamed_one(
    clinic: Clinic, record: dict[str, str]
) -> None:
    clinic.withdraw("A", "R")
    later = NightFolder(clinic.settings.drops, clinic.laboratory.night.replace(day=22))
    clinic.deliver("R", range(50, 54), "LY", later)
    clinic.deliver("R", [0, 1], "SNE", later)  # of the renamed slide, delivered again
    if record:
        later.record("R", **record)
    for _ in range(2):
        clinic.ingest(later)
        clinic.classify()
        of_r = [(outcome, reason, n) for barcode, outcome, reason, n in clinic.ledger() if barcode == "R"]
        assert of_r[:1] == [("duplicate", "delivered_again", 2)]
        assert of_r[-1:] == [("quarantined", "slide_identity", 4)]
        assert clinic.reported()["R"] == [None, None, 4, "neutrophil"]


def test_the_folders_of_two_swapped_slides_again_change_nothing(clinic: Clinic) -> None:
    clinic.withdraw("A", "B", swap=True)
    before, ledger = clinic.reported(), clinic.ledger()
    touch(clinic)
    clinic.ingest()
    (clinic.folder.path / "A" / "slide.json").unlink()
    touch(clinic)
    clinic.ingest()
    clinic.classify()
    assert clinic.reported() == before
    assert [row for row in clinic.ledger() if row[1] == "cell"] == [row for row in ledger if row[1] == "cell"]


def test_a_slide_is_withdrawn_while_its_night_is_ingested(clinic: Clinic) -> None:
    clinic.deliver("A", range(50, 90), "SNE")
    clinic.deliver("R", range(200, 220), "MO")
    turns = iter((clinic.ingest, lambda: clinic.withdraw("A", "Q"), clinic.ingest))
    assert at_once(3, lambda: next(turns)()) == []
    clinic.ingest()
    clinic.classify()
    # whichever came first: no cell is left on the withdrawn slide, and every file is accounted for
    assert clinic.rows("SELECT count(*) FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) "
                       "WHERE withdrawn_at IS NOT NULL") == [(0,)]  # fmt: skip
    cells = {barcode: int(str(n)) for barcode, n in clinic.rows(CELLS)}
    n_late = sum(int(str(n)) for _, _, reason, n in clinic.ledger() if reason == "slide_withdrawn")
    assert cells["Q"] + n_late == 44
    assert (cells["B"], cells["R"]) == (4, 20)
    assert "A" not in clinic.reported()
