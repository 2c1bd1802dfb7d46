"""How an approved candidate becomes champion, and all the ways in which it is refused."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import BundleError, ConfigurationError, PromotionRefusedError
from bloodcell.registry import promotion, registered_models
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion_proof import GATES
from bloodcell.retraining import (
    ask_for_approval,
    begin_training_run,
    end_training_run,
    promote_by_hand,
    promote_candidate,
    record_answer,
    train_candidate,
    validate_candidates,
    validate_model,
)
from bloodcell.retraining.validation_plan import plan_of_model
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store
from tests.retraining.conftest import REQUEST, Judged
from tests.retraining.nights import label_cells, make_night
from tests.retraining.test_validating import rows

AT = datetime(2026, 3, 20, 10, 0, tzinfo=UTC)
YES = {
    "chosen_options": ["Approve"],
    "params_input": {"reason": "better on the hold-out"},
    "responded_at": AT,
    "responded_by_user": {"id": "3", "name": "dr.chief"},  # as Flask AppBuilder has them
    "timedout": False,
}
"""What Airflow hands to the task that asked."""


def by(name: str) -> dict[str, Any]:
    return YES | {"responded_by_user": {"id": "3", "name": name}}


def answered(settings: Settings, training_run_id: uuid.UUID, answer: Mapping[str, Any] | None = YES) -> uuid.UUID:
    """Asks as the task does, and answers unless `answer` is None; returns the id of the question."""
    question_id = uuid.uuid4()
    ask_for_approval(settings, training_run_id, question_id)
    if answer is not None:
        record_answer(settings, question_id, answer)
    return question_id


def impatient(settings: Settings) -> Settings:
    """Settings with which the time for an answer is over at once."""
    return settings.model_copy(update={"approval_timeout_h": 0.01})


def champion(settings: Settings) -> str | None:
    return open_database(settings).transact(registered_models.champion, patience_s=10)


def test_an_approved_candidate_becomes_champion_with_who_when_why_and_evidence_recorded(judged: Judged) -> None:
    answered(judged.settings, judged.run.training_run_id)
    for _ in range(2):  # the second time changes nothing
        promoted = promote_candidate(judged.settings, judged.run.training_run_id)
        assert promoted == judged.validated.model_id
    assert champion(judged.settings) == judged.validated.model_id
    history = rows(judged.settings, "SELECT * FROM bloodcell.model_history ORDER BY promotion_id")
    assert len(history) == 2
    last = history[-1]
    assert (last.promoted_by, last.reason) == ("dr.chief", "better on the hold-out")
    assert last.evidence["approval"] == {
        "chosen": "Approve", "by": "dr.chief", "at": "2026-03-20T10:00:00+00:00", "reason": "better on the hold-out"
    }  # fmt: skip
    assert last.evidence["dataset_digest"] == judged.run.dataset_digest
    assert [gate["gate"] for gate in last.evidence["gates"]] == list(GATES)
    (opened,) = rows(judged.settings, "SELECT * FROM bloodcell.lockbox_history")  # once, though promoted twice
    assert (opened.model_id, opened.champion_id) == (judged.validated.model_id, judged.champion_id)
    assert (opened.n_cells, opened.n_patients, opened.passed) == (24, 1, True)
    assert last.evidence["lockbox"] == opened.reason
    assert "The 24 cells of 1 patient in the lockbox do not contradict the gates" in opened.reason
    assert last.evidence["report"] == judged.validated.report
    (run,) = rows(judged.settings, "SELECT state, decided_by FROM bloodcell.retraining")
    assert tuple(run) == ("promoted", "dr.chief")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "No person has approved"),
        (YES | {"chosen_options": ["Reject"]}, "'Reject'"),
        (by("dr.nobody"), "'dr.nobody' may not approve"),
        (YES | {"responded_by_user": None}, "'nobody' may not approve"),
        (YES | {"params_input": {"reason": " "}}, "has no reason"),
    ],
)
def test_the_champion_stays_without_a_reasoned_approval_by_an_approver(
    judged: Judged, answer: Mapping[str, Any] | None, why: str
) -> None:
    answered(judged.settings, judged.run.training_run_id, answer)
    with pytest.raises(PromotionRefusedError, match=why):
        promote_candidate(judged.settings, judged.run.training_run_id)
    assert champion(judged.settings) == judged.champion_id
    assert len(rows(judged.settings, "SELECT 1 FROM bloodcell.model_history")) == 1
    (run,) = rows(judged.settings, "SELECT state, error FROM bloodcell.run WHERE stage = 'promote'")
    assert run.state == "failed"
    assert why in run.error


def test_nobody_was_asked_so_nobody_approved(judged: Judged) -> None:
    with pytest.raises(PromotionRefusedError, match="No person has approved"):
        promote_candidate(judged.settings, judged.run.training_run_id)


def test_the_newest_question_counts_and_each_is_answered_once(judged: Judged) -> None:
    settings, run_id = judged.settings, judged.run.training_run_id
    first = answered(settings, run_id)
    record_answer(settings, first, YES | {"chosen_options": ["Reject"]})
    assert ask_for_approval(settings, run_id, first) == ask_for_approval(settings, run_id, uuid.uuid4())
    with pytest.raises(PromotionRefusedError, match="No person has approved"):
        promote_candidate(settings, run_id)
    decisions = rows(settings, "SELECT decision FROM bloodcell.approval_answer")
    assert [row.decision for row in decisions] == ["Approve"]


def test_the_question_is_about_the_best_candidate_and_shows_its_validation(judged: Judged) -> None:
    asked = ask_for_approval(judged.settings, judged.run.training_run_id, uuid.uuid4())
    assert asked.model_id == judged.validated.model_id
    assert asked.subject == f"Make model {asked.model_id[:12]} champion?"
    assert asked.body.startswith(judged.validated.summary)
    assert asked.body.endswith("Who may answer: dr.chief.")


def test_a_failed_or_unanswered_retraining_continues_but_a_decision_is_final(judged: Judged) -> None:
    settings, run_id = judged.settings, judged.run.training_run_id
    ask_for_approval(settings, run_id, uuid.uuid4())
    assert end_training_run(impatient(settings), run_id, failed="Failed: approve", unanswered=True) == "expired"
    with pytest.raises(PromotionRefusedError, match="No person has approved"):
        promote_candidate(settings, run_id)
    answered(settings, run_id, YES | {"chosen_options": ["Reject"]})
    # at once, and not only when the last task of the run has recorded it, which somebody may mark as done by hand
    with pytest.raises(PromotionRefusedError, match=r"has ended: rejected \(rejected by dr.chief: better"):
        ask_for_approval(settings, run_id, uuid.uuid4())
    assert end_training_run(settings, run_id, failed=None, unanswered=False) == "rejected"
    assert champion(settings) == judged.champion_id


def test_an_approval_outlives_a_failure_after_it(judged: Judged) -> None:
    answered(judged.settings, judged.run.training_run_id)
    end_training_run(judged.settings, judged.run.training_run_id, failed="Failed: promote", unanswered=False)
    promote_candidate(judged.settings, judged.run.training_run_id)
    assert champion(judged.settings) == judged.validated.model_id
    (run,) = rows(judged.settings, "SELECT state FROM bloodcell.retraining")
    assert run.state == "promoted"


def test_a_bundle_changed_after_the_approval_is_not_promoted(judged: Judged, tmp_path: Path) -> None:
    settings = judged.settings.model_copy(update={"store_url": str(tmp_path / "store")})
    source, target = Store.of(judged.settings), Store.of(settings)
    for model_id in (judged.champion_id, judged.validated.model_id):
        target.put_bundle(source.bundle_folder(model_id), model_id)
    model = target.bundle_folder(judged.validated.model_id) / "model.keras"
    model.write_bytes(model.read_bytes() + b"\1")
    answered(settings, judged.run.training_run_id)
    with pytest.raises(BundleError, match=r"model\.keras is altered"):
        promote_candidate(settings, judged.run.training_run_id)
    assert champion(settings) == judged.champion_id


def test_of_two_retrainings_at_once_only_the_first_to_be_approved_promotes_its_candidate(judged: Judged) -> None:
    settings = judged.settings
    truth = make_night(settings, "2026-03-21", patients=["Q1", "Q2"], cells_per_class=1)
    label_cells(settings, truth)
    second = begin_training_run(settings, replace(REQUEST, seed=9), uuid.uuid4())
    train_candidate(settings, second.training_run_id, "vgg16_svm")
    validate_candidates(settings, second.training_run_id)
    answered(settings, judged.run.training_run_id)
    answered(settings, second.training_run_id)
    promote_candidate(settings, judged.run.training_run_id)
    with pytest.raises(PromotionRefusedError, match="became champion meanwhile"):
        promote_candidate(settings, second.training_run_id)
    assert champion(settings) == judged.validated.model_id
    state = end_training_run(settings, second.training_run_id, failed="Failed: promote", unanswered=False)
    assert state == "failed"


def test_a_candidate_trained_on_shuffled_labels_is_refused_everywhere(judged: Judged) -> None:
    settings = judged.settings
    splits = {
        (row.barcode, row.file_name)
        for row in rows(
            settings,
            "SELECT barcode, file_name FROM bloodcell.training_image "
            "WHERE split NOT IN ('holdout', 'lockbox') AND class IS NOT NULL",
        )
    }
    wrong = dict.fromkeys(splits, "x")
    classes = iter(
        ["ig", "platelet", "monocyte", "basophil", "neutrophil", "lymphocyte", "erythroblast", "eosinophil"] * 1000
    )
    label_cells(settings, wrong, by="mixed.up", is_adjudication=True, labelled_as=lambda cell_class: next(classes))
    run = begin_training_run(settings, replace(REQUEST, seed=4), uuid.uuid4())
    model_id = train_candidate(settings, run.training_run_id, "vgg16_svm")
    (refused,) = validate_candidates(settings, run.training_run_id)
    assert not refused.passed
    assert "Too much is lost" in refused.refusal
    assert "It is the first model that this hold-out judges." in judged.validated.summary
    assert "This hold-out has judged 2 models" in refused.summary
    (state,) = rows(
        settings,
        "SELECT state, state_reason FROM bloodcell.training_run WHERE training_run_id = :i",
        i=run.training_run_id,
    )
    assert state.state == "refused"
    assert refused.refusal in state.state_reason
    with open(refused.report) as file:  # noqa: PTH123
        assert "refused" in file.read().lower()

    with pytest.raises(PromotionRefusedError, match="no candidate that passed every gate"):
        ask_for_approval(settings, run.training_run_id, uuid.uuid4())
    with open_database(settings).begin() as connection:  # as if it had been asked before the gates failed
        question_id = uuid.uuid4()
        question = {"question_id": question_id, "training_run_id": run.training_run_id, "model_id": model_id}
        connection.execute(sa.insert(tables.approval_question).values(question))
    record_answer(settings, question_id, YES)
    with pytest.raises(PromotionRefusedError, match="refused by its gates"):
        promote_candidate(settings, run.training_run_id)
    with (
        open_database(settings).begin() as connection,
        pytest.raises(PromotionRefusedError, match="refused by its gates"),
    ):
        promotion.promote(connection, Store.of(settings), model_id, by="lead", reason="by hand", evidence={})
    for role in ("bloodcell_app", "bloodcell_owner", None):
        with (
            connect(settings.plain_database_url or "", role=role).begin() as connection,
            pytest.raises(sa.exc.DBAPIError, match="refused by its gates"),
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason) "
                    "VALUES (:m, 'promote', 'x', 'y')"
                ),
                {"m": model_id},
            )
    assert champion(settings) == judged.champion_id


def test_a_model_that_was_never_validated_is_not_promoted_if_there_is_a_holdout(
    judged: Judged, tuned_bundle: Bundle
) -> None:
    store = Store.of(judged.settings)
    with open_database(judged.settings).begin() as connection:
        registered_models.register(connection, store, tuned_bundle, by="tests")
    with (
        open_database(judged.settings).begin() as connection,
        pytest.raises(PromotionRefusedError, match="never validated"),
    ):
        promotion.promote(connection, store, tuned_bundle.model_id, by="lead", reason="by hand", evidence={})


def test_a_candidate_that_the_lockbox_contradicts_stays_refused_whoever_promotes_it(judged: Judged) -> None:
    settings, model_id = judged.settings, judged.validated.model_id
    answered(settings, judged.run.training_run_id)
    row = {
        "model_id": model_id,
        "champion_id": judged.champion_id,
        "dataset_digest": judged.run.dataset_digest,
        "n_cells": 24,
        "n_patients": 1,
        "accuracy": 0.5,
        "passed": False,
        "reason": "contradicted",
    }
    with open_database(settings).begin() as connection:
        run_id = connection.execute(sa.text("SELECT run_id FROM bloodcell.run LIMIT 1")).scalar_one()
        connection.execute(sa.insert(tables.lockbox_opening).values(row | {"run_id": run_id}))
    with pytest.raises(PromotionRefusedError, match="refused by the lockbox: contradicted"):
        promote_candidate(settings, judged.run.training_run_id)
    (state,) = rows(settings, "SELECT state, state_reason FROM bloodcell.retraining")
    assert tuple(state) == ("refused", "contradicted")
    with pytest.raises(PromotionRefusedError, match="refused by the lockbox"):
        promote_by_hand(settings, model_id, by="lead", reason="all the same")
    insert = "INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason) VALUES (:m, 'promote', 'x', 'y')"
    with (
        connect(settings.plain_database_url or "", role="bloodcell_owner").begin() as connection,
        pytest.raises(sa.exc.DBAPIError, match="refused by the lockbox: contradicted"),
    ):
        connection.execute(sa.text(insert), {"m": model_id})
    assert champion(settings) == judged.champion_id


@pytest.mark.parametrize("gates", ["[]", '[{"gate": "calibrated", "passed": true, "reason": "yes"}]'])
def test_the_database_refuses_a_model_that_was_not_judged_by_every_gate(judged: Judged, gates: str) -> None:
    app = connect(judged.settings.plain_database_url or "", role="bloodcell_app")
    validated = """
        INSERT INTO bloodcell.validation
            (validation_id, model_id, champion_id, dataset_digest, passed, gates, report, run_id)
        SELECT gen_random_uuid(), model_id, champion_id, dataset_digest, true, CAST(:gates AS jsonb), report, run_id
        FROM bloodcell.validation LIMIT 1"""
    promoted = """
        INSERT INTO bloodcell.promotion (model_id, action, promoted_by, reason)
        SELECT model_id, 'promote', 'x', 'y' FROM bloodcell.validation LIMIT 1"""
    with app.begin() as connection, pytest.raises(sa.exc.DBAPIError, match="validated without the gates"):
        connection.execute(sa.text(validated), {"gates": gates})
        connection.execute(sa.text(promoted))
    assert champion(judged.settings) == judged.champion_id


def test_a_promotion_by_hand_without_a_reason_or_of_the_champion_opens_no_lockbox(judged: Judged) -> None:
    with pytest.raises(ConfigurationError, match="needs a reason"):
        promote_by_hand(judged.settings, judged.validated.model_id, by="lead", reason=" ")
    with pytest.raises(ConfigurationError, match="is champion already"):
        promote_by_hand(judged.settings, judged.champion_id, by="lead", reason="again")
    assert rows(judged.settings, "SELECT 1 FROM bloodcell.lockbox_history") == []


def test_a_promotion_by_hand_opens_the_lockbox_too(judged: Judged) -> None:
    model_id = promote_by_hand(judged.settings, judged.validated.model_id[:10], by="lead", reason="by hand")
    assert champion(judged.settings) == model_id == judged.validated.model_id
    (opened,) = rows(judged.settings, "SELECT model_id, passed FROM bloodcell.lockbox_history")
    assert tuple(opened) == (model_id, True)
    (anchor,) = rows(judged.settings, "SELECT model_id FROM bloodcell.anchor_model")
    assert anchor.model_id == judged.champion_id  # the first champion that a person chose stays the anchor
    with open_database(judged.settings).connect() as connection:
        assert plan_of_model(connection, judged.champion_id).anchor_id == judged.champion_id
    validate_model(judged.settings, judged.champion_id, by="dr.b")
    (gate,) = rows(
        judged.settings,
        "SELECT passed, reason FROM bloodcell.model_gate WHERE gate = 'not_worse_than_anchor' AND model_id = :m",
        m=judged.champion_id,
    )
    assert gate.passed
    assert "is the candidate" in gate.reason


def test_a_validation_by_an_earlier_release_with_fewer_gates_does_not_promote(judged: Judged) -> None:
    settings = judged.settings
    answered(settings, judged.run.training_run_id)
    with connect(settings.plain_database_url or "").begin() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.validation DISABLE TRIGGER append_only"))
        connection.execute(sa.text("UPDATE bloodcell.validation SET gates = gates - 9"))
    with pytest.raises(
        PromotionRefusedError, match=r"earlier release, without the gates not_worse_than_anchor\. Next:"
    ):
        promote_candidate(settings, judged.run.training_run_id)
    assert champion(settings) == judged.champion_id


def test_a_rollback_restores_the_previous_champion_and_the_history_shows_both(judged: Judged) -> None:
    settings = judged.settings
    answered(settings, judged.run.training_run_id)
    promote_candidate(settings, judged.run.training_run_id)
    with open_database(settings).begin() as connection:
        back = promotion.rollback(
            connection, Store.of(settings), replaces=judged.validated.model_id, by="lead", reason="looked wrong"
        )
    assert back == champion(settings) == judged.champion_id
    history = rows(settings, "SELECT action, model_id FROM bloodcell.model_history ORDER BY promotion_id")
    assert [tuple(row) for row in history] == [
        ("promote", judged.champion_id), ("promote", judged.validated.model_id), ("rollback", judged.champion_id)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "failed", "unanswered", "state", "reason"),
    [
        (
            YES | {"chosen_options": ["Reject"], "params_input": {"reason": "too few basophils"}},
            None,
            False,
            "rejected",
            "rejected by dr.chief: too few",
        ),
        (None, "Failed: approve", True, "expired", "Nobody answered within 0.01 h"),
        (YES, "Failed: approve", True, "failed", "Failed: approve"),
        (None, "Failed: train", False, "failed", "Failed: train"),
    ],
)
def test_how_a_retraining_ended_is_recorded_once(
    judged: Judged, answer: Mapping[str, Any] | None, failed: str | None, unanswered: bool, state: str, reason: str
) -> None:
    run_id = judged.run.training_run_id
    settings = impatient(judged.settings)
    answered(settings, run_id, answer)
    assert end_training_run(settings, run_id, failed=failed, unanswered=unanswered) == state
    assert end_training_run(settings, run_id, failed="x", unanswered=False) == state
    (row,) = rows(judged.settings, "SELECT state_reason FROM bloodcell.training_run")
    assert reason in row.state_reason


def test_a_question_that_failed_before_its_time_was_over_did_not_expire(judged: Judged) -> None:
    """For instance because the worker was killed."""
    answered(judged.settings, judged.run.training_run_id, None)
    state = end_training_run(judged.settings, judged.run.training_run_id, failed="Failed: approve", unanswered=True)
    assert state == "failed"
