"""The summary of a night, as records and as Markdown."""

from __future__ import annotations

from datetime import date

import pytest
import sqlalchemy as sa

from bloodcell.errors import UnknownRecordError
from bloodcell.report.night_report import drops_markdown, night_markdown, night_summary
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, Laboratory


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    laboratory.model()
    return laboratory


def a_night(laboratory: Laboratory) -> None:
    """One slide reported and flagged, one withheld, one partly called, one without a usable file."""
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
    laboratory.count(good, few, half)


def a_slide(laboratory: Laboratory, barcode: str, cells: dict[str, int], **columns: object) -> list[int]:
    """A counted slide of a patient of its own: analyser code -> cells, each called by its code, or lymphocyte."""
    called = {"SNE": "neutrophil", "MO": "monocyte", "IG": "ig", "ERB": "erythroblast", "-": "unclassified"}
    codes = [code for code, n in cells.items() for _ in range(n)]
    slide = laboratory.slide(barcode, patient_key=f"p-{barcode}", **columns)
    added = laboratory.cells(slide, [None if code == "-" else code for code in codes])
    laboratory.call(added, [called.get(code, "lymphocyte") for code in codes])
    laboratory.count(slide)
    return added


HEALTHY = {"SNE": 70, "LY": 30, "MO": 6}


