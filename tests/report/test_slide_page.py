"""The HTML page of a slide."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.differential.differential_rows import write_differentials
from bloodcell.errors import ConfigurationError, StoreUnavailableError, UnknownRecordError
from bloodcell.report.slide_page import write_report
from bloodcell.report.slide_report import read_report
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory

HOSTILE = "LY_90000007 ü中'; drop table cell;--.jpg"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def stored(store: Store, colour: tuple[int, int, int]) -> str:
    """Stores an image of one colour and returns its digest."""
    body = io.BytesIO()
    Image.new("RGB", (150, 151), colour).save(body, "PNG")
    digest = hashlib.sha256(body.getvalue()).hexdigest()
    store.put_image(digest, body.getvalue())
    return digest


def count(laboratory: Laboratory, *slides: int) -> None:
    write_differentials(
        laboratory.database, slides=slides, model_id=None, run_id=laboratory.run("differential"), settings=Settings()
    )


def slide_of_120(laboratory: Laboratory, store: Store, barcode: str = "S-1") -> int:
    slide = laboratory.slide(barcode)
    digests = [stored(store, (index, 100, 200)) for index in range(120)]
    cells = laboratory.cells(slide, ["SNE"] * 100 + ["BL"] + ["LY"] * 19, digests)
    called = ["neutrophil"] * 97 + ["unclassified"] * 3 + ["lymphocyte"] * 17 + ["basophil"] * 3
    confidences = [0.99 - index / 1000 for index in range(97)] + [0.4, 0.3, 0.5] + [0.8] * 20
    laboratory.call(cells, called, run_id=laboratory.run("classify"), confidences=confidences)
    count(laboratory, slide)
    return slide


def written(laboratory: Laboratory, store: Store, folder: Path, barcode: str = "S-1", model: str | None = None) -> str:
    path = folder / "report.html"
    write_report(laboratory.database, store, barcode, path, model_id=model)
    assert [p.name for p in folder.glob("*report*")] == ["report.html"]
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_page_shows_slide_differential_gallery_and_provenance(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    page = written(laboratory, store, tmp_path)
    for expected in ("O-1", "p-17", "DM96", "2026-03-14", "Sufficient count: 117 leucocytes", "inception_v3_svm"):
        assert expected in page
    assert "possibly high" in page
    assert "▲ high" in page
    assert "d16e57" in page
    assert CHAMPION[:16] in page
    stages = re.findall(r"<tr><td>(\w+)</td><td><code>", page)
    assert sorted(stages) == ["classify", "differential", "ingest"]
    assert page.count("Not a diagnosis") >= 1
    assert len(Page(page).of("img")) == 120


def test_page_is_self_contained_and_runs_no_script(laboratory: Laboratory, store: Store, tmp_path: Path) -> None:
    slide_of_120(laboratory, store)
    text = written(laboratory, store, tmp_path)
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "iframe", "object", "embed", "base", "form"}]
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href"}]
    assert sources
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_are_small_and_each_has_an_alternative_text(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    images = Page(written(laboratory, store, tmp_path)).of("img")
    with Image.open(io.BytesIO(base64.b64decode((images[0]["src"] or "").split(",")[1]))) as picture:
        assert max(picture.size) == 144
        assert picture.format == "JPEG"
    assert all(re.match(r"Cell \S+: \w+, first choice \w+ \d+ %|Cell \S+: .* > 99 %", i["alt"] or "") for i in images)


def test_unclassified_cells_come_first_and_low_confidence_before_high(laboratory: Laboratory, store: Store) -> None:
    slide_of_120(laboratory, store)
    report = read_report(laboratory.database, "S-1")
    assert [cell_class.called_class for cell_class in report.classes] == [
        "unclassified",
        "neutrophil",
        "basophil",
        "lymphocyte",
    ]
    assert [round(c.confidence, 2) for c in report.classes[0].cells] == [0.3, 0.4, 0.5]
    neutrophils = [cell.confidence for cell in report.classes[1].cells]
    assert neutrophils == sorted(neutrophils)


def test_novel_cells_come_before_low_confidence_ones_with_the_highest_novelty_first(
    laboratory: Laboratory, store: Store
) -> None:
    slide = laboratory.slide("S-2")
    cells = laboratory.cells(slide, [None] * 4)
    laboratory.call(cells, ["unclassified"] * 4, confidences=[0.3, 0.9, 0.9, 0.2], novelties=[1, 20, 30, 2])
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.cell_call SET unclassified_reason = 'novel' WHERE novelty > 10"))
    count(laboratory, slide)
    report = read_report(laboratory.database, "S-2")
    assert [cell.novelty for cell in report.classes[0].cells] == [30, 20, 2, 1]


def test_codes_out_of_scope_are_announced_and_shown_first(laboratory: Laboratory, store: Store, tmp_path: Path) -> None:
    slide_of_120(laboratory, store)
    report = read_report(laboratory.database, "S-1")
    assert report.differential is not None
    assert report.differential.out_of_scope_codes == (("BL", 1),)
    assert report.classes[3].cells[0].analyser_code == "BL"
    page = written(laboratory, store, tmp_path)
    assert re.search(r"which no model can name:\s+<bdi>BL</bdi> \(1\)", page)


def test_disagreement_with_the_analyser_is_framed(laboratory: Laboratory, store: Store, tmp_path: Path) -> None:
    slide_of_120(laboratory, store)
    # three LY are called basophil; the BL is framed as well
    assert written(laboratory, store, tmp_path).count('class="differs"') == 4


@pytest.mark.parametrize("name", [HOSTILE, SCRIPT, '"><img src=x onerror=alert(1)>.jpg', "{{ 27644437 * 3 }}"])
def test_hostile_names_are_shown_literally_and_do_nothing(
    laboratory: Laboratory, store: Store, tmp_path: Path, name: str
) -> None:
    slide = laboratory.slide(name, order_id=name, analyser=name, patient_key=name)
    cells = laboratory.cells(slide, [None], [stored(store, (1, 2, 3))], [name])
    laboratory.call(cells, ["neutrophil"])
    laboratory.file(f"{name}/{name}", "quarantined", barcode=name, reason="truncated", detail=name)
    count(laboratory, slide)
    text = written(laboratory, store, tmp_path, name)
    page = Page(text)
    assert not page.of("script")
    assert [image["alt"] for image in page.of("img")] == [f"Cell {name}: neutrophil, first choice neutrophil 90 %"]
    assert not any("onerror" in attributes for _, attributes in page.tags)
    # what a template would have made of the last name; a commit's digits are unlikely to contain it
    assert "82933311" not in text


def test_characters_that_reorder_or_hide_text_are_shown_as_escapes(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide = laboratory.slide("S-3")
    laboratory.file("S-3/a\u202egpj.exe\x07.jpg", "quarantined", reason="not_an_image", detail="line\nbreak")
    page = written(laboratory, store, tmp_path, "S-3")
    assert "S-3/a\\u202egpj.exe\\u0007.jpg" in page
    assert "line\\u000abreak" in page
    assert slide


def test_slide_without_usable_cells_is_reported_with_its_files(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    laboratory.slide("S-4")
    laboratory.file("S-4/LY_1.jpg", "quarantined", reason="not_an_image", detail="starts with 00")
    page = written(laboratory, store, tmp_path, "S-4")
    assert "No cell of this slide could be used" in page
    assert "not an image" in page
    assert "No differential" in page
    assert "95 % interval" not in page


def test_insufficient_incomplete_and_challenger_are_marked(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    slide = laboratory.slide("S-5")
    cells = laboratory.cells(slide, ["SNE"], [stored(store, (9, 9, 9))])
    laboratory.call(cells, ["neutrophil"])
    laboratory.call(cells, ["neutrophil"], CHALLENGER)
    count(laboratory, slide)
    laboratory.cells(slide, ["SNE", "LY"])
    page = written(laboratory, store, tmp_path, "S-5")
    assert "Insufficient count: 1 leucocyte\n" in page
    assert "<b>Insufficient count.</b>" in page
    assert re.search(r"<b>Incomplete.</b> 2 cells", page)
    assert "Challenger model" not in page
    assert "Challenger model" in written(laboratory, store, tmp_path, "S-5", CHALLENGER[:8])


def test_one_image_missing_from_the_store_leaves_a_note_in_its_place(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    victim = read_report(laboratory.database, "S-1").classes[0].cells[0].sha256
    next((tmp_path / "store").rglob(victim)).write_bytes(b"altered")
    page = written(laboratory, store, tmp_path)
    assert len(Page(page).of("img")) == 119
    assert page.count("picture missing or altered in the store") == 1


def test_an_unavailable_store_is_an_error_and_nothing_is_written(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    with pytest.raises(StoreUnavailableError):
        write_report(laboratory.database, Store(str(tmp_path / "away"), tmp_path), "S-1", tmp_path / "report.html")
    assert not list(tmp_path.glob("*report*"))


def test_a_page_that_cannot_be_written_is_an_error_that_names_the_file(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*nowhere"):
        write_report(laboratory.database, store, "S-1", tmp_path / "nowhere" / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigurationError, match=r"folder\.html"):
        write_report(laboratory.database, store, "S-1", tmp_path / "folder.html")
    assert not list(tmp_path.glob(".*part"))


def test_a_slide_not_called_yet_is_an_error_that_names_the_command(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide = laboratory.slide("S-6")
    laboratory.cells(slide, ["SNE"])
    with pytest.raises(UnknownRecordError, match="bloodcell classify --slide S-6"):
        write_report(laboratory.database, store, "S-6", tmp_path / "report.html")


def test_200_real_cells_make_a_page_of_a_few_megabytes(
    laboratory: Laboratory, store: Store, tmp_path: Path, shared: Path
) -> None:
    digests = []
    for path in sorted((shared / "pbc" / "lymphocyte").glob("*.jpg"))[:200]:
        body = path.read_bytes()
        digests.append(hashlib.sha256(body).hexdigest())
        store.put_image(digests[-1], body)
    slide = laboratory.slide("S-7")
    laboratory.call(laboratory.cells(slide, ["LY"] * 200, digests), ["lymphocyte"] * 200)
    count(laboratory, slide)
    page = written(laboratory, store, tmp_path, "S-7")
    assert len(Page(page).of("img")) == 200
    assert 500_000 < len(page) < 3_000_000
