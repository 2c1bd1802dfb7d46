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
from tests.report.test_night_report import a_night, laboratory

__all__ = ["laboratory"]  # a fixture


def text_of(page: str) -> str:
    """The words of a page, without markup."""
    body = page.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_page_begins_with_the_slides_without_a_cell_then_those_to_look_at_first(laboratory: Laboratory) -> None:
    a_night(laboratory)
    laboratory.call(laboratory.cells(laboratory.slide("Z-9"), ["BL"] * 2), ["lymphocyte"] * 2)
    summary = night_summary(laboratory.database, laboratory.night)
    text = text_of(render(summary, {"20261107": "a second folder"}))

    found = ["1 slide without a usable cell: nothing is reported for it", "D-4 : 2 truncated, 1 empty", "20261107"]
    found += ["Slides", "Z-9", "BL (2)", "C-3", "waiting: 9 of 9 cells", "B-2", "insufficient count", "A-1", "reported"]
    place = 0
    for each in found:
        place = text.index(each, place)
    assert "▲ Immature granulocytes" in text
    assert summary.headline.startswith("Night 2026-03-14: 1 slide without a usable cell; 5 slides, ")


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