def sections(text: str) -> dict[str, list[str]]:
    """The lists of a summary in Markdown: title -> entries."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("**") and line.endswith("**"):
            title = line.strip("*")
        elif line.startswith("- "):
            found.setdefault(title, []).append(line.removeprefix("- "))
    return found


WITHHELD = "Withheld: the percentages are not to be used before a person has looked"


def test_night_is_summarised(laboratory: Laboratory) -> None:
    a_night(laboratory)
    summary = night_summary(laboratory.database, laboratory.night)
    assert summary.completed_at is not None
    assert dict(summary.files) == {"cell": 5, "quarantined": 3, "ignored": 1}
    assert list(summary.quarantined.items()) == [("truncated", 2), ("empty", 1)]
    assert dict(summary.without_cells) == {"D-4": "2 truncated, 1 empty"}
    assert [(s.barcode, s.n_cells, s.n_waiting, s.is_sufficient, s.state) for s in summary.slides] == [
        ("B-2", 10, 0, False, "withheld"),
        ("C-3", 9, 9, None, None),
        ("A-1", 120, 0, True, "machine"),
        ("D-4", 0, 0, None, None),
    ]
    few, _, good, _ = summary.slides
    assert (few.withheld_for, few.review_for, few.is_for_review) == (("few_leucocytes",), (), False)
    assert (good.withheld_for, good.is_withheld, good.is_for_review) == ((), False, True)
    assert good.review_for == ("immature_granulocytes",)
    assert dict(few.flags) == {"neutrophil": "low", "lymphocyte": "high"}
    assert dict(good.flags) == {"neutrophil": "high", "lymphocyte": "low", "monocyte": "low", "ig": "high"}
    assert [s.n_unclassified for s in summary.slides] == [0, 0, 2, 0]
    assert [s.n_leucocytes for s in summary.slides] == [10, 0, 118, 0]
    champion, challenger = summary.models
    assert (champion.is_champion, champion.unclassified.n, champion.unclassified.total) == (True, 2, 134)
    assert (challenger.title, challenger.is_champion, challenger.unclassified.total) == ("vgg16", False, 120)
    stages = {stage.stage: stage for stage in summary.stages}
    assert stages["classify"].cells_per_s == pytest.approx(5)
    assert (stages["ingest"].n_runs, stages["ingest"].cells_per_s) == (1, None)


def test_markdown_lists_what_to_look_at(laboratory: Laboratory) -> None:
    a_night(laboratory)
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    assert text.startswith("## Night 2026-03-14\n")
    assert text.index("- D-4: 2 truncated, 1 empty") < text.index("4 slides, 139 cells")
    assert "9 files: 5 cell, 3 quarantined, 1 ignored" in text
    assert (
        "4 slides, 139 cells: 2 reported, 1 waiting, **1 withheld**, 1 for review, 1 with an insufficient count; "
        "**2 unclassified cells to review**"
    ) in text
    flags = "immature granulocytes high, lymphocytes low, monocytes low, neutrophils high"
    assert sections(text) == {
        "Slides without a usable cell: nothing is reported for them": ["D-4: 2 truncated, 1 empty"],
        WITHHELD: ["B-2: too few leucocytes, lymphocytes high, neutrophils low"],
        "For review": [f"A-1: immature granulocytes, {flags}"],
        "Waiting for calls": ["C-3: 9 of 9 cells"],
        "Insufficient count": ["B-2"],
        "Quarantined": ["truncated: 2", "empty: 1"],
    }
    assert "| inception_v3_svm `c01111111111` | champion | 134 | 1.5 % (0.2–5.3) |" in text
    assert "| classify | 1 | 0 | 139 | 27.8 s | 5.0 |" in text
    assert "\n\n\n" not in text
    assert "Not complete" not in text


def test_only_sure_flags_are_listed(laboratory: Laboratory) -> None:
    a_slide(laboratory, "A-1", {"SNE": 80, "LY": 20, "MO": 6})  # 75.5 % neutrophils are possibly high
    a_slide(laboratory, "A-2", {"SNE": 30, "LY": 80, "MO": 6})
    possibly, surely = night_summary(laboratory.database, laboratory.night).slides[::-1]
    assert (possibly.barcode, dict(possibly.flags), possibly.is_for_review) == ("A-1", {}, False)
    assert (surely.barcode, surely.why) == ("A-2", "lymphocytes high, neutrophils low")


def test_withheld_slides_and_slides_for_review_are_listed_by_urgency_each_once(laboratory: Laboratory) -> None:
    a_slide(laboratory, "A-1", {"SNE": 20, "LY": 10})
    a_slide(laboratory, "B-2", HEALTHY | {"-": 15})
    a_slide(laboratory, "C-3", HEALTHY | {"-": 30})
    a_slide(laboratory, "D-4", HEALTHY | {"BL": 1})
    a_slide(laboratory, "E-5", HEALTHY)
    a_slide(laboratory, "F-6", HEALTHY | {"VLY": 2})
    a_slide(laboratory, "G-7", HEALTHY | {"ERB": 2}, age_months=0)  # no range of erythroblasts at birth
    summary = night_summary(laboratory.database, laboratory.night)
    found = sections(night_markdown(summary))
    assert found[WITHHELD] == [
        "D-4: blasts, unverified other leucocytes \\(1 BL\\)",
        "C-3: too many unclassified cells",
        "B-2: too many unclassified cells",
        "A-1: too few leucocytes",
    ]
    assert found["For review"] == [
        "F-6: unverified other leucocytes \\(2 VLY\\)",
        "G-7: nucleated red cells",
    ]
    assert [slide.barcode for slide in summary.slides] == ["D-4", "C-3", "B-2", "A-1", "F-6", "G-7", "E-5"]
    assert summary.headline == (
        "Night 2026-03-14: 7 slides, 0 waiting, 4 withheld, 2 for review, 45 unclassified cells."
    )


def test_more_withheld_slides_and_slides_for_review_than_a_list_holds_are_all_named(laboratory: Laboratory) -> None:
    for index in range(30):
        laboratory.call(laboratory.cells(laboratory.slide(f"W-{index:02}"), ["LY"] * 2), ["lymphocyte"] * 2)
        laboratory.call(laboratory.cells(laboratory.slide(f"R-{index:02}"), ["LY"] * 60), ["lymphocyte"] * 60)
    laboratory.count()
    found = sections(night_markdown(night_summary(laboratory.database, laboratory.night)))
    assert [entry.partition(":")[0] for entry in found[WITHHELD]] == [f"W-{index:02}" for index in range(30)]
    assert [entry.partition(":")[0] for entry in found["For review"]] == [f"R-{index:02}" for index in range(30)]
    assert (len(found["Insufficient count"]), found["Insufficient count"][-1]) == (26, "and 35 more")


def test_a_signed_slide_is_not_for_review_until_it_differs_from_what_was_signed(laboratory: Laboratory) -> None:
    cells = a_slide(laboratory, "A-1", {"SNE": 30, "LY": 80, "MO": 6})
    assert sections(night_markdown(night_summary(laboratory.database, laboratory.night))) == {
        "For review": ["A-1: lymphocytes high, neutrophils low"]
    }
    laboratory.sign("A-1", 1)
    summary = night_summary(laboratory.database, laboratory.night)
    (slide,) = summary.slides
    assert (slide.state, slide.is_for_review, slide.why) == ("final", False, "")
    assert sections(night_markdown(summary)) == {}

    laboratory.label(cells[30:33], ["BL"] * 3)
    laboratory.count()
    summary = night_summary(laboratory.database, laboratory.night)
    (slide,) = summary.slides
    assert (slide.state, slide.is_withheld) == ("final", False)
    assert (slide.differs_from_signed, slide.is_for_review) == (True, True)
    why = "differs from what was signed, blasts, lymphocytes high, neutrophils low"
    assert sections(night_markdown(summary)) == {"For review": [f"A-1: {why}"]}


def test_a_signed_withheld_slide_is_no_longer_withheld(laboratory: Laboratory) -> None:
    cells = a_slide(laboratory, "A-1", HEALTHY | {"BL": 2})
    laboratory.label(cells[-2:], ["BL", "BL"])
    laboratory.count()
    assert night_summary(laboratory.database, laboratory.night).slides[0].is_withheld
    laboratory.sign("A-1", 2)
    (slide,) = night_summary(laboratory.database, laboratory.night).slides
    assert (slide.state, slide.withheld_for, slide.why) == ("final", ("blasts",), "")
    assert (slide.is_withheld, slide.is_for_review) == (False, False)


def test_a_slide_with_late_cells_stays_withheld_while_they_wait(laboratory: Laboratory) -> None:
    a_slide(laboratory, "A-1", {"LY": 20})
    slide = int(str(laboratory.rows("SELECT slide_id FROM bloodcell.slide")[0][0]))
    laboratory.cells(slide, ["LY"] * 3)
    found = sections(night_markdown(night_summary(laboratory.database, laboratory.night)))
    assert found[WITHHELD] == ["A-1: too few leucocytes, lymphocytes high, neutrophils low"]
    assert found["Waiting for calls"] == ["A-1: 3 of 23 cells"]


def test_an_empty_slide_folder_is_a_slide_without_a_usable_cell(laboratory: Laboratory) -> None:
    laboratory.slide("E-5")
    laboratory.file("F-6/slide.json", "ignored", reason="slide_record")
    summary = night_summary(laboratory.database, laboratory.night)
    assert dict(summary.without_cells) == {"E-5": "no image", "F-6": "no image"}


def test_the_cells_that_wait_for_a_blind_reading_are_counted(laboratory: Laboratory) -> None:
    cells = laboratory.cells(laboratory.slide("S1"), ["LY"] * 6)
    laboratory.sample(cells[:5], read_twice=cells[:1])
    laboratory.label(cells[:2], ["lymphocyte"] * 2, blind=True)
    summary = night_summary(laboratory.database, laboratory.night)
    assert summary.n_to_read == 4  # of the two that were read, one needs a second reading
    assert "- 4 cells of the random sample" in night_markdown(summary)
    laboratory.label(cells[:5], ["lymphocyte"] * 5, "boris", blind=True)
    assert "random sample" not in night_markdown(night_summary(laboratory.database, laboratory.night))


def test_what_is_no_night_is_named() -> None:
    assert drops_markdown({}) == ""
    assert "- `20261107`: a \\*second\\* folder" in drops_markdown({"20261107": "a *second* folder"})


def test_codes_of_other_leucocytes_are_listed_until_somebody_labels_them(laboratory: Laboratory) -> None:
    cells = a_slide(laboratory, "A-1", HEALTHY | {"BL": 2, "VLY": 1, "SMU": 8, "NC": 1})
    summary = night_summary(laboratory.database, laboratory.night)
    assert dict(summary.slides[0].unverified_codes) == {"BL": 2, "VLY": 1}
    found = sections(night_markdown(summary))
    assert found[WITHHELD] == ["A-1: blasts, unverified other leucocytes \\(2 BL, 1 VLY\\)"]
    laboratory.label(cells[106:108], ["lymphocyte", "lymphocyte"])
    laboratory.count()
    summary = night_summary(laboratory.database, laboratory.night)
    assert sections(night_markdown(summary)) == {"For review": ["A-1: unverified other leucocytes \\(1 VLY\\)"]}


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
    slide = laboratory.slide(name)
    laboratory.call(laboratory.cells(slide, ["LY"]), ["lymphocyte"])
    laboratory.count(slide)
    laboratory.cells(slide, ["LY"])
    text = night_markdown(night_summary(laboratory.database, laboratory.night))
    shown = "&lt;b&gt;\\|\\`x\\`\\|\\[a\\]\\(`http://x)` \\# '; drop table cell;--"
    assert f"- {shown}: too few leucocytes\n" in text
    assert f"- {shown}: 1 of 2 cells" in text
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
