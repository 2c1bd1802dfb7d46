"""The queries about labels, retraining and the nightly check return the right rows; test_queries runs each of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.evaluation import compare, evaluate_calls
from bloodcell.results.due_results import write_results
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory
from tests.storage.test_queries import Ask, asking, columns
from tests.trial import holdout_of, predictions_of

SINCE = {"since": "2026-03-01"}
DATASET = "d16e57"  # the data set that the manifests of the laboratory's models name
FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture(scope="module")
def ask(postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs a query on a laboratory with labels, two retrainings and two checks; returns rows as psql prints them."""
    with asking(postgres, template, "learning", tmp_path_factory.mktemp("learning"), fill) as ask:
        yield ask


def fill(database: Database, settings: Settings) -> None:
    """Three patients, three readers, a model that was promoted by a retraining, and one that was refused."""
    lab = Laboratory(database)
    lab.model(promote=False)
    lab.model(CHALLENGER, "vgg16", promote=False)
    s1 = lab.cells(lab.slide("S1"), ["LY"] * 10)
    s2 = lab.cells(lab.slide("S2", patient_key="p-18"), ["SNE"] * 10)
    s3 = lab.cells(lab.slide("S3", patient_key=None), ["MO"] * 4)
    lab.file("S1/LY_1.jpg", "cell", cell_id=s1[0])
    # anna and boris label S1 blind and agree on 8 of 10 cells; on S2 they see the calls and agree on every class; carla
    # settles one dispute; on S3 they disagree whether a cell is a blast
    lab.label(s1, ["lymphocyte"] * 9 + ["monocyte"], "anna", blind=True)
    lab.label(s1, ["lymphocyte"] * 7 + ["monocyte"] * 3, "boris", at="2026-03-15 10:00+00", blind=True)
    lab.label(s2, ["SNE"] * 10, "anna")
    lab.label(s2, ["BNE"] * 10, "boris")
    lab.label(s1[7:8], ["lymphocyte"], "carla", at="2026-03-16 09:00+00", adjudication=True)
    lab.label(s3[:1], ["BL"], "anna")
    lab.label(s3[1:2], ["monocyte"], "anna")
    lab.label(s3[2:3], ["BL"], "anna", at="2026-03-16 10:00+00")
    lab.label(s3[2:3], ["VLY"], "boris", at="2026-03-16 11:00+00")
    lab.dataset(DATASET, [(s1[0], "training"), (s1[1], "training"), (s2[0], "holdout"), (s3[0], "out_of_scope")])
    retrainings(lab)
    calls = ["lymphocyte"] * 9 + ["unclassified"]
    lab.call(s1, calls)
    lab.call(s2, ["neutrophil"] * 10)
    lab.call(s3, ["lymphocyte", "lymphocyte", "monocyte", "monocyte"])
    slides = [int(str(slide)) for (slide,) in lab.rows("SELECT slide_id FROM bloodcell.slide")]
    write_results(database, slides=slides, run_id=lab.run("differential"), rules=read_rules(None))
    checks(lab, s1 + s3[:2], [*calls, "lymphocyte", "lymphocyte"])


