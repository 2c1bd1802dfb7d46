"""Retraining: labels become candidates, a person decides, and only a proven model becomes champion.

Thin on purpose, as nightly_run: the work is the library's. What decides stands in the database, not in Airflow: whoever
marks a task successful by hand changes nothing, since `promote` looks at the gates and the answer itself.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, TriggerRule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from task_defaults import TASK_DEFAULTS

from bloodcell.cells.variants import VARIANTS
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)
settings = Settings()

ANSWER = "answer"


@task
def snapshot() -> list[str]:
    """Returns the variants to train on the data set just taken; skipped, with the reason, where there is too little."""
    from bloodcell.retraining import Request, begin_training_run

    context = get_current_context()
    params, dag_run = context["params"], context["dag_run"]
    request = Request(
        requested_by=params["requested_by"] or dag_run.triggering_user_name or "schedule",
        reason=params["reason"],
        variants=tuple(params["variants"] or ()),
        base=params["base"],
        seed=params["seed"],
        epochs=params["epochs"],
        min_new_labels=params["min_new_labels"],
    )
    begun = begin_training_run(settings, request, _training_run_id(), airflow_run=context["run_id"])
    if begun.state == "skipped":
        raise AirflowSkipException(begun.state_reason)
    log.info("Retraining %s on data set %s", begun.training_run_id, begun.dataset_digest)
    return list(begun.variants)


@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=24))
def train(variant: str) -> str:
    """Returns the id of the model trained of one variant; after a kill it goes on where it was."""
    from bloodcell.retraining import train_candidate

    def tell(step: str, done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            log.info("%s: %d of %d", step, done, total)

    return train_candidate(
        settings, _training_run_id(), variant, airflow_run=get_current_context()["run_id"], on_progress=tell
    )


@task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=12))
def validate(models: list[str]) -> dict[str, Any]:
    """Returns the best candidate that passed every gate, if any, and what each was found to be worth, in Markdown."""
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
def gate(validated: dict[str, Any]) -> str:
    """Returns the model to ask a person about; skipped, with the reasons, where the gates refused every candidate."""
    if validated["model_id"] is None:
        raise AirflowSkipException("Refused by the gates: " + " ".join(validated["refusals"].values()))
    return str(validated["model_id"])


class Question(ApprovalOperator):  # type: ignore[misc]  # Airflow is not followed
    """An approval with a reason of its own, whose answer is kept also where it is a no.

    Airflow 3.3.2 fills a Param of the task with the run's value of the same name, so the approver would find the
    requester's reason typed in already; and it ends a rejected task without a result.
    """

    @property
    def serialized_params(self) -> dict[str, dict[str, Any]]:
        """The form below the question: empty, and neither answer can be given before it is filled in."""
        reason = Param(None, type="string", title="Your reason", description="Why yes, or why no; kept for good.")
        return {"reason": reason.serialize()}

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keeps the answer for the tasks below, then goes on as Airflow does."""
        if "error" not in event:
            answer = {name: event[name] for name in ("chosen_options", "params_input", "responded_by_user")}
            context["ti"].xcom_push(key=ANSWER, value=answer | {"responded_at": event["responded_at"].isoformat()})
        return super().execute_complete(context, event)


@task
def promote(model_id: str) -> str:
    """Returns the new champion; the answer, the gates and every byte of the bundle are looked at once more."""
    from bloodcell.retraining import Approval, promote_candidate

    context = get_current_context()
    approval = Approval.of_answer(context["ti"].xcom_pull(task_ids="approve", key=ANSWER))
    promote_candidate(settings, _training_run_id(), model_id, approval, airflow_run=context["run_id"])
    return model_id


# the only leaf: its state is the run's, so it fails where the retraining did
@task(trigger_rule=TriggerRule.ALL_DONE)
def close() -> str:
    """Returns how the retraining ended: promoted, rejected, refused or skipped; fails where it failed or expired."""
    from bloodcell.retraining import Approval, end_training_run

    context = get_current_context()
    ti, run_id = context["ti"], context["run_id"]
    states = ti.get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id]).get(run_id, {})
    failed = sorted(name for name, state in states.items() if state in ("failed", "upstream_failed"))
    approval = Approval.of_answer(ti.xcom_pull(task_ids="approve", key=ANSWER))
    expired = states.get("approve") == "failed" and approval is None
    state = end_training_run(
        settings,
        _training_run_id(),
        approval=approval,
        failed=f"Failed: {', '.join(failed)}; the champion stays. See their logs." if failed else None,
        expired=expired,
    )
    if state in ("failed", "expired", "running"):
        raise AirflowFailException(f"The retraining is {state}; failed tasks: {', '.join(failed) or 'none'}.")
    return state


