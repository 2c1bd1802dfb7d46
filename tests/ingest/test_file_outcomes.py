from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.ingest import IngestSummary, ingest_night
from bloodcell.ingest.file_outcomes import DUPLICATE_REASONS, IGNORE_REASONS, QUARANTINE_REASONS
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.ingest.night import NightFolder, picture

Ingested = Callable[[], IngestSummary]
Ledger = Callable[[], dict[str, tuple[str, str | None]]]


def test_every_file_has_exactly_one_outcome(night: NightFolder, ingested: Ingested, ledger: Ledger) -> None:
    night.record("S1", patient_key="P1")
    night.cell("S1", 1)
    night.cell("S1", 2, code="XYZ")
    night.cell("S1", 3, seed=1)
    night.write("S1/Thumbs.db", b"\0" * 10)
    night.write("S1/._SNE_00000001.png", b"\0" * 10)
    night.write("S1/sub/LY_00000009.png", picture(9))
    night.write("loose.txt", b"hello")
    night.complete()

    summary = ingested()

    assert ledger() == {
        "S1/slide.json": ("ignored", "slide_record"),
        "S1/SNE_00000001.png": ("cell", None),
        "S1/XYZ_00000002.png": ("cell", None),
        "S1/SNE_00000003.png": ("duplicate", "same_image"),
        "S1/Thumbs.db": ("ignored", "system_file"),
        "S1/._SNE_00000001.png": ("ignored", "hidden_file"),
        "S1/sub/LY_00000009.png": ("quarantined", "name_fits_no_pattern"),
        "loose.txt": ("quarantined", "name_fits_no_pattern"),
        ".complete": ("ignored", "hidden_file"),
    }
    assert (summary.n_files, summary.n_cells, summary.n_duplicates) == (9, 2, 1)
    assert (summary.n_quarantined, summary.n_ignored, summary.n_slides) == (2, 4, 1)


def test_files_below_ignored_folders_are_ignored(night: NightFolder, ingested: Ingested, ledger: Ledger) -> None:
    night.cell("S1", 1)
    night.cell(".Trash-1000", 2)
    night.cell("@eaDir", 3)
    night.complete()
    assert ingested().n_slides == 1
    assert ledger()[".Trash-1000/SNE_00000002.png"] == ("ignored", "hidden_file")
    assert ledger()["@eaDir/SNE_00000003.png"] == ("ignored", "system_file")


def test_a_number_that_is_not_decimal_does_not_match_the_pattern(
    night: NightFolder, settings: Settings, ledger: Ledger
) -> None:
    night.write("S1/LY_abc.png", picture(1))
    night.complete()
    wide = settings.model_copy(update={"drop_pattern": r"(?P<slide>[^/]+)/[A-Z]+_(?P<number>\w+)\.png"})
    ingest_night(night.path, wide)
    assert ledger()["S1/LY_abc.png"] == ("quarantined", "name_fits_no_pattern")


def test_of_two_identical_images_the_one_with_the_higher_number_is_the_duplicate(
    night: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    night.cell("S1", 20, code="SNE", seed=1)
    night.cell("S1", 100, code="BNE", seed=1)
    night.complete()
    ingested()
    assert ledger()["S1/SNE_00000020.png"] == ("cell", None)
    assert ledger()["S1/BNE_00000100.png"] == ("duplicate", "same_image")


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("SNE_1.jpg", b"", "empty"),
        ("SNE_1.jpg", b"this is no image", "not_an_image"),
        ("SNE_1.jpg", picture(1, form="JPEG")[:700], "truncated"),
        ("SNE_1.png", picture(1)[:3000], "truncated"),
        ("SNE_1.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 500, "damaged"),
        ("SNE_1.jpg", picture(1, form="JPEG", mode="L"), "unsupported_colour"),
        ("SNE_1.jpg", picture(1, form="JPEG", mode="CMYK"), "unsupported_colour"),
        ("SNE_1.png", picture(1, mode="RGBA"), "unsupported_colour"),
        ("SNE_1.png", picture(1, size=(20, 50)), "too_small"),
        ("SNE_1.bmp", picture(1, form="GIF"), "not_an_image"),
    ],
)
def test_an_unusable_file_is_quarantined_with_its_reason(
    night: NightFolder, ingested: Ingested, ledger: Ledger, name: str, body: bytes, reason: str
) -> None:
    night.write(f"S1/{name}", body)
    night.complete()
    ingested()
    assert ledger()[f"S1/{name}"] == ("quarantined", reason)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF"])
def test_each_format_becomes_a_cell(night: NightFolder, ingested: Ingested, form: str) -> None:
    night.write(f"S1/SNE_1.{form.lower()}", picture(1, form=form))
    night.complete()
    assert ingested().n_cells == 1


def test_bounds_of_bytes_and_pixels_are_checked_before_decoding(
    night: NightFolder, settings: Settings, ledger: Ledger
) -> None:
    night.cell("S1", 1)
    night.complete()
    ingest_night(night.path, settings.model_copy(update={"max_file_bytes": 1000}))
    assert ledger()["S1/SNE_00000001.png"] == ("quarantined", "too_many_bytes")
    ingest_night(night.path, settings.model_copy(update={"max_pixels": 100}))
    assert ledger()["S1/SNE_00000001.png"] == ("quarantined", "too_many_pixels")


