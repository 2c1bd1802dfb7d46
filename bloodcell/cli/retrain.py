"""`bloodcell retrain` and `approve`: starting a retraining, and approving the model that it trained."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bloodcell.cells.variants import VARIANTS
from bloodcell.presentation.progress import changing_bar

if TYPE_CHECKING:
    from bloodcell.retraining import TrainingRun
    from bloodcell.service.airflow_api import AirflowApi
    from bloodcell.service.airflow_records import Approval, RunState
    from bloodcell.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def _refuse_unknown(variants: list[str] | None) -> list[str] | None:
    if unknown := sorted(set(variants or ()) - set(VARIANTS)):
        raise typer.BadParameter(f"expected one of {', '.join(VARIANTS)}; received {', '.join(unknown)}")
    return variants


def retrain(
    reason: Annotated[str, typer.Option(help="The reason, which is kept permanently.", show_default=False)],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            callback=_refuse_unknown,
            metavar="VARIANT",
            help="Variant to train; may be repeated. Default: the champion's and its challengers'.",
        ),
    ] = None,
    min_new_labels: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Skip the retraining if fewer cells are newly labelled; default: BLOODCELL_RETRAIN_MIN_NEW_LABELS.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Largest number of epochs in each stage; default: the recipe's.")
    ] = None,
    base: Annotated[
        Literal["champion", "imagenet", "site"] | None,
        typer.Option(
            help="Where training begins; site: only the last layers of the serving models are fitted, to few labels. "
            "Default: the Dag's.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.", show_default=False)] = None,
    by: Annotated[
        str | None, typer.Option(help="The person who requests it; default: the login name.", show_default=False)
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show progress until the run waits for an approval or ends.")
    ] = False,
    json: Json = False,
) -> None:
    """Start a retraining in Airflow: it trains candidates on the labels, validates them and waits for an approval.

    Options that are not given take the defaults of the Dag's form. This command promotes no model: a candidate has to
    pass the gates, and one of BLOODCELL_APPROVERS has to approve it with `bloodcell approve` or on Airflow's page. With
    --wait the exit status is 1 if the run failed or the gates refused every candidate, and 3 if the run was skipped
    because there are too few new labels; how it ended is read from the database.
    """
    from bloodcell.cli.output import retraining_status
    from bloodcell.service.airflow_api import PATIENCE_S, RETRAIN, AirflowApi
    from bloodcell.settings import Settings

    request = {
        "reason": reason,
        "requested_by": by or getpass.getuser(),
        "variants": variant or None,
        "min_new_labels": min_new_labels,
        "epochs": epochs,
        "base": base,
        "seed": seed,
    }
    settings = Settings()
    with AirflowApi(settings, patience_s=PATIENCE_S) as api:
        run_id = api.trigger(RETRAIN, conf={name: value for name, value in request.items() if value is not None})
        typer.echo(f"Retraining {run_id} was started: {api.run_page(RETRAIN, run_id)}", err=True)
        state = _wait_for_run(api, run_id) if wait else api.run_state(RETRAIN, run_id)
        question = api.approval(RETRAIN, run_id, _TASK) if state.waits_for_a_person else None
        ended = _ended(settings, run_id) if state.ended else None
        if json:
            _print_run(api, state, question, ended)
        else:
            _show_run(api, state, question, ended)
    raise typer.Exit(1 if state.state == "failed" else retraining_status(ended.state) if ended else 0)


def approve(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="The waiting run of the Dag retrain.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="The reason, which is kept permanently.", show_default=False)],
    reject: Annotated[bool, typer.Option("--reject", help="Reject the model: the champion stays.")] = False,
    json: Json = False,
) -> None:
    """Approve the model that a retraining trained, as the user BLOODCELL_AIRFLOW_USER; it becomes champion at once.

    Read the report of its validation first: `bloodcell retrain --wait` and Airflow's page of the run say where it is.
    Only the users in BLOODCELL_APPROVERS may answer. An answer is kept permanently and cannot be changed.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.errors import ConfigurationError
    from bloodcell.service.airflow_api import PATIENCE_S, RETRAIN, AirflowApi
    from bloodcell.settings import Settings

    if not reason.strip():
        raise ConfigurationError("An answer needs a reason, because it is kept permanently. Next: --reason R")
    with AirflowApi(Settings(), patience_s=PATIENCE_S) as api:
        answer = api.answer_approval(RETRAIN, run_id, _TASK, approve=not reject, reason=reason)
    if json:
        print_json({"run_id": run_id, "answer": answer.chosen, "by": answer.by, "at": answer.at, "reason": reason})
    elif reject:
        typer.echo(f"Rejected by {answer.by}: the champion stays.")
    else:
        typer.echo(f"Approved by {answer.by}. Next: bloodcell models list")


_TASK = "approve"


def _wait_for_run(api: AirflowApi, run_id: str) -> RunState:
    import math

    from bloodcell.service.airflow_api import RETRAIN

    with changing_bar("queued") as show:
        return api.wait(
            RETRAIN,
            run_id,
            timeout_s=math.inf,
            on_progress=lambda run: show(", ".join(run.tasks_at_work) or run.state, run.n_tasks_ended, len(run.tasks)),
            for_a_person=False,
        )


def _ended(settings: Settings, run_id: str) -> TrainingRun | None:
    """Returns how a retraining ended; None, with a warning, if the database cannot be asked from here."""
    from bloodcell.errors import BloodcellError
    from bloodcell.retraining import training_run_of

    try:
        return training_run_of(settings, run_id)
    except BloodcellError as error:
        typer.echo(f"How it ended is not known here: {error}", err=True)
        return None


def _print_run(api: AirflowApi, state: RunState, question: Approval | None, ended: TrainingRun | None) -> None:
    from bloodcell.cli.output import print_json
    from bloodcell.service.airflow_api import RETRAIN

    print_json(
        {
            "run_id": state.run_id,
            "page": api.run_page(RETRAIN, state.run_id),
            "state": state.state,
            "outcome": ended.state if ended else None,
            "reason": ended.state_reason if ended else None,
            "tasks": [{"task": t.task_id, "map_index": t.map_index, "state": t.state} for t in state.tasks],
            "waits_for": list(question.assigned) if question else [],
            "question": question.subject if question else None,
        }
    )


def _show_run(api: AirflowApi, state: RunState, question: Approval | None, ended: TrainingRun | None) -> None:
    from bloodcell.service.airflow_api import RETRAIN

    page = api.run_page(RETRAIN, state.run_id)
    if question:
        typer.echo(
            f"{question.subject}\n\n{question.body}\n\n"
            f"It waits for the answer of {' or '.join(question.assigned) or 'a user whose role allows it'}:\n"
            f"  on the page   {page} (Required Actions)\n"
            f"  or here       BLOODCELL_AIRFLOW_USER=<user> bloodcell approve '{state.run_id}' --reason R"
        )
    elif state.ended:
        failed = ", ".join(dict.fromkeys(task.task_id for task in state.tasks if task.state == "failed"))
        outcome = f"failed in {failed}" if failed else f"{ended.state}: {ended.state_reason}" if ended else state.state
        typer.echo(f"Retraining {state.run_id} ended. {outcome}\n{page}")
        typer.echo('Next: bloodcell db psql -c "TABLE bloodcell.retraining"')
    else:
        typer.echo(state.run_id)