def retrainings(lab: Laboratory) -> None:
    """The first ended in a promotion, the second in a model that a gate refused."""
    passed = {"gate": "not_worse_overall", "passed": True, "measured": 0.02, "threshold": -0.01, "reason": "Better."}
    failed = {"gate": "no_class_worse", "passed": False, "measured": -0.2, "limit": -0.05, "reason": "Basophils fall."}
    approval = {"chosen": "Approve", "by": "head", "at": "2026-03-09T08:00:00+00:00", "reason": "looks right"}
    truth = np.repeat(np.arange(8), 5)
    probabilities = np.full((40, 8), 0.02)
    probabilities[np.arange(40), truth] = 0.86
    probabilities[0] = probabilities[-1]  # a basophil taken for a platelet
    evaluation = evaluate_calls(truth, probabilities, np.arange(40) == 39)
    predictions = replace(
        predictions_of(truth), probabilities=probabilities, unclassified=np.arange(40) == 39, model_id=CHAMPION
    )
    candidate = compare(holdout_of(truth.tolist(), [i % 4 for i in range(40)]), [predictions]).candidate
    assert candidate is not None
    figures = asdict(evaluation) | {"by_patient": {"classes": [asdict(each) for each in candidate.classes]}}
    asked = {"requested_by": "anna", "variants": ["vgg16"], "base": "champion", "seed": 0, "min_new_labels": 1}
    runs = [
        {"training_run_id": FIRST, "reason": "weekly", "state": "promoted", "state_reason": "model is champion",
         "approval": approval, "requested_at": "2026-03-07 06:00+00", "champion_id": None},
        {"training_run_id": SECOND, "reason": "weekly", "state": "refused", "state_reason": "Basophils fall.",
         "approval": None, "requested_at": "2026-03-14 06:00+00", "champion_id": CHAMPION},
    ]  # fmt: skip
    made = [
        (FIRST, CHAMPION, "inception_v3_svm", [passed], 0.9),
        (SECOND, CHALLENGER, "vgg16", [passed, failed], 0.875),
    ]
    with lab.database.begin() as connection:
        for run in runs:
            connection.execute(tables.training_run.insert().values(**asked, **run, dataset_digest=DATASET))
        evidence = {"training_run_id": str(FIRST), "approval": approval, "gates": [passed], "report": "reports/1.html"}
        connection.execute(
            tables.promotion.insert().values(
                model_id=CHAMPION, action="promote", promoted_by="head", reason="looks right", evidence=evidence,
                promoted_at="2026-03-09 08:00+00",
            )
        )  # fmt: skip
        for retraining, model_id, variant, gates, accuracy in made:
            common = {"model_id": model_id, "run_id": lab.run_id}
            connection.execute(tables.candidate.insert().values(training_run_id=retraining, variant=variant, **common))
            connection.execute(
                tables.evaluation.insert().values(
                    dataset_digest=DATASET, n_cells=40, n_patients=3, accuracy=accuracy, accuracy_lower=0.8,
                    accuracy_upper=0.95, macro_f1=accuracy, calibration_error=0.02, unclassified=0.025,
                    figures=figures, **common,
                )
            )  # fmt: skip
            connection.execute(
                tables.validation.insert().values(
                    validation_id=uuid.uuid4(), training_run_id=retraining, dataset_digest=DATASET, gates=gates,
                    passed=all(gate["passed"] for gate in gates), report=f"reports/{variant}.html", **common,
                )
            )  # fmt: skip


def checks(lab: Laboratory, cells: list[int], calls: list[str]) -> None:
    """One check with too few cells to measure anything, then one that crossed a threshold."""
    compared = """
        INSERT INTO bloodcell.checked_cell
            (model_id, cell_id, label_id, class, called_class, is_blind, is_training, run_id)
        SELECT :model, cell_id, label_id, class, :called, is_blind, :is_training, :run FROM bloodcell.current_label
        WHERE cell_id = :cell AND state <> 'contested'
    """
    row = {"model_id": CHAMPION, "until_label_id": 1, "threshold": 0.9, "lower": None, "upper": None}
    too_little = [("agreement", None, None, True, 3), ("embedding", None, None, True, 0)]
    enough = [
        ("agreement", None, 0.7, False, 50),
        ("agreement", "ig", 0.1, True, 9),
        ("embedding", None, 0.01, True, 80),
    ]
    with lab.database.begin() as connection:
        for hour, figures in ((5, too_little), (6, enough)):
            run = lab.run("check")
            for kind, cell_class, measured, passed, n_cells in figures:
                connection.execute(
                    tables.model_check.insert().values(
                        **row, **{"class": cell_class}, kind=kind, measured=measured, passed=passed, n_cells=n_cells,
                        reason="" if passed else "Too low.", run_id=run, checked_at=f"2026-03-16 0{hour}:00+00",
                    )
                )  # fmt: skip
        for number, (cell, called) in enumerate(zip(cells, calls, strict=True)):
            values = {"model": CHAMPION, "cell": cell, "called": called, "is_training": number < 2, "run": run}
            connection.execute(sa.text(compared), values)


