"""Which state of a retraining may follow which, and that a retraining that has ended is never changed."""

from __future__ import annotations

import pytest

from bloodcell.retraining import ENDED_WELL, TrainingState
from bloodcell.retraining.states import TRANSITIONS, Step, change_state
from bloodcell.retraining.training_runs import read_training_run
from bloodcell.storage.database import open_database
from bloodcell.storage.training_tables import TRAINING_STATES
from tests.retraining.conftest import Judged


def test_the_database_allows_exactly_these_states() -> None:
    assert tuple(TrainingState) == TRAINING_STATES


def test_a_decision_is_final_and_only_a_failed_or_expired_retraining_continues() -> None:
    continues = {TrainingState.FAILED, TrainingState.EXPIRED}
    assert {each.start for each in TRANSITIONS} == {TrainingState.RUNNING} | continues
    assert {each.step for each in TRANSITIONS if each.end is TrainingState.RUNNING} == {Step.APPROVE}
    from_running = [each.end for each in TRANSITIONS if each.start is TrainingState.RUNNING]
    # the gates refuse, and later the lockbox may
    assert sorted(set(from_running)) == sorted(set(TrainingState) - {TrainingState.RUNNING})
    assert set(TrainingState) >= ENDED_WELL
    assert TrainingState.RUNNING not in ENDED_WELL


def test_a_step_cannot_cause_the_state_of_another_step(judged: Judged) -> None:
    run_id = judged.run.training_run_id
    with (
        open_database(judged.settings).begin() as connection,
        pytest.raises(ValueError, match=r"a state that validate may cause: refused\. Received: promoted"),
    ):
        change_state(connection, run_id, TrainingState.PROMOTED, step=Step.VALIDATE, reason="no")


def test_a_retraining_that_has_ended_keeps_its_state(judged: Judged) -> None:
    run_id = judged.run.training_run_id
    with open_database(judged.settings).begin() as connection:
        assert change_state(connection, run_id, TrainingState.REFUSED, step=Step.VALIDATE, reason="the first")
        ended = read_training_run(connection, run_id)
        assert (ended.state, ended.state_reason) == (TrainingState.REFUSED, "the first")
        assert not change_state(connection, run_id, TrainingState.EXPIRED, step=Step.CLOSE, reason="the second")
        assert read_training_run(connection, run_id) == ended
