"""Retraining: labels become candidates, a person decides, and only a proven model becomes champion.

This file only says when the stages run, in which order, on which queue and pool, and who is asked. The library does the
work. Marking a task successful by hand, or writing an XCom, promotes nothing: `promote` reads from the database which
candidate a person was asked about, what they answered, and whether it passed the gates.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.cells.variants import VARIANTS
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)
settings = Settings()


@task
def snapshot() -> list[str]:
    """Returns the variants to train on the new data set; skipped, with the reason, if there are too few labels."""
    from bloodcell.retraining import Request, TrainingState, begin_training_run

    context = get_current_context()
    refuse_unknown_params(context)
    params, dag_run = context["params"], context["dag_run"]
    request = Request(
        requested_by=params["requested_by"] or dag_run.triggering_user_name or "schedule",
        reason=params["reason"] or ("weekly" if dag_run.run_type == "scheduled" else ""),
        variants=tuple(params["variants"] or ()),
        base=params["base"],
        seed=params["seed"],
        epochs=params["epochs"],
        min_new_labels=params["min_new_labels"],
        triggered_by=dag_run.triggering_user_name,
    )
    begun = begin_training_run(settings, request, _training_run_id(), airflow_run=context["run_id"])
    if begun.state is TrainingState.SKIPPED:
        raise AirflowSkipException(begun.state_reason)
    log.info("Retraining %s on data set %s", begun.training_run_id, begun.dataset_digest)
    return list(begun.variants)


@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=24))
def train(variant: str) -> str:
    """Returns the id of the model trained for one variant; after a kill it resumes from the last checkpoint."""
    from bloodcell.retraining import train_candidate

    def log_progress(step: str, done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            log.info("%s: %d of %d", step, done, total)

    return train_candidate(
        settings, _training_run_id(), variant, airflow_run=get_current_context()["run_id"], on_progress=log_progress
    )


@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=12))
def validate(models: list[str]) -> dict[str, Any]:
    """Returns the best candidate if it passed every gate, its summary in Markdown, and every refusal and page."""
    from bloodcell.retraining import validate_candidates

    judged = validate_candidates(settings, _training_run_id(), airflow_run=get_current_context()["run_id"])
    for each in judged:
        log.info("%s %s %s\n%s", each.variant, each.model_id, each.refusal or "passed every gate", each.summary)
    return {
        "model_id": judged[0].model_id if judged[0].passed else None,
        "summary": judged[0].summary,
        "refusals": {each.model_id: each.refusal for each in judged if not each.passed},
        "reports": {each.model_id: each.report for each in judged},
    }


@task
def gate() -> str:
    """Returns the retraining's state, from the database; skipped, with the reasons, if every candidate was refused."""
    from bloodcell.retraining import TrainingState, training_run_of

    retraining = training_run_of(settings, get_current_context()["run_id"])
    if retraining and retraining.state is TrainingState.REFUSED:
        raise AirflowSkipException(f"Refused by the gates: {retraining.state_reason}")
    return retraining.state.value if retraining else "unknown"


