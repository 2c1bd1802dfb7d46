"""A retraining without Airflow: what is trained, validated and recorded."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, UnknownRecordError
from bloodcell.registry.bundle import images_of
from bloodcell.registry.promotion_proof import GATES
from bloodcell.registry.registered_models import open_registered
from bloodcell.retraining import begin_training_run, train_candidate, validate_candidates, validate_model
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store
from tests.retraining.conftest import REQUEST, Judged
from tests.retraining.nights import label_cells, make_night


def rows(settings: Settings, statement: str, **values: object) -> list[sa.Row[*tuple[Any, ...]]]:
    with open_database(settings).connect() as connection:
        return list(connection.execute(sa.text(statement), values))


def test_a_candidate_that_learnt_the_labels_passes_every_gate(judged: Judged) -> None:
    assert judged.validated.refusal == ""
    assert judged.validated.passed
    assert judged.validated.accuracy is not None
    assert judged.validated.accuracy > 0.9
    gates = rows(judged.settings, "SELECT gate, passed, reason FROM bloodcell.model_gate")
    assert [gate.gate for gate in gates] == list(GATES)
    assert all(gate.passed and gate.reason for gate in gates)


def test_a_candidates_bundle_lists_the_images_it_was_made_from(judged: Judged) -> None:
    bundle = open_registered(Store.of(judged.settings), judged.validated.model_id)
    assert bundle.manifest.data.dataset_digest == judged.run.dataset_digest
    splits = rows(
        judged.settings,
        "SELECT split, sha256 FROM bloodcell.training_image WHERE dataset_digest = :d",
        d=judged.run.dataset_digest,
    )
    champion = open_registered(Store.of(judged.settings), judged.champion_id)  # which it was trained on from
    own = {row.sha256 for row in splits if row.split in ("training", "validation")}
    assert images_of(bundle) == own | images_of(champion)
    assert {row.split for row in splits} == {"training", "validation", "holdout", "lockbox", "out_of_scope"}


def test_candidate_and_champion_are_evaluated_on_the_same_cells(judged: Judged) -> None:
    found = rows(judged.settings, "SELECT model_id, n_cells, n_patients, figures FROM bloodcell.model_evaluation")
    assert {row.model_id for row in found} == {judged.champion_id, judged.validated.model_id}
    assert len({(row.n_cells, row.n_patients) for row in found}) == 1
    for row in found:
        assert sum(sum(line) for line in row.figures["confusion"]) == row.n_cells
        assert row.figures["by_patient"]["classes"]


def test_the_page_is_stored_and_names_both_models(judged: Judged) -> None:
    with open(judged.validated.report) as file:  # noqa: PTH123
        page = file.read()
    assert judged.validated.model_id[:12] in page
    assert judged.champion_id[:12] in page
    assert "http" + "://" not in page.replace("http://www.w3.org", "")


def test_repeating_every_step_changes_nothing(judged: Judged) -> None:
    tables = ("training_run", "candidate", "evaluation", "validation", "dataset", "dataset_image", "data_split")
    before = {name: rows(judged.settings, f"SELECT * FROM bloodcell.{name} ORDER BY 1, 2") for name in tables}
    assert begin_training_run(judged.settings, REQUEST, judged.run.training_run_id) == judged.run
    assert train_candidate(judged.settings, judged.run.training_run_id, "vgg16_svm") == judged.validated.model_id
    (again,) = validate_candidates(judged.settings, judged.run.training_run_id)
    assert (again.model_id, again.accuracy, again.passed) == (
        judged.validated.model_id, judged.validated.accuracy, True
    )  # fmt: skip
    assert {name: rows(judged.settings, f"SELECT * FROM bloodcell.{name} ORDER BY 1, 2") for name in tables} == before


def test_a_retraining_with_too_few_new_labels_is_skipped_with_the_reason(judged: Judged) -> None:
    begun = begin_training_run(judged.settings, replace(REQUEST, min_new_labels=1), uuid.uuid4())
    assert (begun.state, begun.dataset_digest) == ("skipped", None)
    assert begun.state_reason == "0 newly labelled cells, 1 are needed (min_new_labels)."
    with pytest.raises(ConfigurationError, match="no data set: it is skipped"):
        train_candidate(judged.settings, begun.training_run_id, "vgg16_svm")


def test_a_retraining_with_a_class_without_images_is_skipped_with_the_reason(settings: Settings) -> None:
    truth = make_night(settings, patients=[f"P{n}" for n in range(8)], cells_per_class=1)
    label_cells(settings, {cell: cell_class for cell, cell_class in truth.items() if cell_class != "basophil"})
    begun = begin_training_run(settings, replace(REQUEST, base="imagenet"), uuid.uuid4())
    assert begun.state == "skipped"
    assert "Too few training images, 2 of each class are needed: basophil (0)" in str(begun.state_reason)


def test_an_invalid_request_is_refused_before_anything_is_written(judged: Judged) -> None:
    for wrong, what in (
        (replace(REQUEST, variants=("vgg19",)), "vgg19"),
        (replace(REQUEST, reason=" "), "needs a reason"),
        (replace(REQUEST, variants=("vgg16",), base="champion"), "no model of vgg16 to start from .base champion"),
    ):
        with pytest.raises(ConfigurationError, match=what):
            begin_training_run(judged.settings, wrong, uuid.uuid4())
    assert len(rows(judged.settings, "SELECT 1 FROM bloodcell.training_run")) == 1
    with pytest.raises(UnknownRecordError, match="There is no retraining"):
        train_candidate(judged.settings, uuid.uuid4(), "vgg16_svm")


def test_a_request_without_variants_trains_the_serving_variants(judged: Judged) -> None:
    begun = begin_training_run(
        judged.settings.model_copy(), replace(REQUEST, variants=(), min_new_labels=1), uuid.uuid4()
    )
    assert begun.variants == ("vgg16_svm",)


def test_any_model_can_be_validated_by_hand(judged: Judged) -> None:
    again = validate_model(judged.settings, judged.validated.model_id[:10], by="dr.b")
    assert (again.passed, again.accuracy) == (True, judged.validated.accuracy)
    assert len(rows(judged.settings, "SELECT 1 FROM bloodcell.validation")) == 2
    with pytest.raises(ConfigurationError, match="is the champion"):
        validate_model(judged.settings, judged.champion_id, by="dr.b")
