"""The summary of a night, as records and as Markdown."""

from __future__ import annotations

from datetime import date

import pytest
import sqlalchemy as sa

from bloodcell.differential.differential_rows import write_differentials
from bloodcell.errors import UnknownRecordError
from bloodcell.report.night_report import drops_markdown, night_markdown, night_summary
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, Laboratory


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    laboratory.model()
    return laboratory


def a_night(laboratory: Laboratory) -> None:
    """One slide reported and flagged, one insufficient, one partly called, one without a usable file."""
    good, few, half = (laboratory.slide(barcode) for barcode in ("A-1", "B-2", "C-3"))
    laboratory.slide("D-4")
    cells = laboratory.cells(good, ["SNE"] * 120)
    laboratory.call(cells, ["neutrophil"] * 110 + ["ig"] * 8 + ["unclassified"] * 2)
    laboratory.call(cells, ["neutrophil"] * 120, CHALLENGER)
    laboratory.call(laboratory.cells(few, ["LY"] * 10), ["lymphocyte"] * 10)
    laboratory.call(laboratory.cells(half, ["MO"] * 9)[:4], ["monocyte"] * 4)
    for index, reason in enumerate(["truncated", "truncated", "empty"]):
        laboratory.file(f"D-4/LY_{index}.jpg", "quarantined", reason=reason)
    laboratory.file("A-1/Thumbs.db", "ignored", reason="system_file")
    for index, cell in enumerate(cells[:5]):
        laboratory.file(f"A-1/SNE_{index}.jpg", "cell", cell_id=cell)
    laboratory.run("classify", n_cells=139, duration_s=27.8)
    write_differentials(
        laboratory.database,
        slides=[good, few, half],
        model_id=None,
        run_id=laboratory.run("differential", duration_s=1),
        settings=Settings(),
    )


def test_night_is_summarised(laboratory: Laboratory) -> None:
    a_night(laboratory)
    summary = night_summary(laboratory.database, laboratory.night)
    assert summary.completed_at is not None
    assert dict(summary.files) == {"cell": 5, "quarantined": 3, "ignored": 1}
    assert list(summary.quarantined.items()) == [("truncated", 2), ("empty", 1)]
    assert dict(summary.without_cells) == {"D-4": "2 truncated, 1 empty"}
    assert [(s.barcode, s.n_cells, s.n_waiting, s.is_sufficient) for s in summary.slides] == [
        ("A-1", 120, 0, True),
        ("B-2", 10, 0, False),
        ("C-3", 9, 9, None),
        ("D-4", 0, 0, None),
    ]
    flags = {"neutrophil": "high", "lymphocyte": "low", "monocyte": "low", "ig": "high"}
    assert dict(summary.slides[0].flags) == flags
    assert [s.n_unclassified for s in summary.slides] == [2, 0, 0, 0]
    champion, challenger = summary.models
    assert (champion.is_champion, champion.unclassified.n, champion.unclassified.total) == (True, 2, 134)
    assert (challenger.variant, challenger.is_champion, challenger.unclassified.total) == ("vgg16", False, 120)
    stages = {stage.stage: stage for stage in summary.stages}
    assert stages["classify"].cells_per_s == pytest.approx(5)
    assert (stages["ingest"].n_runs, stages["ingest"].cells_per_s) == (1, None)


def test_markdown_lists_what_to_look_at(laboratory: Laboratory) -> None:
    a_night(laboratory)
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    assert text.startswith("## Night 2026-03-14\n")
    assert text.index("- D-4: 2 truncated, 1 empty") < text.index("4 slides, 139 cells")
    assert "9 files: 5 cell, 3 quarantined, 1 ignored" in text
    assert "4 slides, 139 cells: 2 reported, 1 waiting, 1 with an insufficient count, 1 flagged" in text
    assert "**2 unclassified cells to review**" in text
    assert "- C-3: 9 of 9 cells" in text
    assert "- A-1: immature granulocytes high, lymphocytes low, monocytes low, neutrophils high" in text
    assert "- truncated: 2" in text
    assert "| inception_v3_svm `c01111111111` | champion | 134 | 1.5 % (0.2–5.3) |" in text
    assert "| classify | 1 | 0 | 139 | 27.8 s | 5.0 |" in text
    assert "\n\n\n" not in text
    assert "Not complete" not in text


