"""In a folder sorted by class, each image is found by its content, not by its name."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.errors import ConfigurationError, UnusableFileError
from bloodcell.labels import LabelImport, import_labels
from bloodcell.settings import Settings
from tests.labels.conftest import Rows, texts
from tests.laboratory import Laboratory

Sorted = Callable[..., LabelImport]


def image(number: int) -> bytes:
    return f"the bytes of image {number}".encode()


def digest(number: int) -> str:
    return hashlib.sha256(image(number)).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sorted"


@pytest.fixture
def put(folder: Path) -> Callable[[str, int], Path]:
    def write(path: str, number: int) -> Path:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image(number))
        return file

    return write


@pytest.fixture
def slide(laboratory: Laboratory) -> list[int]:
    """Cells 0.jpg to 5.jpg of slide S1, with the images 0 to 5."""
    names = [f"{n}.jpg" for n in range(6)]
    return laboratory.cells(laboratory.slide("S1"), ["LY"] * 6, [digest(n) for n in range(6)], names)


Put = Callable[[str, int], Path]


@pytest.mark.usefixtures("slide")
def test_images_are_labelled_by_their_folder_whatever_they_are_called(
    settings: Settings, folder: Path, put: Put, rows: Rows
) -> None:
    put("neutrophil/renamed.png", 0)
    put("SNE/1.jpg", 1)
    put("bl/x.jpg", 2)
    put("ig/S1/3.jpg", 3)
    put("ig/Thumbs.db", 99)
    put(".Trash/4.jpg", 4)
    before = datetime.now(UTC)
    done = import_labels(folder, settings, labelled_by="anna")
    assert (done.is_taken, done.n_rows, done.n_new, texts(done)) == (True, 4, 4, [])
    assert rows(
        "SELECT file_name, class, sub_label, labelled_by, is_blind, source FROM bloodcell.cell_label ORDER BY 1"
    ) == [
        ("0.jpg", "neutrophil", None, "anna", False, "folder"),
        ("1.jpg", "neutrophil", "SNE", "anna", False, "folder"),
        ("2.jpg", None, "BL", "anna", False, "folder"),
        ("3.jpg", "ig", None, "anna", False, "folder"),
    ]
    ((newest,),) = rows("SELECT max(labelled_at) FROM bloodcell.label")
    assert abs((newest - before).total_seconds()) < 60  # type: ignore[operator]


@pytest.mark.usefixtures("slide")
def test_a_copied_folder_adds_nothing_and_a_moved_image_is_a_correction(
    settings: Settings, folder: Path, put: Put, rows: Rows, tmp_path: Path
) -> None:
    put("SNE/0.jpg", 0)
    put("SNE/1.jpg", 1)
    assert import_labels(folder, settings, labelled_by="anna").n_new == 2
    time.sleep(0.01)  # the files of the copy are newer
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    again = import_labels(copy, settings, labelled_by="anna")
    assert (again.n_new, again.n_known) == (0, 2)
    (copy / "BNE").mkdir()
    (copy / "SNE/1.jpg").rename(copy / "BNE/1.jpg")
    corrected = import_labels(copy, settings, labelled_by="anna")
    assert (corrected.n_new, corrected.n_known, corrected.n_contested) == (1, 1, 0)
    assert rows("SELECT file_name, sub_label FROM bloodcell.current_label ORDER BY 1") == [
        ("0.jpg", "SNE"),
        ("1.jpg", "BNE"),
    ]
    # importing the first folder again does not undo the correction, because anna's correction is newer
    assert import_labels(folder, settings, labelled_by="anna").n_new in (0, 1)
    assert rows("SELECT sub_label FROM bloodcell.current_label WHERE file_name = '1.jpg'") == [("BNE",)]


def test_an_image_of_several_slides_labels_the_named_slide_or_all_of_them(
    laboratory: Laboratory, settings: Settings, folder: Path, put: Put, rows: Rows
) -> None:
    for barcode, name in (("S1", "a.jpg"), ("S2", "b.jpg"), ("S3", "b.jpg")):
        with laboratory.database.begin() as connection:
            from sqlalchemy.dialects.postgresql import insert

            from bloodcell.storage import tables

            row = {"sha256": digest(7), "size_bytes": 1, "width_px": 1, "height_px": 1, "format": "JPEG"}
            connection.execute(insert(tables.image).values(**row).on_conflict_do_nothing())
            cell = {"file_name": name, "night": laboratory.night, "sha256": digest(7), "run_id": laboratory.run_id}
            connection.execute(tables.cell.insert().values(slide_id=_slide(laboratory, barcode), **cell))

    def cells_labelled(by: str) -> list[object]:
        return [b for (b,) in rows(f"SELECT barcode FROM bloodcell.cell_label WHERE labelled_by = '{by}' ORDER BY 1")]

    put("LY/S2/renamed.jpg", 7)
    assert import_labels(folder, settings, labelled_by="by slide").n_new == 1
    assert cells_labelled("by slide") == ["S2"]
    shutil.rmtree(folder)
    put("LY/b.jpg", 7)
    assert import_labels(folder, settings, labelled_by="by name").n_new == 2
    assert cells_labelled("by name") == ["S2", "S3"]
    shutil.rmtree(folder)
    put("LY/anything.jpg", 7)
    done = import_labels(folder, settings, labelled_by="by image")
    assert (done.n_rows, done.n_new) == (1, 3)
    assert cells_labelled("by image") == ["S1", "S2", "S3"]


def _slide(laboratory: Laboratory, barcode: str) -> int:
    return laboratory.slide(barcode)


@pytest.mark.usefixtures("slide")
def test_invalid_files_are_reported_by_their_path(
    laboratory: Laboratory, settings: Settings, folder: Path, put: Put, rows: Rows, tmp_path: Path
) -> None:
    laboratory.file("S1/twin.jpg", "quarantined", reason="name_taken", detail="find out", sha256=digest(50))
    laboratory.file("S1/again.jpg", "duplicate", reason="same_image", sha256=digest(51), cell_id=1)
    put("LY/good.jpg", 0)
    put("LY/S9/1.jpg", 1)
    put("LY/nobody.jpg", 40)
    put("LY/aside.jpg", 50)
    put("unsure/2.jpg", 2)
    put("loose.jpg", 3)
    put("MO/huge.jpg", 4).write_bytes(b"x" * 2_000)
    (folder / "MO/link.jpg").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "MO/pipe.jpg")
    done = import_labels(folder, settings.model_copy(update={"max_file_bytes": 1_000}), labelled_by="anna")
    assert (done.is_taken, done.n_rows, done.n_refused) == (False, 9, 8)
    told = "\n".join(sorted(error.text for error in done.errors))
    for said in (
        "S9/1.jpg (lymphocyte): the image belongs to slide S1",
        "nobody.jpg (lymphocyte): there is no cell with this image",
        "aside.jpg was quarantined, so there is no cell to label: name_taken: find out",
        "unsure/2.jpg: expected a folder named by a class",
        "loose.jpg: it is not in a class folder",
        "MO/huge.jpg: expected at most 1,000 bytes, received 2,000",
        "MO/link.jpg: link: Links are not followed",
        "MO/pipe.jpg: not_a_regular_file",
    ):
        assert said in told
    assert rows("SELECT count(*) FROM bloodcell.label") == [(0,)]


@pytest.mark.usefixtures("slide")
def test_an_image_in_two_classes_is_a_contradiction_and_twice_in_one_class_counts_once(
    settings: Settings, folder: Path, put: Put
) -> None:
    put("SNE/a.jpg", 0)
    put("BNE/b.jpg", 0)
    put("MO/a.jpg", 1)
    put("MO/b.jpg", 1)
    done = import_labels(folder, settings, labelled_by="anna", partial=True)
    assert (done.n_new, done.n_repeated, done.n_refused) == (1, 1, 2)
    assert "contradicts another row" in texts(done)[0]


def test_a_folder_needs_a_person_and_at_least_one_file(settings: Settings, folder: Path) -> None:
    (folder / "SNE").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="--by NAME"):
        import_labels(folder, settings)
    with pytest.raises(UnusableFileError, match="received no file"):
        import_labels(folder, settings, labelled_by="anna")


@pytest.mark.usefixtures("slide")
def test_an_image_dated_in_the_future_is_labelled_now(settings: Settings, folder: Path, put: Put, rows: Rows) -> None:
    future = time.time() + 1e6
    os.utime(put("SNE/0.jpg", 0), (future, future))
    assert import_labels(folder, settings, labelled_by="anna").n_new == 1


def test_an_image_is_found_as_received_as_exported_and_with_metadata_of_its_own(
    laboratory: Laboratory, settings: Settings, folder: Path, rows: Rows
) -> None:
    body = io.BytesIO()
    Image.effect_noise((48, 48), 90).convert("RGB").save(body, "JPEG")
    stored = body.getvalue()
    received, marked = (stored[:2] + b"\xff\xfe\0\x05" + text + stored[2:] for text in (b"abc", b"xyz"))
    laboratory.cells(laboratory.slide("S9"), ["LY"], [hashlib.sha256(stored).hexdigest()], ["1.jpg"])
    for person, form in (("anna", received), ("ben", stored), ("cleo", marked + b"seen")):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "LY").mkdir(parents=True)
        (folder / "LY" / "x.jpg").write_bytes(form)
        assert import_labels(folder, settings, labelled_by=person).n_new == 1
    assert rows("SELECT labelled_by, barcode, file_name FROM bloodcell.cell_label ORDER BY 1") == [
        ("anna", "S9", "1.jpg"),
        ("ben", "S9", "1.jpg"),
        ("cleo", "S9", "1.jpg"),
    ]
