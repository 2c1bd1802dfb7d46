"""The slides that are due are added up, in a recorded run."""

from __future__ import annotations

from datetime import date

import pytest

from bloodcell.results import read_result, write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, Laboratory


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


def slide(laboratory: Laboratory, barcode: str, *, n_called: int = 3) -> list[int]:
    cells = laboratory.cells(laboratory.slide(barcode), ["SNE"] * 3)
    laboratory.call(cells[:n_called], ["neutrophil"] * n_called)
    return cells


def n_runs(laboratory: Laboratory) -> object:
    return laboratory.rows("SELECT count(*) FROM bloodcell.run WHERE stage = 'differential'")[0][0]


def test_by_default_the_slides_without_a_report_are_due(laboratory: Laboratory, settings: Settings) -> None:
    slide(laboratory, "B")
    slide(laboratory, "A")
    slide(laboratory, "half", n_called=2)
    assert write_due_results(settings) == ["A", "B"]
    cells = slide(laboratory, "C")
    assert write_due_results(settings) == ["C"]
    assert write_due_results(settings) == []
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    laboratory.call(cells, ["monocyte"] * 3, CHALLENGER)
    assert write_due_results(settings) == ["C"]


def test_late_cells_make_a_slide_due_once_they_are_called(laboratory: Laboratory, settings: Settings) -> None:
    slide(laboratory, "A")
    write_due_results(settings)
    slide_id = laboratory.rows("SELECT slide_id FROM bloodcell.slide")[0][0]
    late = laboratory.cells(int(str(slide_id)), ["LY"])
    assert write_due_results(settings) == []
    laboratory.call(late, ["lymphocyte"])
    assert write_due_results(settings) == ["A"]
    assert read_result(laboratory.database, "A").differential.n_cells == 4


def test_night_and_barcodes_select_slides(laboratory: Laboratory, settings: Settings) -> None:
    slide(laboratory, "A")
    slide(laboratory, "B")
    other = Laboratory(laboratory.database, date(2026, 3, 15))
    slide(other, "C")
    assert write_due_results(settings, night=laboratory.night, slides=["B", "C"]) == ["B"]
    assert write_due_results(settings, slides=["C"]) == ["C"]
    assert write_due_results(settings, night=laboratory.night) == ["A", "B"]
    assert write_due_results(settings, night=date(2020, 1, 1)) == []


def test_the_run_is_recorded_with_what_it_wrote(laboratory: Laboratory, settings: Settings) -> None:
    slide(laboratory, "A")
    write_due_results(settings, night=laboratory.night, airflow_run="manual__1")
    rows = laboratory.rows("SELECT state, airflow_run, night, detail FROM bloodcell.run WHERE stage = 'differential'")
    assert rows == [
        ("succeeded", "manual__1", laboratory.night, {"slides": 1, "differentials_written": 1, "versions_written": 1})
    ]
    run_ids = laboratory.rows("SELECT r.run_id = d.run_id FROM bloodcell.run r, bloodcell.slide_report d "
                              "WHERE r.stage = 'differential'")  # fmt: skip
    assert run_ids == [(True,)]


def test_no_run_is_recorded_if_nothing_is_due(laboratory: Laboratory, settings: Settings) -> None:
    assert write_due_results(settings) == []
    assert n_runs(laboratory) == 0
