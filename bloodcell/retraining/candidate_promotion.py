"""An approved candidate becomes champion, after its gates, the person's answer and the lockbox have been checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bloodcell.errors import ConfigurationError, PromotionRefusedError
from bloodcell.registry.promotion import lock_promotions, promote, require_reason
from bloodcell.registry.promotion_proof import newest_validation, require_gates, require_proof, validation_of
from bloodcell.registry.registered_models import champion, find_model
from bloodcell.retraining.approval import newest_answer, require_approval
from bloodcell.retraining.lockbox import open_lockbox
from bloodcell.retraining.states import Step, TrainingState, change_state
from bloodcell.retraining.training_runs import read_training_run
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    import uuid

    import sqlalchemy as sa

    from bloodcell.registry.promotion_proof import StoredValidation
    from bloodcell.retraining.approval import Approval
    from bloodcell.retraining.lockbox import LockboxResult
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database


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
            lockbox contradicts the gates (the retraining then ends as refused), the retraining was decided otherwise,
            or another model has become champion since the retraining began: of two retrainings at once, only one
            promotes.
        BundleError: The candidate's bundle was altered after the approval.
    """
    database, store = open_database(settings), Store.of(settings)
    with recorded_run(database, "promote", airflow_run=airflow_run) as run:
        run.detail = {"training_run_id": str(training_run_id)}
        approved = database.transact(lambda c: _approved(c, settings, training_run_id))
        if isinstance(approved, str):
            return approved
        run.detail["model_id"] = approved.model_id
        # outside the transaction that promotes: models run over images here
        contents = _opened(settings, database, training_run_id, approved, airflow_run)

        def work(connection: sa.Connection) -> str:
            lock_promotions(connection)
            again = _approved(connection, settings, training_run_id)
            if isinstance(again, str):
                return again
            if again != approved:
                raise PromotionRefusedError(
                    f"Retraining {training_run_id} was asked about another candidate meanwhile; nothing was changed. "
                    "Next: clear the task promote"
                )
            validation, answer, model_id = approved.validation, approved.answer, approved.model_id
            evidence = {
                "training_run_id": str(training_run_id),
                "dataset_digest": validation.dataset_digest,
                "validation_id": str(validation.validation_id),
                "gates": [gate.to_json() for gate in validation.gates],
                "approval": asdict(answer),
                "report": validation.report,
                "lockbox": contents.reason if contents else None,
            }
            promote(
                connection,
                store,
                model_id,
                by=answer.by,
                reason=answer.reason,
                evidence=evidence,
                replaces=approved.champion_id,
            )
            reason = f"model {model_id[:12]} is champion: {answer.reason}"
            if not change_state(
                connection, training_run_id, TrainingState.PROMOTED, step=Step.PROMOTE, reason=reason, approval=answer
            ):
                retraining = read_training_run(connection, training_run_id)
                raise PromotionRefusedError(
                    f"Retraining {training_run_id} has ended: {retraining.state} ({retraining.state_reason}); nothing "
                    "was changed. Next: trigger another one"
                )
            return model_id

        return database.transact(work)


def promote_by_hand(settings: Settings, model: str, *, by: str, reason: str) -> str:
    """Returns the id of a registered model, after opening the lockbox for it and making it champion.

    Args:
        settings: Where everything is kept.
        model: Id of the model, or its first characters.
        by: Who decides.
        reason: Why.

    Raises:
        UnknownRecordError: There is no such model.
        ConfigurationError: No reason was given, or the model is champion already.
        PromotionRefusedError: It has not proved itself (`bloodcell.registry.promotion_proof.require_proof`).
        BundleError: A bundle is missing, incomplete or altered.
    """
    database, store = open_database(settings), Store.of(settings)
    require_reason(reason)

    def read(connection: sa.Connection) -> tuple[str, StoredValidation | None]:
        found, present = find_model(connection, model), champion(connection)
        if found.model_id == present:
            raise ConfigurationError(f"Model {found.model_id[:12]} is champion already; nothing was changed.")
        validation = newest_validation(connection, found.model_id)
        require_proof(connection, found, present)
        return found.model_id, validation

    model_id, validation = database.transact(read)
    contents = None
    if validation is not None:
        contents = open_lockbox(
            settings, model_id, champion_id=validation.champion_id, dataset_digest=validation.dataset_digest
        )
    evidence = {"lockbox": contents.reason} if contents else {}
    database.transact(lambda c: promote(c, store, model_id, by=by, reason=reason, evidence=evidence))
    return model_id


@dataclass(frozen=True, slots=True)
class _Approved:
    """A candidate that a person approved, and what the approval rests on."""

    model_id: str
    champion_id: str | None
    validation: StoredValidation
    answer: Approval


def _approved(connection: sa.Connection, settings: Settings, training_run_id: uuid.UUID) -> _Approved | str:
    """Returns the approved candidate of a retraining; only its id if it was promoted already."""
    retraining = read_training_run(connection, training_run_id)
    model_id, approval = newest_answer(connection, training_run_id)
    if retraining.state is TrainingState.PROMOTED and model_id is not None:
        return model_id
    answer = require_approval(approval, settings)
    validation = validation_of(connection, training_run_id, model_id) if model_id else None
    if model_id is None or validation is None:
        raise PromotionRefusedError(f"Retraining {training_run_id} has no validated candidate; nothing was changed.")
    require_gates(validation)
    return _Approved(model_id, retraining.champion_id, validation, answer)


def _opened(
    settings: Settings,
    database: Database,
    training_run_id: uuid.UUID,
    approved: _Approved,
    airflow_run: str | None,
) -> LockboxResult | None:
    """Opens the lockbox; a candidate that it contradicts ends the retraining."""
    contents = open_lockbox(
        settings,
        approved.model_id,
        champion_id=approved.champion_id,
        dataset_digest=approved.validation.dataset_digest,
        airflow_run=airflow_run,
    )
    if contents is not None and not contents.passed:
        refused = TrainingState.REFUSED
        database.transact(
            lambda c: change_state(c, training_run_id, refused, step=Step.PROMOTE, reason=contents.reason)
        )
        raise PromotionRefusedError(f"Model {approved.model_id[:12]} is refused by the lockbox: {contents.reason}")
    return contents