def _training_run_id() -> uuid.UUID:
    """The same for every task and every try of a Dag run, and no other run's."""
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
            "weekly",
            type="string",
            pattern=r"\S",
            title="Reason",
            description="Why, in your own words: it is kept for whoever reads it years later. "
            "'weekly' is what the schedule says.",
        ),
        "requested_by": Param(
            None,
            type=["null", "string"],
            title="Requested by",
            description="Who asks for it. Empty: the user who is logged in.",
        ),
        "variants": Param(
            [],
            type=["null", "array"],  # null is what the form sends when a choice was taken back
            items={"type": "string", "enum": list(VARIANTS)},
            examples=list(VARIANTS),
            title="Variants",
            description="Which to train. Empty: those that classify now, the champion's and its challengers'.",
        ),
        "min_new_labels": Param(
            settings.retrain_min_new_labels,
            type="integer",
            minimum=0,
            title="Minimum of new labels",
            description="With fewer newly labelled cells it is skipped. 0: train again on the labels of last time.",
        ),
        "base": Param(
            "imagenet",
            type="string",
            enum=["imagenet", "champion", "random"],
            values_display={
                "imagenet": "imagenet: weights learnt on everyday photographs",
                "champion": "champion: the serving model of each variant",
                "random": "random: small and untaught, for demonstrations only",
            },
            title="Base",
            description="Weights that training begins with.",
        ),
        "epochs": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=1000,
            title="Epochs",
            description="At most so many in each stage of a fine-tuning; an SVM has none. Empty: as the recipe says.",
        ),
        "seed": Param(
            0,
            type="integer",
            minimum=0,
            title="Seed",
            description="Of everything random. Another seed shows how much of a result is chance.",
        ),
    },
    doc_md="""
### Retraining

1. **snapshot**: the labels that stand now become a data set that never changes.
2. **train**: each variant is trained on it.
3. **validate**: candidates, champion and challengers are judged on the same held-back patients.
4. **gate**: the best candidate goes on if it passed every gate.
5. **approve**: a person is asked, under **Required Actions**.
6. **promote**: after a yes the candidate is champion.

#### When

By itself at `BLOODCELL_RETRAIN_CRON` (UTC), where at least `BLOODCELL_RETRAIN_MIN_NEW_LABELS` cells were labelled since
the last time; by hand with **Trigger**. A run that is skipped says why in the log of its first task, and in the view
`retraining`.

#### What is certain

- **Nothing but a person's answer promotes a model.** A rejection, no answer within
  `BLOODCELL_APPROVAL_TIMEOUT_H` hours, a failure, a task marked successful by hand: the champion stays.
- Of two retrainings at once only the first that is approved promotes.
- **Doing it again is safe.** Clear the failed task: training goes on where it was, and ends with the same model.
- The view `retraining` of the database keeps every run: who asked, the figures, the gates, who answered.
""",
)
def retrain() -> None:
    """Take a snapshot, train, validate, ask a person, promote."""
    variants = snapshot()
    models = train.expand(variant=variants)
    validated = validate(models)
    chosen = gate(validated)
    approve = Question(
        task_id="approve",
        subject="Make model {{ ti.xcom_pull(task_ids='gate')[:12] }} champion?",
        body="{{ ti.xcom_pull(task_ids='validate')['summary'] }}\n\n"
        "Who may answer: {{ task.assigned_users | map(attribute='name') | join(', ') }}.",
        assigned_users=[{"id": name, "name": name} for name in settings.approver_names],
        response_timeout=timedelta(hours=settings.approval_timeout_h),
        retries=0,
        retry_policy=None,
    )
    promoted = promote(chosen)
    chosen >> approve >> promoted
    # not below approve itself: a rejection skips what is directly below it
    [variants, models, validated, chosen, promoted] >> close()


retrain()