def test_a_raised_setting_turns_a_quarantined_file_into_a_cell_and_keeps_the_history(
    night: NightFolder, settings: Settings, ledger: Ledger, database_url: str
) -> None:
    night.cell("S1", 1)
    night.complete()
    ingest_night(night.path, settings.model_copy(update={"max_pixels": 100}))
    assert ingest_night(night.path, settings).n_cells == 1
    assert ledger()["S1/SNE_00000001.png"] == ("cell", None)
    with sa.create_engine(database_url).connect() as connection:
        history = connection.execute(sa.text("SELECT outcome, reason FROM bloodcell.drop_file_history")).all()
    assert [tuple(row) for row in history] == [("quarantined", "too_many_pixels")]


def test_links_pipes_and_sockets_are_not_followed(
    night: NightFolder, ingested: Ingested, ledger: Ledger, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(5))
    night.cell("S1", 1)
    (night.path / "S1/SNE_2.png").symlink_to(secret)
    (night.path / "S2").symlink_to(tmp_path)
    os.mkfifo(night.path / "S1/SNE_3.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(night.path / "S1/SNE_4.png"))
        night.complete()
        ingested()
    assert ledger()["S1/SNE_2.png"] == ("quarantined", "link")
    assert ledger()["S2"] == ("quarantined", "link")
    assert ledger()["S1/SNE_3.png"] == ("quarantined", "not_a_regular_file")
    assert ledger()["S1/SNE_4.png"] == ("quarantined", "not_a_regular_file")


def test_hostile_names_are_not_executed(night: NightFolder, ingested: Ingested, ledger: Ledger) -> None:
    name = "LY_90000007 ü中'; drop table cell;--.png"
    night.write(f"S1/{name}", picture(1))
    latin1 = os.fsencode(night.path / "S1") + b"/LY_8\xff.png"
    Path(os.fsdecode(latin1)).write_bytes(picture(2))
    night.complete()
    ingested()
    assert ledger()[f"S1/{name}"] == ("cell", None)
    assert ledger()["S1/LY_8\\xff.png"] == ("quarantined", "name_not_utf8")


def test_the_same_image_in_two_slides_counts_in_each_and_is_reported(
    night: NightFolder, ingested: Ingested, database: Database
) -> None:
    night.cell("S1", 1, seed=7)
    night.cell("S2", 2, seed=7)
    night.complete()
    assert ingested().n_cells == 2
    with database.connect() as connection:
        asked = sa.text("SELECT n_slides, barcodes FROM bloodcell.shared_image WHERE barcode = 'S1'")
        shared = connection.execute(asked).one()
    assert tuple(shared) == (2, ["S1", "S2"])


def test_an_empty_folder_is_a_complete_night(night: NightFolder, ingested: Ingested) -> None:
    night.complete()
    assert ingested().n_files == 1


def test_an_empty_slide_folder_is_a_slide_without_cells(night: NightFolder, ingested: Ingested) -> None:
    (night.path / "S1").mkdir()
    night.complete()
    summary = ingested()
    assert (summary.n_slides, summary.n_cells) == (1, 0)


def test_a_folder_whose_name_is_not_a_date_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"expected a date named as BLOODCELL_NIGHT_PATTERN says, .* received 'tonight'"
    ):
        ingest_night(tmp_path / "tonight", settings)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ingest_night(tmp_path / "2026-01-01", settings)


def test_the_pattern_is_a_setting(night: NightFolder, settings: Settings, ledger: Ledger, database: Database) -> None:
    night.write("A17-LY-0001.png", picture(1))
    night.complete()
    flat = settings.model_copy(update={"drop_pattern": r"(?P<slide>\w+)-(?P<code>[A-Z]+)-(?P<number>\d+)\.png"})
    assert ingest_night(night.path, flat).n_cells == 1
    with database.connect() as connection:
        row = connection.execute(
            sa.text("SELECT barcode, analyser_class FROM bloodcell.slide JOIN bloodcell.cell USING (slide_id)")
        ).one()
    assert tuple(row) == ("A17", "lymphocyte")


def test_reasons_say_what_to_do() -> None:
    for reasons in (QUARANTINE_REASONS, DUPLICATE_REASONS, IGNORE_REASONS):
        assert all(text.endswith(".") and len(text) > 20 for text in reasons.values())


def test_names_with_invisible_characters_are_set_aside_and_shown_spelt_out(
    night: NightFolder, ingested: Ingested, ledger: Ledger
) -> None:
    night.write("S1/SNE_1\u202egnp.png", picture(1))
    night.write("S\u200b1/SNE_2.png", picture(2))
    night.write("S1/SNE_3\x1b[2J.png", picture(3))
    night.write("S2/slide.json", b'{"barcode": "S2", "order_id": "O\\u200b1"}')
    ingested()
    assert ledger() == {
        r"S1/SNE_1\u202egnp.png": ("quarantined", "name_not_visible"),
        r"S\u200b1/SNE_2.png": ("quarantined", "name_not_visible"),
        r"S1/SNE_3\u001b[2J.png": ("quarantined", "name_not_visible"),
        "S2/slide.json": ("quarantined", "slide_record"),
    }
