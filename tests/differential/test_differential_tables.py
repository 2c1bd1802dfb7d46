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
from bloodcell.differential.counting import count_differential
from bloodcell.differential.differential_tables import bar, differential_json, differential_table
from bloodcell.differential.stored_differential import ReportingModel, Slide, SlideDifferential

COUNTS = {
    "neutrophil": 150,
    "lymphocyte": 31,
    "monocyte": 12,
    "eosinophil": 6,
    "ig": 3,
    "erythroblast": 3,
    "platelet": 9,
}


@pytest.fixture
def read() -> SlideDifferential:
    moment = datetime(2026, 3, 14, 2, 30, tzinfo=UTC)
    return SlideDifferential(
        slide=Slide(1, "[red]900", date(2026, 3, 14), "O-77", None, "p-17", None),
        model=ReportingModel(64 * "c", "vgg16_svm", moment, 0.6, 12.0, None, None),
        is_reported=True,
        differential=count_differential({**COUNTS, "unclassified": 11}, min_leucocytes=100),
        agreement=proportion(180, 190),
        n_waiting=0,
        out_of_scope_codes=(),
        run_id=uuid.UUID(int=7),
        code_version="0.1.0",
        written_at=moment,
    )


def shown(read: SlideDifferential, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(differential_table(read, width))
    return stream.getvalue()


def test_table_shows_percentages_intervals_flags_and_provenance(read: SlideDifferential) -> None:
    text = shown(read)
    assert "Slide [red]900  night 2026-03-14  order O-77  patient p-17" in text
    assert "67.7–80.1" in text
    assert "possibly high" in text
    assert "180 of 190 cells: 94.7 %" in text
    assert "Corrected WBC = WBC x 0.985" in text
    assert "vgg16_svm cccccccccccc" in text
    assert str(uuid.UUID(int=7)) in text
    assert "Not a diagnosis" in text
    assert "!" not in text


def test_table_warns_of_everything_that_limits_its_use(read: SlideDifferential) -> None:
    few = replace(
        read,
        differential=count_differential({"neutrophil": 3}, min_leucocytes=100),
        is_reported=False,
        n_waiting=4,
        out_of_scope_codes=(("BL", 3), ("SMU", 1)),
        agreement=proportion(0, 0),
    )
    text = shown(few)
    assert "! Insufficient count: too few leucocytes (3)" in text
    assert "! Incomplete: 4 cells came later" in text
    assert "! Challenger" in text
    assert "! Look at these first: " in text and "BL (3), SMU (1)" in text
    assert differential_json(few)["out_of_scope_codes"] == {"BL": 3, "SMU": 1}
    assert "analyser's own class" not in text


@pytest.mark.parametrize("width", [80, 100])
def test_table_fits_narrow_terminals_without_cutting_a_number(read: SlideDifferential, width: int) -> None:
    lines = shown(read, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "Immature granulocytes" in shown(read, width)
    assert "…" not in shown(read, width)


def test_empty_slide_is_shown_without_percentages(read: SlideDifferential) -> None:
    empty = replace(read, differential=count_differential({}, min_leucocytes=100))
    assert re.search(r"Neutrophils +0 +– +40–75 *\n", shown(empty))


def test_bar_is_full_to_the_lower_end_and_stops_at_the_upper() -> None:
    assert bar(proportion(50, 100), 11) == "████├●┤"
    assert bar(proportion(0, 100), 40) == "●┤"
    assert bar(proportion(0, 0), 40) == ""
    assert len(bar(proportion(100, 100), 40)) == 40


def test_json_document_has_every_figure(read: SlideDifferential) -> None:
    document = json.loads(json.dumps(differential_json(read)))
    neutrophil = document["leucocytes"][0]
    assert (neutrophil["class"], neutrophil["n"], neutrophil["of"]) == ("neutrophil", 150, 202)
    assert neutrophil["lower_95"] < neutrophil["percentage"] < neutrophil["upper_95"]
    assert neutrophil["reference_range"] == [40, 75]
    assert document["nrbc"]["per_100_wbc"] == pytest.approx(300 / 202)
    assert document["unclassified"]["of"] == 225
    assert document["night"] == "2026-03-14"
    assert document["model"] == {"model_id": 64 * "c", "variant": "vgg16_svm", "is_reported": True}
