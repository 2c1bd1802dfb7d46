"""An approved candidate becomes champion, after its gates and the person's answer have been checked again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bloodcell.errors import PromotionRefusedError
from bloodcell.registry.promotion import lock_promotions, promote
from bloodcell.registry.promotion_proof import require_gates, validation_of
from bloodcell.retraining.approval import require_approval
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.retraining.training_runs import read_training_run
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    import uuid

    import sqlalchemy as sa

    from bloodcell.retraining.approval import Approval
    from bloodcell.settings import Settings


def promote_candidate(
    settings: Settings,
    training_run_id: uuid.UUID,
    model_id: str,
    approval: Approval | None,
    *,
    airflow_run: str | None = None,
) -> None:
    """Makes a retraining's candidate champion, and records the answer and the evidence.

    A call for a retraining that has already promoted its candidate changes nothing.

    Args:
        settings: Where everything is kept.
        training_run_id: The retraining.
        model_id: Its candidate.
        approval: A person's answer; None if there is none.
        airflow_run: Id of the Dag run that this belongs to.

    Raises:
        PromotionRefusedError: Nobody approved, the person may not approve, the answer has no reason, a gate failed,
            or another model has become champion since the retraining began: of two retrainings at once, only one
            promotes.
        BundleError: The candidate's bundle was altered after the approval.
    """
    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "promote", airflow_run=airflow_run) as run:
        run.detail = {"training_run_id": str(training_run_id), "model_id": model_id}

        def work(connection: sa.Connection) -> None:
            lock_promotions(connection)
            retraining = read_training_run(connection, training_run_id)
            if retraining.state is TrainingState.PROMOTED:
                return
            answer = require_approval(approval, settings)
            validation = validation_of(connection, training_run_id, model_id)
            if validation is None:
                raise PromotionRefusedError(
                    f"Model {model_id[:12]} was not validated in retraining {training_run_id}; nothing was changed."
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
            change_state(
                connection, training_run_id, TrainingState.PROMOTED, step=Step.PROMOTE, reason=reason, approval=answer
            )

        database.transact(work)
