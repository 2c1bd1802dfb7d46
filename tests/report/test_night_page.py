"""The page of a night, which a person opens in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.report.night_page import render, write_night_page
from bloodcell.report.night_report import night_summary
from bloodcell.settings import Settings
from tests.laboratory import Laboratory
from tests.report.test_night_report import HEALTHY, a_night, a_slide, laboratory

__all__ = ["laboratory"]  # a fixture


def text_of(page: str) -> str:
    """The words of a page, without markup."""
    body = page.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def rows_of(page: str) -> dict[str, list[str]]:
    """The rows of the table of slides: barcode -> text of the other cells."""
    table = page.partition("<h2>Slides")[2].partition("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("<tr>")[2:]]
    texts = [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row] for row in rows]
    return {barcode: others for barcode, *others in texts}


def test_the_page_begins_with_the_slides_without_a_cell_then_those_to_look_at_first(laboratory: Laboratory) -> None:
    a_night(laboratory)
    laboratory.call(laboratory.cells(laboratory.slide("Y-8"), ["BL"] * 2), ["lymphocyte"] * 2)
    a_slide(laboratory, "Z-9", HEALTHY | {"BL": 2})
    summary = night_summary(laboratory.database, laboratory.night)
    page = render(summary, {"20261107": "a second folder"})
    text = text_of(page)

    found = ["1 slide without a usable cell: nothing is reported for it", "D-4 : 2 truncated, 1 empty", "20261107"]
    found += ["Withheld 2", "For review 1", "Slides", "Z-9", "B-2", "C-3", "Y-8", "A-1", "D-4"]
    place = 0
    for each in found:
        place = text.index(each, place)
    assert rows_of(page) == {
        "Z-9": ["withheld", "blasts, unverified other leucocytes (2 BL)", "108", "0"],
        "B-2": ["withheld insufficient count", "too few leucocytes ▲ Lymphocytes high ▼ Neutrophils low", "10", "0"],
        "C-3": ["waiting: 9 of 9 cells", "", "0", "0"],
        "Y-8": ["waiting: 2 of 2 cells", "", "0", "0"],
        "A-1": [
            "machine",
            "immature granulocytes ▲ Immature granulocytes high ▼ Lymphocytes low ▼ Monocytes low ▲ Neutrophils high",
            *("118", "2"),
        ],
        "D-4": ["no usable cell", "", "0", "0"],
    }
    assert summary.headline.startswith("Night 2026-03-14: 1 slide without a usable cell; 6 slides, ")


def test_a_withheld_slide_with_late_cells_is_shown_as_both(laboratory: Laboratory) -> None:
    a_slide(laboratory, "A-1", {"SNE": 20, "LY": 10})
    slide = int(str(laboratory.rows("SELECT slide_id FROM bloodcell.slide")[0][0]))
    laboratory.cells(slide, ["LY"] * 4)
    page = render(night_summary(laboratory.database, laboratory.night), {})
    assert rows_of(page)["A-1"][0] == "withheld waiting: 4 of 34 cells insufficient count"


def test_a_signed_slide_shows_no_reason_until_it_differs_from_what_was_signed(laboratory: Laboratory) -> None:
    cells = a_slide(laboratory, "A-1", {"SNE": 30, "LY": 80, "MO": 6})
    flags = "▲ Lymphocytes high ▼ Neutrophils low"

    def row() -> list[str]:
        return rows_of(render(night_summary(laboratory.database, laboratory.night), {}))["A-1"]

    assert row() == ["machine", flags, "116", "0"]
    laboratory.sign("A-1", 1)
    assert row() == ["final", "", "116", "0"]
    laboratory.label(cells[30:32], ["VLY", "BL"])
    laboratory.count()
    assert row() == ["final, differs now", f"differs from what was signed, blasts {flags}", "116", "0"]


def test_names_from_outside_have_no_meaning_on_the_page(laboratory: Laboratory) -> None:
    name = "<script>alert(1)<b>\u202e"
    laboratory.cells(laboratory.slide(name), ["LY"])
    laboratory.file(f"{name}2/LY_1.jpg", "quarantined", reason="empty")
    page = render(night_summary(laboratory.database, laboratory.night), {name: name})
    assert "<script" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;b&gt;\\u202e") == 4


def test_a_redo_replaces_the_page_and_a_page_that_cannot_be_written_is_an_error(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    path = write_night_page(settings, night_summary(laboratory.database, laboratory.night), {})
    laboratory.cells(laboratory.slide("A-1"), ["LY"])
    assert write_night_page(settings, night_summary(laboratory.database, laboratory.night), {}) == path
    assert path == tmp_path / "summaries" / "2026-03-14.html"
    assert "A-1" in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*its results are in the database"):
        write_night_page(Settings(data_dir=tmp_path / "file"), night_summary(laboratory.database, laboratory.night), {})
