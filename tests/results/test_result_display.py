"""A differential on a terminal and as JSON."""

from __future__ import annotations

import io
import json
import re
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from rich.console import Console

from bloodcell.cells.intervals import proportion
from bloodcell.differential.counting import LineCount, SlideCounts, SlideFacts, count_differential
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.results.result_display import bar, result_json, result_table, versions_table
from bloodcell.results.stored_result import ReportingModel, ResultVersion, Slide, SlideResult
from tests.laboratory import slide_counts

COUNTS = {
    "neutrophil": 150,
    "lymphocyte": 31,
    "monocyte": 12,
    "eosinophil": 6,
    "ig": 3,
    "erythroblast": 3,
    "platelet": 9,
}


RULES = read_rules(None)
ADULT = SlideFacts(age_months=44 * 12)
MOMENT = datetime(2026, 3, 14, 2, 30, tzinfo=UTC)


def version(number: int, state: str, **changes: object) -> ResultVersion:
    made = ResultVersion(number, state, MOMENT, None, None, "first count", (), (), 64 * "d", MOMENT, None)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def read() -> SlideResult:
    moment = MOMENT
    return SlideResult(
        slide=Slide(1, "[red]900", date(2026, 3, 14), "O-77", None, "p-17", None),
        model=ReportingModel(64 * "c", "vgg16_svm", "vgg16_svm, 4 turns", moment, 0.6, 12.0, None, None),
        differential=count_differential(slide_counts({**COUNTS, "unclassified": 11}, ADULT), RULES),
        facts=ADULT,
        rules=RULES,
        rules_digest=RULES.digest,
        agreement=proportion(180, 190),
        version=version(1, "machine"),
        versions=(version(1, "machine"),),
        n_waiting=0,
        run_id=uuid.UUID(int=7),
        code_version="0.1.0",
        written_at=moment,
    )