def test_an_empty_slide_folder_is_a_slide_without_a_usable_cell(laboratory: Laboratory) -> None:
    laboratory.slide("E-5")
    laboratory.file("F-6/slide.json", "ignored", reason="slide_record")
    summary = night_summary(laboratory.database, laboratory.night)
    assert dict(summary.without_cells) == {"E-5": "no image", "F-6": "no image"}


def test_what_is_no_night_is_named() -> None:
    assert drops_markdown({}) == ""
    assert "- `20261107`: a \\*second\\* folder" in drops_markdown({"20261107": "a *second* folder"})


def test_codes_out_of_scope_are_listed(laboratory: Laboratory) -> None:
    laboratory.call(laboratory.cells(laboratory.slide("A-1"), ["BL", "BL", "VLY", "LY"]), ["lymphocyte"] * 4)
    summary = night_summary(laboratory.database, laboratory.night)
    assert dict(summary.slides[0].out_of_scope_codes) == {"BL": 2, "VLY": 1}
    assert "- A-1: 2 BL, 1 VLY" in night_markdown(summary)


def test_failed_runs_are_counted_but_not_in_throughput(laboratory: Laboratory) -> None:
    laboratory.run("classify", n_cells=100, duration_s=10)
    failed = laboratory.run("classify", n_cells=50, duration_s=1)
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text("UPDATE bloodcell.run SET state = 'failed' WHERE run_id = :failed"), {"failed": failed}
        )
    stage = next(s for s in night_summary(laboratory.database, laboratory.night).stages if s.stage == "classify")
    assert (stage.n_runs, stage.n_failed, stage.n_cells, stage.duration_s) == (2, 1, 100, 10)


def test_a_night_still_being_written_is_marked(laboratory: Laboratory) -> None:
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.drop SET completed_at = NULL"))
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    assert "**Not complete: some slides are still being written.**" in text
    assert "0 files: none" in text
    assert "0 slides, 0 cells" in text


def test_hostile_barcode_has_no_meaning_in_markdown(laboratory: Laboratory) -> None:
    name = "<b>|`x`|[a](http://x)\n# '; drop table cell;--"
    laboratory.cells(laboratory.slide(name), ["LY"])
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    assert "&lt;b&gt;\\|\\`x\\`\\|\\[a\\]\\(`http://x)` \\# '; drop table cell;--: 1 of 1 cells" in text
    assert "<" not in text


def test_long_lists_are_cut_and_count_the_rest(laboratory: Laboratory) -> None:
    for index in range(30):
        laboratory.cells(laboratory.slide(f"W-{index:02}"), ["LY"])
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    assert text.count("- W-") == 25
    assert "- and 5 more" in text


def test_a_slide_that_continues_in_a_later_night_is_in_both_nights(laboratory: Laboratory) -> None:
    slide = laboratory.slide("A-1")
    laboratory.cells(slide, ["LY"])
    later = Laboratory(laboratory.database, date(2026, 3, 15))
    later.cells(slide, ["LY", "LY"])
    for night in (laboratory.night, later.night):
        assert [s.n_cells for s in night_summary(laboratory.database, night).slides] == [3]


def test_an_unknown_night_is_an_error_that_names_the_command(laboratory: Laboratory) -> None:
    with pytest.raises(UnknownRecordError, match=r"Night 2020-01-01 has not been ingested.*bloodcell ingest"):
        night_summary(laboratory.database, date(2020, 1, 1))
