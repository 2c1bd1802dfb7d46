"""Which labels judge models: blind readings of the random sample, whatever is said later with a call in sight."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.ingest import ingest_night
from bloodcell.labels import import_labels, write_sample
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store
from tests.ingest.night import NIGHT, NightFolder
from tests.labels.conftest import Rows
from tests.labels.test_command import Command, bloodcell  # noqa: F401  (a fixture)
from tests.laboratory import Laboratory

LATER = "2026-03-16 09:00+00"
LAST = "2026-03-17 09:00+00"
EVIDENCE = "SELECT cell_id, class, sub_label, state, n_people FROM bloodcell.evidence_label ORDER BY cell_id"


@pytest.fixture
def sampled(laboratory: Laboratory, cells: list[int]) -> list[int]:
    """The cells of slide S1, of which all but the last two are in the random sample."""
    laboratory.sample(cells[:-2], read_twice=cells[:1])
    return cells


def test_only_a_blind_reading_of_a_sampled_cell_judges(laboratory: Laboratory, sampled: list[int], rows: Rows) -> None:
    laboratory.label(sampled[:2], ["lymphocyte", "BL"], blind=True)
    laboratory.label(sampled[2:3], ["monocyte"])  # seen with its call
    laboratory.label(sampled[-1:], ["ig"], blind=True)  # of the review queue
    assert rows(EVIDENCE) == [
        (sampled[0], "lymphocyte", None, "confirmed", 1),
        (sampled[1], None, "BL", "out_of_scope", 1),
    ]
    assert len(rows("SELECT 1 FROM bloodcell.current_label")) == 4


def test_what_a_person_says_later_changes_the_result_and_not_the_evidence(
    laboratory: Laboratory, sampled: list[int], rows: Rows
) -> None:
    laboratory.label(sampled[:2], ["lymphocyte", "ig"], blind=True)
    laboratory.label(sampled[:1], ["monocyte"], at=LATER)
    laboratory.label(sampled[1:2], ["neutrophil"], at=LATER, blind=True)  # not blind any more, whatever is said of it
    assert rows(EVIDENCE) == [
        (sampled[0], "lymphocyte", None, "confirmed", 1),
        (sampled[1], "ig", None, "confirmed", 1),
    ]
    assert rows("SELECT class FROM bloodcell.current_label ORDER BY cell_id") == [("monocyte",), ("neutrophil",)]


@pytest.mark.parametrize("spelling", ["anna", "Anna"])
@pytest.mark.parametrize("at", [LATER, "2026-03-01 09:00+00"])
def test_nobody_reads_blind_what_they_have_labelled_before(
    laboratory: Laboratory, sampled: list[int], rows: Rows, spelling: str, at: str
) -> None:
    laboratory.label(sampled[:1], ["lymphocyte"])
    laboratory.label(sampled[:1], ["lymphocyte"], spelling, at=at, blind=True)  # the time is what a file says
    assert rows(EVIDENCE) == []
    # the cell still waits for a reading by somebody else
    assert (sampled[0],) in rows("SELECT cell_id FROM bloodcell.blind_reading")
    laboratory.label(sampled[:1], ["monocyte"], "boris", at=LAST, blind=True)
    assert rows(EVIDENCE) == [(sampled[0], "monocyte", None, "confirmed", 1)]


def test_a_second_blind_reading_that_differs_contests_and_an_adjudication_settles(
    laboratory: Laboratory, sampled: list[int], rows: Rows
) -> None:
    laboratory.label(sampled[:1], ["lymphocyte"], blind=True)
    laboratory.label(sampled[:1], ["BL"], "boris", blind=True)
    assert rows(EVIDENCE) == [(sampled[0], None, None, "contested", 2)]
    laboratory.label(sampled[:1], ["BL"], "carla", at=LATER, adjudication=True)
    assert rows(EVIDENCE) == [(sampled[0], None, "BL", "out_of_scope", 1)]
    laboratory.label(sampled[:1], ["lymphocyte"], "doris", at=LAST, blind=True)
    assert rows(EVIDENCE) == [(sampled[0], None, None, "contested", 2)]


def test_an_adjudication_counts_only_between_blind_readers_who_disagree(
    laboratory: Laboratory, sampled: list[int], rows: Rows
) -> None:
    # settled with the call in sight, as cells are whose label differs from it: evidence stays what was read blind
    laboratory.label(sampled[:1], ["ig"], blind=True)
    laboratory.label(sampled[:1], ["neutrophil"], "carla", at=LATER, adjudication=True)
    laboratory.label(sampled[1:2], ["ig"], blind=True)
    laboratory.label(sampled[1:2], ["neutrophil"], at=LATER, adjudication=True)
    laboratory.label(sampled[2:3], ["neutrophil"], "carla", adjudication=True)
    laboratory.label(sampled[2:3], ["ig"], blind=True)
    laboratory.label(sampled[3:4], ["ig"])
    laboratory.label(sampled[3:4], ["neutrophil"], "carla", adjudication=True)
    assert rows(EVIDENCE) == [(cell, "ig", None, "confirmed", 1) for cell in sampled[:3]]


def test_finer_codes_contest_no_class_but_each_other(laboratory: Laboratory, sampled: list[int], rows: Rows) -> None:
    laboratory.label(sampled[:2], ["PMY", "MMY"])
    laboratory.label(sampled[:2], ["MMY", "MMY"], "boris")
    found = "SELECT class, sub_label, state, is_code_contested FROM bloodcell.current_label ORDER BY cell_id"
    assert rows(found) == [("ig", None, "confirmed", True), ("ig", "MMY", "confirmed", False)]


def test_the_reading_list_shrinks_and_tells_nothing(laboratory: Laboratory, sampled: list[int], rows: Rows) -> None:
    waiting = "SELECT cell_id, n_readings_wanted, n_readings FROM bloodcell.blind_reading ORDER BY cell_id"
    assert [row[0] for row in rows(waiting)] == sampled[:-2]
    laboratory.label(sampled[:2], ["lymphocyte", "lymphocyte"], blind=True)
    laboratory.label(sampled[2:3], ["lymphocyte"])  # no blind reading
    assert rows(waiting)[0] == (sampled[0], 2, 1)
    assert [row[0] for row in rows(waiting)] == [sampled[0], *sampled[2:-2]]
    laboratory.label(sampled[:1], ["lymphocyte"], "boris", blind=True)
    assert [row[0] for row in rows(waiting)] == sampled[2:-2]
    columns = rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'blind_reading'")
    assert {name for (name,) in columns} == {
        "cell_id", "night", "sha256", "n_readings_wanted", "n_readings", "readers"
    }  # fmt: skip


@pytest.fixture
def night(settings: Settings) -> Settings:
    """Settings with a night of twelve cells, eight of them sampled."""
    settings = settings.model_copy(update={"sample_cells": 8})
    folder = NightFolder(settings.drops)
    for number in range(12):
        folder.cell("S1", number)
    folder.complete()
    ingest_night(folder.path, settings)
    return settings


def test_the_written_sample_can_be_filled_in_and_imported(night: Settings, tmp_path: Path, rows: Rows) -> None:
    database, store = open_database(night), Store.of(night)
    folder = tmp_path / "sample"
    written = write_sample(database, store, folder, reader="anna", night=NIGHT)
    assert written.n_cells == 8
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{n:05}.png" for n in range(1, 9)), "labels.csv"]
    with written.form.open(newline="") as file:
        form = list(csv.DictReader(file))
    assert form[0].keys() == {"image", "cell_id", "label", "labelled_by", "labelled_at", "blind"}
    # the order is that of the images' digests, not that of the slide
    assert [row["cell_id"] for row in form] != sorted((row["cell_id"] for row in form), key=int)
    for row in form:
        row |= {"label": "SNE", "labelled_at": "2026-11-22T10:00:00Z"}
    with written.form.open("w", newline="") as file:
        table = csv.DictWriter(file, form[0].keys())
        table.writeheader()
        table.writerows(form)
    done = import_labels(written.form, night)
    assert (done.n_new, done.n_refused, done.ignored_columns) == (8, 0, ("image",))
    assert len(rows(EVIDENCE)) == 8
    # what anna has read, and what needs no second reading, waits no more
    assert write_sample(database, store, tmp_path / "again", reader="anna").n_cells == 0
    assert write_sample(database, store, tmp_path / "again", reader="Anna").n_cells == 0
    (twice,) = rows("SELECT count(*) FROM bloodcell.sampled_cell WHERE is_read_twice")
    assert write_sample(database, store, tmp_path / "boris", reader="boris").n_cells == twice[0]


def test_a_folder_that_is_not_empty_or_a_person_without_a_name_is_refused(night: Settings, tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(ConfigurationError, match="is not empty: choose a new one"):
        write_sample(open_database(night), Store.of(night), tmp_path, reader="anna")
    with pytest.raises(ConfigurationError, match="Who reads"):
        write_sample(open_database(night), Store.of(night), tmp_path / "new", reader=" ")


def test_the_command_writes_the_sample_and_status_counts_it(
    night: Settings,
    bloodcell: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    done = bloodcell("sample", tmp_path / "sample", "--by", "anna", "--night", NIGHT.isoformat(), "--json")
    assert (done.exit_code, json.loads(done.stdout)["n_cells"]) == (0, 8)
    assert bloodcell("sample", tmp_path / "none", "--by", "anna", "--night", "2026-01-01").exit_code == 3
    assert bloodcell("sample", tmp_path / "sample", "--by", "anna").exit_code != 0
    assert json.loads(bloodcell("status", "--json").stdout)["sample"] == {
        "n_drawn": 8, "n_read": 0, "n_waiting": 8, "n_contested": 0
    }  # fmt: skip
