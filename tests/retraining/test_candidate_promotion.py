"""How an approved candidate becomes champion, and all the ways in which it is refused."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.errors import BundleError, PromotionRefusedError
from bloodcell.registry import promotion, registered_models
from bloodcell.registry.bundle import Bundle
from bloodcell.retraining import (
    Approval,
    begin_training_run,
    end_training_run,
    promote_candidate,
    train_candidate,
    validate_candidates,
)
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database
from bloodcell.storage.store import Store
from tests.retraining.conftest import REQUEST, Judged
from tests.retraining.nights import label_cells, make_night
from tests.retraining.test_validating import rows

YES = Approval("Approve", "dr.chief", "2026-03-20T10:00:00+00:00", "better on the hold-out")


def champion(settings: Settings) -> str | None:
    return open_database(settings).transact(registered_models.champion, patience_s=10)


def test_an_approved_candidate_becomes_champion_with_who_when_why_and_evidence_recorded(judged: Judged) -> None:
    for _ in range(2):  # the second time changes nothing
        promote_candidate(judged.settings, judged.run.training_run_id, judged.validated.model_id, YES)
    assert champion(judged.settings) == judged.validated.model_id
    history = rows(judged.settings, "SELECT * FROM bloodcell.model_history ORDER BY promotion_id")
    assert len(history) == 2
    last = history[-1]
    assert (last.promoted_by, last.reason) == ("dr.chief", "better on the hold-out")
    assert last.evidence["approval"] == {
        "chosen": "Approve", "by": "dr.chief", "at": "2026-03-20T10:00:00+00:00", "reason": "better on the hold-out"
    }  # fmt: skip
    assert last.evidence["dataset_digest"] == judged.run.dataset_digest
    assert len(last.evidence["gates"]) == 6
    assert last.evidence["report"] == judged.validated.report
    (run,) = rows(judged.settings, "SELECT state, decided_by FROM bloodcell.retraining")
    assert tuple(run) == ("promoted", "dr.chief")


@pytest.mark.parametrize(
    ("approval", "why"),
    [
        (None, "No person has approved"),
        (replace(YES, chosen="Reject"), "'Reject'"),
        (replace(YES, by="dr.nobody"), "'dr.nobody' may not approve"),
        (replace(YES, by=""), "may not approve"),
        (replace(YES, reason=" "), "has no reason"),
    ],
)
def test_the_champion_stays_without_a_reasoned_approval_by_an_approver(
    judged: Judged, approval: Approval | None, why: str
) -> None:
    with pytest.raises(PromotionRefusedError, match=why):
        promote_candidate(judged.settings, judged.run.training_run_id, judged.validated.model_id, approval)
    assert champion(judged.settings) == judged.champion_id
    assert len(rows(judged.settings, "SELECT 1 FROM bloodcell.model_history")) == 1


def test_a_task_that_was_marked_by_hand_has_no_answer() -> None:
    assert Approval.of_answer(None) is None
    assert Approval.of_answer({}) is None
    answer = {
        "chosen_options": ["Approve"],
        "params_input": {"reason": "better"},
        "responded_at": "2026-03-20T10:00:00+00:00",
        "responded_by_user": {"id": "dr.chief", "name": "dr.chief"},
    }
    assert Approval.of_answer(answer) == replace(YES, reason="better")


def test_a_bundle_changed_after_the_approval_is_not_promoted(judged: Judged, tmp_path: Path) -> None:
    settings = judged.settings.model_copy(update={"store_url": str(tmp_path / "store")})
    source, target = Store.of(judged.settings), Store.of(settings)
    for model_id in (judged.champion_id, judged.validated.model_id):
        target.put_bundle(source.bundle_folder(model_id), model_id)
    model = target.bundle_folder(judged.validated.model_id) / "model.keras"
    model.write_bytes(model.read_bytes() + b"\1")
    with pytest.raises(BundleError, match=r"model\.keras is altered"):
        promote_candidate(settings, judged.run.training_run_id, judged.validated.model_id, YES)
    assert champion(settings) == judged.champion_id


def test_of_two_retrainings_at_once_only_the_first_to_be_approved_promotes_its_candidate(judged: Judged) -> None:
    settings = judged.settings
    truth = make_night(settings, "2026-03-21", patients=["Q1", "Q2"], cells_per_class=1)
    label_cells(settings, truth)
    second = begin_training_run(settings, replace(REQUEST, seed=9), uuid.uuid4())
    other = train_candidate(settings, second.training_run_id, "vgg16_svm")
    validate_candidates(settings, second.training_run_id)
    promote_candidate(settings, judged.run.training_run_id, judged.validated.model_id, YES)
    with pytest.raises(PromotionRefusedError, match="became champion meanwhile"):
        promote_candidate(settings, second.training_run_id, other, YES)
    assert champion(settings) == judged.validated.model_id
    state = end_training_run(settings, second.training_run_id, approval=YES, failed="Failed: promote", expired=False)
    assert state == "failed"


def test_a_candidate_trained_on_shuffled_labels_is_refused_everywhere(judged: Judged) -> None:
    settings = judged.settings
    splits = {
        (row.barcode, row.file_name)
        for row in rows(
            settings,
            "SELECT barcode, file_name FROM bloodcell.training_image WHERE split <> 'holdout' AND class IS NOT NULL",
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
    assert "Accuracy goes from" in refused.refusal
    (state,) = rows(
        settings,
        "SELECT state, state_reason FROM bloodcell.training_run WHERE training_run_id = :i",
        i=run.training_run_id,
    )
    assert state.state == "refused"
    assert refused.refusal in state.state_reason
    with open(refused.report) as file:  # noqa: PTH123
        assert "refused" in file.read().lower()

    with pytest.raises(PromotionRefusedError, match="refused by its gates"):
        promote_candidate(settings, run.training_run_id, model_id, YES)
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


def test_a_rollback_restores_the_previous_champion_and_the_history_shows_both(judged: Judged) -> None:
    settings = judged.settings
    promote_candidate(settings, judged.run.training_run_id, judged.validated.model_id, YES)
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
    ("approval", "failed", "expired", "state", "reason"),
    [
        (
            replace(YES, chosen="Reject", reason="too few basophils"),
            None,
            False,
            "rejected",
            "rejected by dr.chief: too few",
        ),
        (None, "Failed: approve", True, "expired", "Nobody answered within 72 h"),
        (None, "Failed: train", False, "failed", "Failed: train"),
    ],
)
def test_how_a_retraining_ended_is_recorded_once_and_never_changed(
    judged: Judged, approval: Approval | None, failed: str | None, expired: bool, state: str, reason: str
) -> None:
    run_id = judged.run.training_run_id
    assert end_training_run(judged.settings, run_id, approval=approval, failed=failed, expired=expired) == state
    assert end_training_run(judged.settings, run_id, approval=None, failed="x", expired=False) == state
    (row,) = rows(judged.settings, "SELECT state_reason FROM bloodcell.training_run")
    assert reason in row.state_reason