class Question(ApprovalOperator):  # type: ignore[misc]  # Airflow is not followed
    """An approval that is recorded in the database: what is asked, who answered, and why.

    The answer that Airflow hands to this task names the login that Airflow authenticated. It is recorded here, because
    users who may not approve can write the XComs through which it would otherwise reach the next task.

    Airflow 3.3.2 fills a Param of the task with the run's value of the same name, so the approver would find the
    requester's reason filled in: the form has a Param of its own.
    """

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """The form below the question: it is empty, and no answer can be given until it is filled in."""
        reason = Param(
            None, type="string", title="Your reason", description="Why you approve or reject; kept for good."
        )
        return {"reason": reason.serialize()}

    def execute(self, context: Context) -> Any:
        """Asks about the candidate that the database says is best, then waits as Airflow does."""
        from bloodcell.retraining import ask_for_approval

        asked = ask_for_approval(settings, _training_run_id(), context["ti"].id)
        self.subject, self.body = asked.subject, asked.body
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Records the answer, then continues as Airflow does."""
        from bloodcell.retraining import record_answer

        if "error" not in event:
            record_answer(settings, context["ti"].id, event)
        return super().execute_complete(context, event)


@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=2))
def promote() -> str:
    """Returns the new champion; the answer, the gates, the lockbox and every byte of its bundle are checked."""
    from bloodcell.retraining import promote_candidate

    return promote_candidate(settings, _training_run_id(), airflow_run=get_current_context()["run_id"])


# the only leaf: its state is the run's state, so it fails if the retraining did
@task(trigger_rule=TriggerRule.ALL_DONE)
def close() -> str:
    """Returns how the retraining ended: promoted, rejected, refused or skipped; fails if it failed or expired."""
    from bloodcell.retraining import ENDED_WELL, end_training_run, training_run_of

    context = get_current_context()
    ti, run_id = context["ti"], context["run_id"]
    states = ti.get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id]).get(run_id, {})
    failed = sorted(name for name, state in states.items() if state in ("failed", "upstream_failed"))
    if training_run_of(settings, run_id) is None:
        outcome = "failed: it was not begun; the log of the task snapshot says why."
        add_run_note(settings, context, outcome)
        raise AirflowFailException(f"The retraining {outcome}")
    state = end_training_run(
        settings,
        _training_run_id(),
        failed=f"Failed: {', '.join(failed)}; the champion stays. See their logs." if failed else None,
        unanswered=states.get("approve") == "failed",
    )
    ended = training_run_of(settings, run_id)
    add_run_note(settings, context, f"{state.value}: {ended.state_reason if ended else ''}")
    if state not in ENDED_WELL:
        raise AirflowFailException(f"The retraining is {state}; failed tasks: {', '.join(failed) or 'none'}.")
    return state.value


def _training_run_id() -> uuid.UUID:
    """Returns an id that all tasks and tries of a Dag run share, and that no other run has."""
    context = get_current_context()
    return uuid.uuid5(uuid.NAMESPACE_URL, f"airflow:{context['dag_run'].dag_id}/{context['run_id']}")


@dag(
    schedule=settings.retrain_cron or None,
    catchup=False,
    max_active_runs=2,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args=TASK_DEFAULTS,
    params={
        "reason": Param(
            None,
            type=["null", "string"],
            pattern=r"\S",
            title="Reason",
            description="Why, in your own words; it is kept for anyone who reads it years later. A run that a person "
            "triggers needs one; scheduled runs have 'weekly'.",
        ),
        "requested_by": Param(
            None,
            type=["null", "string"],
            title="Requested by",
            description="Who requests it. Empty: the user who is logged in.",
        ),
        "variants": Param(
            [],
            type=["null", "array"],  # the form sends null after a choice has been removed
            items={"type": "string", "enum": list(VARIANTS)},
            examples=list(VARIANTS),
            title="Variants",
            description="Which variants to train. Empty: those of the champion and its challengers.",
        ),
        "min_new_labels": Param(
            settings.retrain_min_new_labels,
            type="integer",
            minimum=0,
            title="Minimum number of new labels",
            description="With fewer newly labelled cells the run is skipped. 0: train again on the same labels.",
        ),
        "base": Param(
            "imagenet",
            type="string",
            enum=["imagenet", "champion", "site"],
            values_display={
                "imagenet": "imagenet: weights trained on everyday photographs",
                "champion": "champion: warm start from the serving model of each variant",
                "site": "site: the networks stay, only their last layers are fitted to the labels of this laboratory",
            },
            title="Base",
            description="Where training begins. 'site' needs only some 25 labels of each class, and takes minutes.",
        ),
        "epochs": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=1000,
            title="Epochs",
            description="Maximum number of epochs of each fine-tuning stage; an SVM has none. Empty: the recipe's.",
        ),
        "seed": Param(
            0,
            type="integer",
            minimum=0,
            title="Seed",
            description="Seed of everything random. Another seed shows how much of a result is chance.",
        ),
    },
    doc_md="""
### Retraining

1. **snapshot**: the current labels become a data set that never changes.
2. **train**: each variant is trained on it.
3. **validate**: candidates, champion and challengers are evaluated on the same hold-out patients.
4. **gate**: the best candidate continues if it passed every gate.
5. **approve**: a person is asked, under **Required Actions**.
6. **promote**: if the person approves, and the lockbox (cells that have judged no model yet) does not contradict the
   gates, the candidate becomes champion.

#### When

At `BLOODCELL_RETRAIN_CRON` (UTC), if at least `BLOODCELL_RETRAIN_MIN_NEW_LABELS` cells have been labelled since the
last retraining, or by hand with **Trigger**. A run that was skipped or refused is green, because nothing has to be
repaired; its note says how it ended and why, and so does the view `retraining`.

#### Guarantees

- **Only a person's approval promotes a model.** After a rejection, a failure, no answer within
  `BLOODCELL_APPROVAL_TIMEOUT_H` hours, or a task marked successful by hand, the champion stays.
- If two retrainings run at once, only the first to be approved promotes its candidate.
- **Doing it again is safe.** Clear the failed task: training resumes from its last checkpoint, and ends with the same
  model.
- The view `retraining` of the database has every run: who requested it, the figures, the gates, and who decided.
""",
)
def retrain() -> None:
    """Take a snapshot, train, validate, ask a person, promote."""
    variants = snapshot()
    models = train.expand(variant=variants)
    validated = validate(models)
    chosen = gate()
    approve = Question(
        task_id="approve",
        subject="Make the candidate champion?",  # execute() says which
        assigned_users=[{"id": name, "name": name} for name in settings.approver_names],
        response_timeout=timedelta(hours=settings.approval_timeout_h),
        retries=0,
        retry_policy=None,
    )
    promoted = promote()
    validated >> chosen >> approve >> promoted
    # not below approve itself: a rejection skips the tasks directly below it
    [variants, models, validated, chosen, promoted] >> close()


retrain()