def test_label_counts_by_person_and_class(ask: Ask) -> None:
    rows = ask(23)
    by_anna = columns(
        [row for row in rows if row["labelled_by"] == "anna"], "class", "n_cells", "n_blind", "example_code"
    )
    assert by_anna == [
        ("neutrophil", "10", "0", ""),
        ("lymphocyte", "9", "9", ""),
        ("monocyte", "2", "1", ""),
        ("", "2", "0", "BL"),
    ]
    together = {row["class"]: (row["n_cells"], row["n_labels"]) for row in rows if not row["labelled_by"]}
    assert together["lymphocyte"] == ("9", "17")
    assert ask(23, since="2026-03-17") == []


def test_contested_cells_are_listed_with_each_persons_label(ask: Ask) -> None:
    # what somebody calls a blast comes before the older disagreement
    blast, older = ask(24)
    assert columns([blast], "barcode", "labels", "call") == [("S3", "anna: BL, boris: VLY", "monocyte")]
    assert older["labels"] == "anna: lymphocyte (blind), boris: monocyte (blind)"
    assert (older["barcode"], older["n_people"], older["call"]) == ("S1", "2", "lymphocyte")
    assert columns(ask(24, most=1), "barcode", "n_in_all") == [("S3", "2")]


def test_agreement_of_readers_blind_and_not(ask: Ask) -> None:
    blind, seeing, by_code = ask(25)
    # they agree on 7 lymphocytes and 1 monocyte of 10 cells; (9 * 7 + 1 * 3) / 100 is expected by chance
    assert columns([blind], "reader", "other", "blind", "n_cells", "agreement", "expected", "kappa") == [
        ("anna", "boris", "t", "10", "0.8000", "0.6600", "0.4118")
    ]
    # 10 of 11 cells: a blast is no variant lymphocyte; (10 * 10) / 121 is expected by chance
    assert columns([seeing], "blind", "n_cells", "n_agree", "agreement", "kappa") == [
        ("f", "11", "10", "0.9091", "0.4762")
    ]
    # of the same eleven cells, by code: anna says segmented, boris band of each neutrophil
    assert columns([by_code], "blind", "level", "n_cells", "n_agree", "agreement") == [
        ("f", "code", "11", "0", "0.0000")
    ]


def test_retraining_week_by_week(ask: Ask) -> None:
    first, second = ask(26, **SINCE)
    names = ("week", "n_labelled", "champion_accuracy", "candidate_accuracy", "gain", "gates", "state", "decided_by")
    assert columns([first], *names) == [("2026-03-02", "3", "", "90.00", "", "passed", "promoted", "head")]
    assert columns([second], *names) == [
        ("2026-03-09", "3", "90.00", "87.50", "-2.50", "no_class_worse", "refused", "")
    ]
    assert second["outcome"] == "Basophils fall."


def test_gates_of_a_model_and_why_it_was_refused(ask: Ask) -> None:
    failed, passed = ask(27, model=CHALLENGER[:12])
    assert columns([failed], "gate", "passed", "measured", "threshold", "reason", "report") == [
        ("no_class_worse", "f", "-0.2000", "-0.0500", "Basophils fall.", "reports/vgg16.html")
    ]
    assert passed["passed"] == "t"
    assert {row["model"] for row in ask(27)} <= {CHALLENGER[:12], CHAMPION[:12]}


