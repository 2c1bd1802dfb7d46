"""A cell counts once in a slide, whatever its files are called, how they are coded, and what else is in them."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.drawing.cells import draw_cell
from bloodcell.ingest import IngestSummary, ingest_night
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.decoding import ImageBounds, decode
from bloodcell.storage.store import Store
from tests.ingest.night import NightFolder

Ingested = Callable[[], IngestSummary]
Ledger = Callable[[], dict[str, tuple[str, str | None]]]

_JPEG = io.BytesIO()
Image.fromarray(draw_cell("monocyte", np.random.default_rng(1))).save(_JPEG, "JPEG")
PIXELS = Image.open(_JPEG).convert("RGB")
OTHER = Image.fromarray(draw_cell("monocyte", np.random.default_rng(2)))


def file(form: str, picture: Image.Image = PIXELS, **options: object) -> bytes:
    if form == "JPEG" and picture is PIXELS and not options:
        return _JPEG.getvalue()
    body = io.BytesIO()
    picture.save(body, form, **options)
    return body.getvalue()


def with_comment(body: bytes, text: bytes) -> bytes:
    return body[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + body[2:]


NFD = unicodedata.normalize("NFD", "é")

FOLDERS: dict[str, dict[str, tuple[bytes, str]]] = {
    "three formats": {
        "MO_1.jpg": (file("JPEG"), "same_cell"),
        "MO_1.bmp": (file("BMP"), "cell"),
        "MO_1.png": (file("PNG"), "same_cell"),
        "MO_1.tiff": (file("TIFF"), "same_cell"),
    },
    "two endings of one format": {"MO_1.jpeg": (file("JPEG"), "cell"), "MO_1.jpg": (file("JPEG"), "same_image")},
    "a lossy copy": {"MO_1.bmp": (file("BMP"), "cell"), "MO_1.jpg": (file("JPEG", quality=50), "name_taken")},
    "case": {"MO_1.JPG": (file("JPEG"), "cell"), "mo_1.png": (file("PNG"), "same_cell")},
    "case, other pixels": {"MO_1.png": (file("PNG"), "cell"), "mo_1.png": (file("PNG", OTHER), "name_taken")},
    "leading zeros": {"MO_01.png": (file("PNG"), "cell"), "MO_1.bmp": (file("BMP"), "same_cell")},
    "leading zeros, other pixels": {
        "MO_01.png": (file("PNG"), "cell"),
        "MO_1.png": (file("PNG", OTHER), "name_taken"),
        "MO_10.png": (file("PNG", PIXELS.rotate(90)), "cell"),
    },
    "other metadata": {
        "MO_1.jpg": (with_comment(file("JPEG"), b"one"), "cell"),
        "MO_2.jpg": (with_comment(file("JPEG"), b"two"), "same_image"),
        "MO_3.jpg": (file("JPEG"), "same_image"),
        "MO_4.jpg": (file("JPEG") + b"three", "same_image"),
    },
    "a thumbnail": {
        "MO_1.jpg": (file("JPEG"), "cell"),
        "small/MO_1.jpg": (file("JPEG", PIXELS.resize((64, 64))), "name_fits_no_pattern"),
    },
    "composed and decomposed": {f"MO_1{NFD}.png": (file("PNG"), "cell"), "MO_1é.png": (file("PNG"), "same_cell")},
    "composed, other pixels": {
        f"MO_1{NFD}.png": (file("PNG"), "cell"),
        "MO_1é.png": (file("PNG", OTHER), "name_taken"),
    },
}


def test_no_cell_of_a_slide_counts_twice(night: NightFolder, ingested: Ingested, ledger: Ledger) -> None:
    expected = {}
    for slide, files in FOLDERS.items():
        for name, (body, outcome) in files.items():
            night.write(f"{slide}/{name}", body)
            expected[f"{slide}/{name}"] = outcome
    ingested()
    assert {path: reason or outcome for path, (outcome, reason) in ledger().items()} == expected
    for path in night.path.rglob("*.*"):
        path.touch()  # examined again
    ingested()
    assert {path: reason or outcome for path, (outcome, reason) in ledger().items()} == expected


def test_a_copy_that_comes_in_a_later_night_counts_once(night: NightFolder, settings: Settings, ledger: Ledger) -> None:
    later = NightFolder(settings.drops, date(2026, 11, 22))
    night.write("S1/MO_1.jpg", file("JPEG"))
    night.write("S1/MO_2.jpg", file("JPEG", OTHER))
    later.write("S1/MO_1.png", file("PNG"))
    later.write("S1/MO_2.jpg", with_comment(file("JPEG", OTHER), b"looked at"))
    later.write("S1/MO_02.png", file("PNG", PIXELS.rotate(90)))
    for folder in (night, later):
        ingest_night(folder.path, settings)
    assert ledger() == {
        "S1/MO_1.jpg": ("cell", None),
        "S1/MO_2.jpg": ("duplicate", "delivered_again"),
        "S1/MO_1.png": ("duplicate", "same_cell"),
        "S1/MO_02.png": ("quarantined", "name_taken"),
    } | {"S1/MO_2.jpg": ("duplicate", "delivered_again")}


def test_a_file_whose_metadata_change_after_ingest_stays_the_cell(
    night: NightFolder, ingested: Ingested, ledger: Ledger, database: Database
) -> None:
    path = night.write("S1/MO_1.jpg", file("JPEG"))
    ingested()
    path.write_bytes(with_comment(file("JPEG"), b"rated: 5 stars"))
    ingested()
    assert ledger() == {"S1/MO_1.jpg": ("cell", None)}
    with database.connect() as connection:
        received = connection.scalar(sa.text("SELECT coalesce(received_sha256, sha256) FROM bloodcell.cell"))
    assert received == hashlib.sha256(file("JPEG")).hexdigest()


def test_a_slide_delivered_composed_and_decomposed_is_one_slide(
    night: NightFolder, ingested: Ingested, ledger: Ledger, database: Database
) -> None:
    night.record(f"S{NFD}", patient_key="P1")
    night.write(f"S{NFD}/MO_1.jpg", file("JPEG"))
    night.write("Sé/MO_1.png", file("PNG"))
    night.write("Sé/MO_2.png", file("PNG", OTHER))
    assert (ingested().n_slides, ingested().n_cells) == (1, 2)
    assert {reason or outcome for outcome, reason in ledger().values()} == {"cell", "same_cell", "slide_record"}
    with database.connect() as connection:
        slides = connection.execute(sa.text("SELECT barcode, patient_key FROM bloodcell.slide")).all()
    assert slides == [("Sé", "P1")]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF"])
def test_the_store_has_the_pixels_and_nothing_else(
    night: NightFolder, ingested: Ingested, settings: Settings, database: Database, form: str
) -> None:
    name = b"DOE JOHN"
    body = with_comment(file("JPEG"), name) if form == "JPEG" else file(form) + name
    night.write("S1/MO_1.jpg", body)
    assert ingested().n_cells == 1
    with database.connect() as connection:
        cell = connection.execute(sa.text("SELECT sha256, received_sha256 FROM bloodcell.cell_provenance")).one()
        n_bytes = connection.scalar(sa.text("SELECT size_bytes FROM bloodcell.image"))
        received = connection.scalar(sa.text("SELECT sha256 FROM bloodcell.file_account"))
    assert cell.received_sha256 == received == hashlib.sha256(body).hexdigest() != cell.sha256
    stored = Store.of(settings).read_image(cell.sha256)
    assert n_bytes == len(stored) < len(body)
    assert not any(name in path.read_bytes() for path in settings.data_dir.rglob("images/*/*"))
    bounds = ImageBounds.of(settings)
    assert decode(stored, bounds).tobytes() == decode(body, bounds).tobytes()