def shown(read: SlideResult, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(result_table(read, width))
    return stream.getvalue()


def test_table_shows_percentages_intervals_flags_and_provenance(read: SlideResult) -> None:
    text = shown(read)
    assert "Slide [red]900  night 2026-03-14  order O-77  patient p-17" in text
    assert "67.7–80.1" in text
    assert "possibly high" in text
    assert "180 of 190 cells: 94.7 %" in text
    assert "Corrected WBC = WBC x 0.985" in text
    assert "vgg16_svm, 4 turns cccccccccccc" in text
    assert str(uuid.UUID(int=7)) in text
    assert "Not a diagnosis" in text
    assert "!" not in text


def test_table_says_everything_that_limits_its_use(read: SlideResult) -> None:
    lines = {"neutrophil": LineCount(3), "BL": LineCount(3, 1, 2), "SMU": LineCount(1, 0, 1), "contested": LineCount(2)}
    withheld = version(1, "withheld", withheld_for=("few_leucocytes", "blasts"), review_for=("blasts",))
    few = replace(
        read,
        differential=count_differential(SlideCounts(lines), RULES),
        facts=SlideFacts(),
        version=withheld,
        versions=(withheld,),
        n_waiting=4,
        agreement=proportion(0, 0),
    )
    text = shown(few, 140)
    assert "WITHHELD, percentages are not to be used before a person has looked: too few leucocytes, blasts" in text
    assert "! For review: blasts." in text
    assert "! Look at these first, only the analyser's code names them: BL blast (2)." in text
    assert "! People disagree on 2 cells" in text
    assert "! Insufficient count: 6 leucocytes, fewer than 100" in text
    assert "! The age is unknown: flags are by the ranges of adults." in text
    assert "! Incomplete: 4 cells came later" in text
    assert "SMU smudge cell, not counted" in text
    assert "analyser's class agrees" not in text
    document = json.loads(json.dumps(result_json(few)))
    assert "The age is unknown: flags are by the ranges of adults." in document["notices"]
    assert document["not_leucocytes"] == {"SMU": 1}
    assert document["n_contested"] == 2


def test_a_challengers_count_says_that_it_is_not_reported(read: SlideResult) -> None:
    assert "Count of a challenger: not reported." in shown(replace(read, version=None))


def test_a_signed_result_names_who_signed_and_what_waits(read: SlideResult) -> None:
    signed = version(2, "final", signed_by="anna", why="version 1 was signed by anna")
    waiting = version(3, "machine", why="2 cells more than in version 2", in_force_from=None, digest=64 * "e")
    result = replace(read, version=signed, versions=(version(1, "machine", in_force_until=MOMENT), signed, waiting))
    text = shown(result)
    assert "Version 2 of 3, 2026-03-14 02:30 UTC: final, signed by anna" in text
    assert "! Differs from what was signed: version 3" in text
    stream = io.StringIO()
    Console(file=stream, width=140).print(versions_table(result))
    assert re.search(
        r"2 +2026-03-14 02:30 UTC +final +anna +version 1 was signed by anna +counts now", stream.getvalue()
    )
    assert "waits for a signature" in stream.getvalue()


def test_absolute_counts_and_the_corrected_leucocyte_count_are_shown(read: SlideResult) -> None:
    facts = SlideFacts(age_months=480, sex="female", wbc_10e9_per_l=11.0, wbc_is_corrected=False)
    counts = slide_counts({"neutrophil": 100, "erythroblast": 10}, facts)
    result = replace(read, facts=facts, differential=count_differential(counts, RULES))
    text = shown(result, 140)
    assert re.search(r"Neutrophils +100 +100\.0 .* 10\.00 +40–75", text)
    assert "11.00 x 10⁹/l was corrected for nucleated red cells to 10.00" in text
    assert "Reference ranges for 40 years, female." in text
    assert result_json(result)["wbc"] == {
        "received_10e9_per_l": 11.0, "is_corrected": False, "used_10e9_per_l": 10.0, "was_corrected": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("age_months", "expected", "flag", "says"),
    [
        (0, [26, 56], None, "Reference ranges for birth."),
        (60, [14, 50], "possibly_high", "Reference ranges for 5 years."),
        (None, [12, 44], "high", "! The age is unknown: flags are by the ranges of adults."),
    ],
)
def test_newborn_child_and_unknown_age_are_shown_with_their_own_ranges_and_flags(
    read: SlideResult, age_months: int | None, expected: list[float], flag: str | None, says: str
) -> None:
    facts = SlideFacts(age_months=age_months)
    counts = slide_counts({"neutrophil": 94, "lymphocyte": 106}, facts)
    result = replace(read, facts=facts, differential=count_differential(counts, RULES))
    assert says in shown(result, 140)
    document = json.loads(json.dumps(result_json(result)))
    lymphocyte = next(line for line in document["leucocytes"] if line["class"] == "lymphocyte")
    assert (lymphocyte["reference_range"], lymphocyte["flag"]) == (expected, flag)
    assert document["notices"] == ([says.removeprefix("! ")] if age_months is None else [])


@pytest.mark.parametrize("width", [80, 100])
def test_table_fits_narrow_terminals_without_cutting_a_number(read: SlideResult, width: int) -> None:
    lines = shown(read, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "Immature granulocytes" in shown(read, width)
    assert "…" not in shown(read, width)


def test_empty_slide_is_shown_without_percentages(read: SlideResult) -> None:
    empty = replace(read, differential=count_differential(slide_counts({}), RULES))
    assert re.search(r"Neutrophils +0 +– +40–75 *\n", shown(empty))


def test_bar_is_full_to_the_lower_end_and_stops_at_the_upper() -> None:
    assert bar(proportion(50, 100), 11) == "████├●┤"
    assert bar(proportion(0, 100), 40) == "●┤"
    assert bar(proportion(0, 0), 40) == ""
    assert len(bar(proportion(100, 100), 40)) == 40


def test_json_document_has_every_figure(read: SlideResult) -> None:
    document = json.loads(json.dumps(result_json(read)))
    neutrophil = document["leucocytes"][0]
    assert (neutrophil["class"], neutrophil["n"], neutrophil["of"]) == ("neutrophil", 150, 202)
    assert neutrophil["lower_95"] < neutrophil["percentage"] < neutrophil["upper_95"]
    assert neutrophil["reference_range"] == [40, 75]
    assert (document["loinc_panel"], neutrophil["loinc"], document["nrbc"]["loinc"]) == (
        "69738-3",
        "26511-6",
        "19048-8",
    )
    assert neutrophil["reference_source"].startswith("Davis's Lab & Diagnostic Tests")
    assert document["notices"] == []
    assert document["nrbc"]["per_100_wbc"] == pytest.approx(300 / 202)
    assert document["unclassified"]["of"] == 213
    assert neutrophil["bounds"] == [pytest.approx(100 * 150 / 213), pytest.approx(100 * 161 / 213)]
    assert document["version"]["state"] == "machine"
    assert document["night"] == "2026-03-14"
    assert document["model"] == {
        "model_id": 64 * "c",
        "variant": "vgg16_svm",
        "title": "vgg16_svm, 4 turns",
        "is_reported": True,
    }
