"""An approved candidate becomes champion, after its gates and the person's answer have been checked again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bloodcell.errors import PromotionRefusedError
from bloodcell.registry.promotion import lock_promotions, promote
from bloodcell.registry.promotion_proof import require_gates, validation_of
from bloodcell.retraining.approval import newest_answer, require_approval
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.retraining.training_runs import read_training_run
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    import uuid

    import sqlalchemy as sa

    from bloodcell.settings import Settings


def promote_candidate(settings: Settings, training_run_id: uuid.UUID, *, airflow_run: str | None = None) -> str:
    """Returns the candidate that a person approved, after making it champion and recording answer and evidence.

    The candidate and the answer are those of the retraining's newest question. A call for a retraining that has already
    promoted its candidate changes nothing.

    Args:
        settings: Where everything is kept.
        training_run_id: The retraining.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        PromotionRefusedError: Nobody approved, the person may not approve, the answer has no reason, a gate failed, the
            retraining was decided otherwise, or another model has become champion since the retraining began: of two
            retrainings at once, only one promotes.
        BundleError: The candidate's bundle was altered after the approval.
    """
    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "promote", airflow_run=airflow_run) as run:
        run.detail = {"training_run_id": str(training_run_id)}

        def work(connection: sa.Connection) -> str:
            lock_promotions(connection)
            retraining = read_training_run(connection, training_run_id)
            model_id, approval = newest_answer(connection, training_run_id)
            run.detail["model_id"] = model_id
            if retraining.state is TrainingState.PROMOTED and model_id is not None:
                return model_id
            answer = require_approval(approval, settings)
            validation = validation_of(connection, training_run_id, model_id) if model_id else None
            if model_id is None or validation is None:
                raise PromotionRefusedError(
                    f"Retraining {training_run_id} has no validated candidate; nothing was changed."
                )
            require_gates(validation)
            evidence = {
                "training_run_id": str(training_run_id),
                "dataset_digest": validation.dataset_digest,
                "validation_id": str(validation.validation_id),
                "gates": [gate.to_json() for gate in validation.gates],
                "approval": asdict(answer),
                "report": validation.report,
            }
            promote(
                connection,
                store,
                model_id,
                by=answer.by,
                reason=answer.reason,
                evidence=evidence,
                replaces=retraining.champion_id,
            )
            reason = f"model {model_id[:12]} is champion: {answer.reason}"
            if not change_state(
                connection, training_run_id, TrainingState.PROMOTED, step=Step.PROMOTE, reason=reason, approval=answer
            ):
                raise PromotionRefusedError(
                    f"Retraining {training_run_id} has ended: {retraining.state} ({retraining.state_reason}); nothing "
                    "was changed. Next: trigger another one"
                )
            return model_id

        return database.transact(work)
