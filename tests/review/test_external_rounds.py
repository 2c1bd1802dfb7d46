"""Rounds of external quality assessment: read blind until they are due, then scored, and evidence of nothing else."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.ingest.control_marks import mark_control_slides
from bloodcell.quality.external_rounds import ExternalRound, import_targets, read_rounds
from bloodcell.quality_rules import DEFAULT_QUALITY, read_quality_rules
from bloodcell.results import read_result
from tests.laboratory import NIGHT
from tests.review.desk import RunningDesk, new_keys

LABELS = ("neutrophil", "lymphocyte", "BL", "eosinophil")
TARGETS = {"c0.jpg": "SNE", "c1.jpg": "lymphocyte", "c2.jpg": "BL", "c3.jpg": "EO"}
NUMBERS = itertools.count(1)


@dataclass
class Round:
    """A round of one slide of four cells: a neutrophil, a lymphocyte, a blast, an eosinophil."""

    desk: RunningDesk
    folder: Path
    number: int
    slide_id: int
    cells: list[int]

    @property
    def name(self) -> str:
        return f"Morphology {self.number}"

    @property
    def barcode(self) -> str:
        return f"EQA-{self.number}-1"

    def due(self, due: timedelta) -> None:
        """An ingest reads the quality file, in which the round is due from now on at this time."""
        file = self.folder / "quality.toml"
        at = (datetime.now(UTC) + due).isoformat()
        text = f'[[round]]\nname = "{self.name}"\nbarcode = "EQA-{self.number}-*"\ndue = {at}\n'
        file.write_text(f"{DEFAULT_QUALITY.read_text()}\n{text}")
        rules = read_quality_rules(file)
        run = self.desk.laboratory.run("ingest")
        self.desk.laboratory.database.transact(lambda c: mark_control_slides(c, NIGHT, rules, run))

    def end(self) -> None:
        self.due(timedelta(minutes=-1))

    def read(self, who: str, cell: int, label: str, key: str = "") -> str:
        change = {"key": key or new_keys(1)[0], "cell_id": self.cells[cell], "label": label}
        (outcome,) = self.desk.functions.label(self.desk.session(who), "blind", [change], None)
        return outcome.outcome

    def targets(self, text: str) -> int:
        file = self.folder / "targets.csv"
        file.write_text(text)
        return import_targets(self.desk.laboratory.database, self.name, file, by="eva")

    def all_targets(self, **others: str) -> int:
        rows = (f"{self.barcode};{name};{label}\n" for name, label in (TARGETS | others).items())
        return self.targets("slide;file;label\n" + "".join(rows))

    def status(self) -> ExternalRound:
        return next(each for each in read_rounds(self.desk.laboratory.database) if each.name == self.name)

    def scores(self) -> dict[str, tuple[int, int, int]]:
        return {each.reader: (each.n_cells, each.n_answered, each.n_agreed) for each in self.status().scores}

    def count(self, table: str) -> int:
        """Returns how many rows of a table or view are of its cells."""
        statement = f"SELECT count(*) FROM bloodcell.{table} WHERE cell_id = ANY (:cells)"
        return int(str(self.desk.rows(statement, cells=self.cells)[0][0]))


@pytest.fixture
def round_(running_desk: RunningDesk, tmp_path: Path) -> Round:
    number, laboratory = next(NUMBERS), running_desk.laboratory
    slide = laboratory.slide(f"EQA-{number}-1", patient_key=None)
    cells = laboratory.cells(slide, ["SNE", "LY", "LY", "EO"], names=list(TARGETS))
    laboratory.call(cells, ["neutrophil", "unclassified", "unclassified", "basophil"])
    made = Round(running_desk, tmp_path, number, slide, cells)
    made.due(timedelta(days=7))
    return made


def test_a_round_is_read_blind_and_scored_when_it_is_over(round_: Round) -> None:
    assert [round_.read("anna", cell, label) for cell, label in enumerate(LABELS)] == ["stored"] * 4
    assert [round_.read("ben", 0, "BNE"), round_.read("ben", 2, "lymphocyte")] == ["stored"] * 2
    found = round_.status()
    assert (found.is_open, found.n_cells, found.readers, found.scores) == (True, 4, {"anna": 4, "ben": 2}, ())
    told = "SELECT count(*) FROM bloodcell.external_reading WHERE is_open AND (label IS NOT NULL OR class IS NOT NULL)"
    assert round_.desk.rows(told) == [(0,)], "nobody sees what the others said"
    assert round_.count("external_answer") == 0

    round_.end()
    assert round_.read("ben", 3, "eosinophil") == "refused"
    assert [round_.all_targets(), round_.all_targets()] == [4, 0], "the same again is nothing new"
    # a band neutrophil is a neutrophil; a model that calls a blast nothing is right
    assert round_.scores() == {"anna": (4, 4, 4), "ben": (2, 2, 1), "inception_v3_svm": (4, 2, 2)}
    assert round_.all_targets(**{"c3.jpg": "basophil"}) == 1, "the organiser corrects a target"
    assert round_.scores()["anna"] == (4, 4, 3)


def test_other_peoples_scores_are_for_seniors(round_: Round) -> None:
    for reader in ("anna", "ben"):
        round_.read(reader, 0, "neutrophil")
    round_.end()
    round_.all_targets()

    def scored(person: str) -> set[str]:
        with round_.desk.client(person) as reader:
            page = reader.http.get("/quality").raise_for_status().text
        rows = re.findall(rf"<bdi>{round_.name}</bdi></th><td><bdi>(\w+)</bdi>", page)
        return set(rows)

    assert scored("anna") == {"anna", "inception_v3_svm"}
    assert scored("clara") == {"anna", "ben", "inception_v3_svm"}


def test_readings_of_a_round_are_no_labels(round_: Round) -> None:
    (key,) = new_keys(1)
    assert [round_.read("anna", 0, "monocyte", key) for _ in range(2)] == ["stored"] * 2, "sent again, stored once"
    assert round_.read("anna", 1, "monocyte", key) == "refused"
    assert round_.read("anna", 0, "monocyte") == "refused", "one reading of each person"
    counts = [round_.count(each) for each in ("eqa_reading", "label", "blind_label", "evidence_label")]
    assert counts == [1, 0, 0, 0]


def test_whoever_has_opened_the_slide_reads_it_blind_no_more(round_: Round) -> None:
    round_.desk.functions.open_slide(round_.desk.session("anna"), round_.slide_id)
    assert [round_.read("anna", 0, "monocyte"), round_.read("ben", 0, "monocyte")] == ["refused", "stored"]


def test_the_blind_page_shows_its_cells_without_saying_whose_they_are(round_: Round) -> None:
    slide = round_.desk.slide({"neutrophil": 2})
    round_.desk.laboratory.sample(slide.all_cells)
    with round_.desk.client("anna") as anna:
        page = anna.http.get("/blind").raise_for_status().text
        assert page.count("/blind/cells/") >= 6
        assert "EQA" not in page and "Morphology" not in page
        quality = anna.http.get("/quality").raise_for_status().text
        assert round_.name in quality and '<a href="/blind">Blind reading</a></td>' in quality


def test_a_round_is_neither_drawn_for_the_sample_nor_signed(round_: Round) -> None:
    laboratory = round_.desk.laboratory
    patients = laboratory.cells(laboratory.slide(f"P-{round_.number}"), ["SNE"] * 3)
    with laboratory.database.begin() as connection:
        connection.execute(sa.select(sa.func.bloodcell.draw_sample(NIGHT, 10_000, laboratory.run("ingest"))))
    drawn = round_.desk.rows("SELECT cell_id FROM bloodcell.random_sample")
    assert {cell for (cell,) in drawn} >= set(patients)
    assert round_.count("random_sample") == 0
    laboratory.count(round_.slide_id)
    version = read_result(laboratory.database, round_.barcode).version
    assert version is not None
    with pytest.raises(sa.exc.DBAPIError, match="control slides, which are not signed: 1"):
        laboratory.sign(round_.barcode, version.number)


def test_targets_are_refused_while_the_round_can_be_read(round_: Round) -> None:
    with pytest.raises(ConfigurationError, match="can be read until"):
        round_.all_targets()


def test_a_round_whose_targets_are_known_does_not_open_again(round_: Round) -> None:
    round_.end()
    round_.all_targets()
    round_.due(timedelta(days=7))
    assert round_.read("anna", 0, "neutrophil") == "refused"
    assert not round_.status().is_open


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slide;file;label\nEQA;c9.jpg;EO\n", "1 of 1 rows are no cell of Morphology .*: EQA/c9.jpg"),
        ("slide;file;label\nEQA;c0.jpg;neutrofil\n", "row 2: label 'neutrofil' is no class and no code"),
        ("slide;file;label\nEQA;c0.jpg;SNE\nEQA;c0.jpg;EO\n", "row 3: EQA/c0.jpg has another label in an earlier row"),
        ("slide;file;label\nEQA;c0.jpg\n", "row 2: label '' is no class and no code"),
        ("slide;label\nEQA;EO\n", "file is missing"),
        ("", "slide, file, label is missing"),
        ("slide;file;label\n", "received none"),
    ],
)
def test_a_wrong_file_of_targets_records_nothing(round_: Round, text: str, told: str) -> None:
    round_.end()
    with pytest.raises(ConfigurationError, match=told):
        round_.targets(text)
    assert round_.count("eqa_target") == 0


def test_a_round_that_does_not_exist_is_named_with_those_that_do(round_: Round, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("slide;file;label\nEQA;c0.jpg;EO\n")
    with pytest.raises(ConfigurationError, match=f"There is no round 'another'. Known: .*'{round_.name}'"):
        import_targets(round_.desk.laboratory.database, "another", file, by="eva")
