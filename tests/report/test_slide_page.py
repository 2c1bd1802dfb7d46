"""The HTML page of a slide: what is on it, in which order, and that nothing on it can do harm."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.differential.counting import LINES
from bloodcell.errors import ConfigurationError, StoreUnavailableError, UnknownRecordError
from bloodcell.report.slide_page import write_report
from bloodcell.report.slide_report import read_report
from bloodcell.storage.store import Store
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory
from tests.report.slide_pages import Page, counted_slide, facts, gallery, notices, rows, status, stored, words, written

HOSTILE = "LY_90000007 ü中'; drop table cell;--.jpg"
SCRIPT = "<script>alert(1)</script>"


def slide_of_120(laboratory: Laboratory, store: Store, barcode: str = "S-1") -> int:
    slide = laboratory.slide(barcode)
    digests = [stored(store, (index, 100, 200)) for index in range(120)]
    cells = laboratory.cells(slide, ["SNE"] * 100 + ["BL"] + ["LY"] * 19, digests)
    called = ["neutrophil"] * 97 + ["unclassified"] * 3 + ["lymphocyte"] * 17 + ["basophil"] * 3
    confidences = [0.99 - index / 1000 for index in range(97)] + [0.4, 0.3, 0.5] + [0.8] * 20
    laboratory.call(cells, called, run_id=laboratory.run("classify"), confidences=confidences)
    laboratory.count(slide)
    return slide


def test_page_shows_slide_differential_gallery_and_provenance(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    page = written(laboratory, store, tmp_path)
    assert facts(page) == {
        "Order": "O-1",
        "Patient (pseudonym)": "p-17",
        "Analyser": "DM96",
        "Night": "2026-03-14",
        "Leucocytes": "117",
        "Cells": "120",
        "Model": "inception_v3_svm",
    }
    codes = [row[7] for row in rows(page, "Differential")]
    assert codes == ["26511-6", "26450-7", "30180-4", "26478-8", "26485-3", "38518-7", "26446-5", ""]
    lines = {row[0]: row[1:7] for row in rows(page, "Differential")}
    assert lines == {
        "Neutrophils": ["97", "82.9", "74.8–89.2", "80.8–83.3", "40–75", "▲ possibly high"],
        "Eosinophils": ["0", "0.0", "0.0–3.1", "0.0–2.5", "0–5.5", ""],
        "Basophils": ["3", "2.6", "0.5–7.3", "2.5–5.0", "0–1", "▲ possibly high"],
        "Lymphocytes": ["16", "13.7", "8.0–21.3", "13.3–15.8", "12–44", ""],
        "Monocytes": ["0", "0.0", "0.0–3.1", "0.0–2.5", "4–9", "▼ low"],
        "Immature granulocytes": ["0", "0.0", "0.0–3.1", "0.0–2.5", "0–0.9", ""],
        "BL blast unverified": ["1", "0.9", "0.0–4.7", "0.8–3.3", "", ""],
        "All leucocytes": ["117", "100", "", "", "", ""],
    }
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
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name == "src"]
    assert len(sources) == 120
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_picture_opens_in_its_place_and_closing_it_leads_back_to_its_cell(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    page = Page(written(laboratory, store, tmp_path))
    places = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(places) == len(set(places))
    cells = [str(figure["id"]).removeprefix("cell-") for figure in page.of("figure")]
    assert len(cells) == 120
    links = [(attributes["class"], attributes["href"]) for attributes in page.of("a")]
    assert links == [link for cell in cells for link in (("open", f"#cell-{cell}"), ("way-out", f"#of-{cell}"))]
    assert {f"of-{cell}" for cell in cells} == {caption["id"] for caption in page.of("figcaption")}


def test_pictures_have_their_own_size_up_to_512_pixels_and_each_has_an_alternative_text(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide_of_120(laboratory, store)
    slide = laboratory.slide("S-2")
    laboratory.call(laboratory.cells(slide, ["LY"], [stored(store, (1, 2, 3), (1024, 768))]), ["lymphocyte"])
    laboratory.count(slide)
    images = Page(written(laboratory, store, tmp_path)).of("img")
    (large,) = Page(written(laboratory, store, tmp_path, "S-2")).of("img")
    for image, size_px in ((images[0], (150, 151)), (large, (512, 384))):
        with Image.open(io.BytesIO(base64.b64decode((image["src"] or "").split(",")[1]))) as picture:
            assert (picture.size, picture.format) == (size_px, "JPEG")
    assert all(re.match(r"Cell \S+: \w+, first choice \w+ \d+ %|Cell \S+: .* > 99 %", i["alt"] or "") for i in images)


def test_blasts_and_unclassified_cells_come_first_and_low_confidence_before_high(
    laboratory: Laboratory, store: Store
) -> None:
    slide_of_120(laboratory, store)
    blasts, unclassified, neutrophils, *others = read_report(laboratory.database, "S-1").classes
    assert [each.line for each in (blasts, unclassified, neutrophils)] == ["BL", "unclassified", "neutrophil"]
    assert [each.line for each in others] == ["basophil", "lymphocyte"]
    assert [len(each.cells) for each in (blasts, unclassified, neutrophils, *others)] == [1, 3, 97, 3, 16]
    assert [round(cell.confidence, 2) for cell in unclassified.cells] == [0.3, 0.4, 0.5]
    confidences = [cell.confidence for cell in neutrophils.cells]
    assert confidences == sorted(confidences)


def test_novel_cells_come_before_low_confidence_ones_with_the_highest_novelty_first(
    laboratory: Laboratory, store: Store
) -> None:
    slide = laboratory.slide("S-2")
    cells = laboratory.cells(slide, [None] * 4)
    laboratory.call(cells, ["unclassified"] * 4, confidences=[0.3, 0.9, 0.9, 0.2], novelties=[1, 20, 30, 2])
    laboratory.count(slide)
    report = read_report(laboratory.database, "S-2")
    assert [cell.novelty for cell in report.classes[0].cells] == [30, 20, 2, 1]


def test_a_cell_that_is_like_the_laboratorys_blasts_comes_first_and_says_so_also_after_a_redo(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    slide = laboratory.slide("S-2")
    cells = laboratory.cells(slide, [None] * 3, [stored(store, (each, 2, 3)) for each in range(3)])
    laboratory.call(cells, ["unclassified"] * 3, novelties=[30, 2, 1], resembles={1: "BL"})
    laboratory.count(slide)
    report = read_report(laboratory.database, "S-2")
    assert [cell.resembles for cell in report.classes[0].cells] == ["BL", None, None]
    assert "not classified: like your BL" in written(laboratory, store, tmp_path, "S-2")
    [(_, first), *_] = laboratory.rows("SELECT cell_id, resembles FROM bloodcell.review_queue ORDER BY resembles")
    assert first == "BL"
    laboratory.call_again("lymphocyte")
    history = laboratory.rows("SELECT replaced_at IS NULL, resembles FROM bloodcell.call_history WHERE resembles <> ''")
    assert [tuple(row) for row in history] == [(False, "BL")]


def test_codes_out_of_scope_are_announced_and_shown_first(laboratory: Laboratory, store: Store, tmp_path: Path) -> None:
    slide_of_120(laboratory, store)
    report = read_report(laboratory.database, "S-1")
    assert report.result is not None
    (blasts,) = report.result.differential.other_leucocytes
    assert (blasts.cell_class, blasts.share.n, blasts.n_unverified) == ("BL", 1, 1)
    assert report.classes[0].cells[0].analyser_code == "BL"
    page = written(laboratory, store, tmp_path)
    assert "Look at these first, only the analyser's code names them: BL blast (1)." in words(page)
    (caption,) = gallery(page)["BL blast 1 for review"]
    assert re.fullmatch(r"counts as BL blast analyser BL model lymphocyte 80 % monocyte 20 % BL_\d+\.jpg", caption)


def test_every_line_that_a_cell_can_count_as_has_its_place_in_the_gallery(laboratory: Laboratory, store: Store) -> None:
    codes = [line for line in LINES if line.isupper()]
    called = [line for line in LINES if line.islower() and line != "contested"]
    cells = counted_slide(
        laboratory, store, [(code, "lymphocyte", 1) for code in codes] + [(None, c, 1) for c in called]
    )
    contested = laboratory.cells(laboratory.rows("SELECT slide_id FROM bloodcell.slide")[0][0], ["LY"])  # type: ignore[arg-type]
    laboratory.call(contested, ["lymphocyte"])
    laboratory.label(contested, ["BL"], by="anna")
    laboratory.label(contested, ["VLY"], by="ben")
    laboratory.count()
    report = read_report(laboratory.database, "S-1")
    assert {each.line for each in report.classes} == set(LINES)
    assert sum(len(each.cells) for each in report.classes) == len(cells) + 1
    assert report.is_as_counted


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
    laboratory.count(slide)
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
    laboratory.count(slide)
    laboratory.cells(slide, ["SNE", "LY"])
    page = written(laboratory, store, tmp_path, "S-5")
    assert status(page) == "Withheld"
    assert "Insufficient count: 1 leucocyte, fewer than 100. The intervals say how little is known." in notices(page)
    assert "Incomplete: 2 cells came later, not counted yet." in notices(page)
    assert "challenger" not in page.lower()
    of_challenger = written(laboratory, store, tmp_path, "S-5", CHALLENGER[:8])
    assert status(of_challenger) == "Challenger, insufficient count"
    assert notices(of_challenger)[0] == "Count of a challenger: not reported."
    assert facts(of_challenger)["Model"] == "vgg16"


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
    laboratory.count(slide)
    page = written(laboratory, store, tmp_path, "S-7")
    assert len(Page(page).of("img")) == 200
    assert 2_000_000 < len(page) < 5_000_000