def test_data_set_of_a_model(ask: Ask) -> None:
    rows = ask(28)
    assert columns(rows, "model", "split", "class", "n_images", "n_patients", "n_blind") == [
        (CHAMPION[:12], "training", "lymphocyte", "2", "1", "2"),
        (CHAMPION[:12], "holdout", "neutrophil", "1", "1", "0"),
        (CHAMPION[:12], "out_of_scope", "", "1", "1", "0"),
    ]
    assert rows[0]["labelled_by"] == "boris"


def test_a_call_is_traced_to_the_people_behind_it(ask: Ask) -> None:
    rows = ask(29, barcode="S1")
    # expanded output: lines of name,value, the first of which the reader takes for the header
    text = "\n".join(",".join(row.values()) for row in rows)
    for line in (
        f"model_id,{CHAMPION}",
        "path,S1/LY_1.jpg",
        "called_class,lymphocyte",
        f"dataset_digest,{DATASET}",
        "n_training_images,2",
        "labelled_by,boris",
        "model_code_version,0.1.0+abc",
        f"training_run_id,{FIRST}",
        "approved_by,head",
        "reason,looks right",
        "label,lymphocyte",
        'label_by,"anna, boris"',
        "counts_as,lymphocyte",
        "version,1",
        "result_state,withheld",
        "signed_by,",
    ):
        assert line.replace('"', "") in text, line


def test_checks_of_the_champion_over_time(ask: Ask) -> None:
    first, second = ask(30, **SINCE)
    assert columns([first], "agreement", "n_labels", "embedding", "passed") == [("", "", "", "t")]
    assert columns([second], "agreement", "n_labels", "embedding", "passed", "failed") == [
        ("70.0", "50", "0.0100", "f", "Too low.")
    ]


def test_figures_of_each_class(ask: Ask) -> None:
    rows = {row["class"]: row for row in ask(31)}
    assert sorted(rows) == sorted(CELL_CLASSES)
    # 4 of 5 found; with four patients the interval is wider than the exact one, 28.4 to 99.5 %
    (basophil,) = columns([rows["basophil"]], "n_cells", "sensitivity", "sensitivity_lower_95", "sensitivity_upper_95")
    assert basophil[:2] == ("5", "80.0")
    assert float(basophil[2]) < 28.4
    assert float(basophil[3]) >= 99.5
    # four of the five platelets are called, and a basophil is called a platelet
    assert columns([rows["platelet"]], "sensitivity", "precision", "top_sensitivity", "n_unclassified") == [
        ("100.0", "80.0", "100.0", "1")
    ]


def test_patients_by_split(ask: Ask) -> None:
    names = ("split", "n_patients", "n_labelled", "n_contested", "n_out_of_scope", "lymphocyte", "neutrophil")
    assert columns(ask(32), *names) == [
        ("training", "1", "10", "1", "0", "8", "0"),
        ("holdout", "2", "13", "1", "1", "0", "10"),
    ]


def test_labels_against_the_champions_calls(ask: Ask) -> None:
    rows = columns(ask(33, **SINCE), "class", "called_class", "n_cells", "percent_of_row", "n_blind")
    # S1 has eight lymphocytes, two of them trained on, and one monocyte left unclassified; S3 a monocyte and a blast
    assert rows == [
        ("lymphocyte", "lymphocyte", "6", "100.0", "5"),
        ("monocyte", "lymphocyte", "1", "50.0", "0"),
        ("monocyte", "unclassified", "1", "50.0", "1"),
        ("", "lymphocyte", "1", "100.0", "0"),
    ]


def test_misread_cells(ask: Ask) -> None:
    rows = columns(ask(34, **SINCE), "barcode", "class", "called_class")
    assert sorted(rows) == [("S3", "", "lymphocyte"), ("S3", "monocyte", "lymphocyte")]
    (first,) = ask(34, most=1, **SINCE)
    assert first["n_in_all"] == "2"


def test_model_history_names_the_approver(ask: Ask) -> None:
    (row,) = ask(17)
    assert columns([row], "approved_by", "n_gates", "retraining", "report") == [
        ("head", "1", str(FIRST)[:8], "reports/1.html")
    ]
