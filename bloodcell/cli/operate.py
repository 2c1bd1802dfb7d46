"""`bloodcell demo`, `up`, `watch` and `doctor`: running the whole system on one machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bloodcell.service.airflow_home import AirflowHome
    from bloodcell.service.airflow_records import Approval
    from bloodcell.settings import Settings

Port = Annotated[
    int | None,
    typer.Option(
        min=1024, max=65535, metavar="PORT", help="Port of Airflow's pages; default: the port in BLOODCELL_AIRFLOW_URL."
    ),
]
DeskPort = Annotated[
    int | None,
    typer.Option(
        min=1024, max=65535, metavar="PORT", help="Port of the review desk; default: the port in BLOODCELL_DESK_URL."
    ),
]


def up(
    port: Port = None,
    desk_port: DeskPort = None,
    watch: Annotated[bool, typer.Option(help="Also watch the drops folder.")] = True,
) -> None:
    """Start Postgres, the review desk, Airflow with the Dags, and the watcher; Ctrl-C stops all of them.

    All of them listen on 127.0.0.1 only and keep their files below the data folder (BLOODCELL_DATA_DIR).
    """
    import threading
    from contextlib import suppress

    from bloodcell.report.night_page import summaries_folder
    from bloodcell.review.first_person import way_in
    from bloodcell.service.airflow_home import airflow_home, read_password
    from bloodcell.service.up import running_stack
    from bloodcell.settings import Settings

    settings = _on_port(Settings(), port, desk_port)
    with suppress(KeyboardInterrupt), running_stack(settings, watch=watch, announce=_announce):
        typer.echo(
            f"\nbloodcell is up.\n"
            f"  Desk       {way_in(settings)}\n"
            f"  Airflow    {settings.airflow_url}   user {settings.airflow_user}, "
            f"password {read_password(settings)}\n"
            f"             passwords are in {airflow_home(settings).password_file}\n"
            f"{_approvers_line(airflow_home(settings))}"
            f"  Nights     {settings.drops}/<YYYY-MM-DD>/<slide>/*.jpg\n"
            f"  Summaries  {summaries_folder(settings)}/<YYYY-MM-DD>.html, once a night is classified\n"
            f"  Labels     {settings.labels}\n"
            f"  Database   bloodcell db psql\n"
            f"  Logs       {settings.data_dir / 'logs'}; of tasks: {airflow_home(settings).folder / 'logs'}\n"
            f"Ctrl-C stops everything.\n"
        )
        threading.Event().wait()


def desk(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Listen on this address of the machine, such as 0.0.0.0 in a container."),
    ] = None,
) -> None:
    """Serve the review desk, where people correct and sign results, until Ctrl-C.

    It listens on BLOODCELL_DESK_URL; `bloodcell users add NAME --role reader` lets somebody in. `bloodcell up` runs
    this already; use this command for a desk on another machine. Other machines reach it only through a reverse proxy
    with TLS (BLOODCELL_DESK_PUBLIC_URL).
    """
    from bloodcell.review.serving import serve_desk
    from bloodcell.settings import Settings

    serve_desk(Settings(), host=host)


def watch() -> None:
    """Announce each complete night of the drops folder to Airflow, until Ctrl-C.

    A night is complete when it has the marker `.complete`, or when nothing in it has changed for BLOODCELL_SETTLE_S
    seconds. `bloodcell up` runs this already; use this command for an Airflow elsewhere (BLOODCELL_AIRFLOW_URL). If
    standard output is not a terminal, the messages are JSON, one object per line.
    """
    from bloodcell.service.watch import watch_drops
    from bloodcell.settings import Settings

    watch_drops(Settings(), announce=_announce if sys.stdout.isatty() else _log)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also load TensorFlow and ask it for GPUs (20 s).")] = False,
) -> None:
    """Check everything that bloodcell needs, and say what is wrong and what to do. Exit status 1 if a check fails."""
    from bloodcell.cli.output import print_json
    from bloodcell.service.doctor import examine
    from bloodcell.service.findings import findings_json, findings_table
    from bloodcell.settings import Settings

    findings = examine(Settings(), deep=deep)
    if json:
        print_json(findings_json(findings))
    else:
        from rich.console import Console

        Console().print(findings_table(findings))
    raise typer.Exit(1 if any(finding.status == "fail" for finding in findings) else 0)


def demo(
    port: Port = None,
    desk_port: DeskPort = None,
    stay: Annotated[
        bool | None,
        typer.Option(help="Keep the review desk running at the end, until Ctrl-C; default: if this is a terminal."),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Also label the night, retrain on the labels, approve and promote.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --retrain: approve without asking, for example without a terminal.")
    ] = False,
) -> None:
    """Show the whole system at work: a drawn night, the shipped models, a real Airflow run, differentials in Postgres.

    The demo has its own data folder and does not touch your data. With --retrain the exit status is 1 if the gates
    refused every model, and 3 if the retraining was skipped.
    """
    from bloodcell.settings import Settings

    if yes and not retrain:
        raise typer.BadParameter("--yes approves the retrained model and so needs --retrain")
    if retrain and not yes and not sys.stdin.isatty():
        raise typer.BadParameter("--retrain asks you to approve the model, which needs a terminal; or add --yes")
    settings = _on_port(Settings(), port, desk_port)
    if retrain:
        from bloodcell.cli.output import retraining_status
        from bloodcell.demo.retraining_tour import run_retraining_demo

        state = run_retraining_demo(settings, (lambda question: _APPROVED) if yes else _decision)
        raise typer.Exit(retraining_status(state))
    from bloodcell.demo.tour import run_demo

    run_demo(settings, stay=sys.stdout.isatty() if stay is None else stay)


_APPROVED = (True, "demo: all gates passed")


def _decision(question: Approval) -> tuple[bool, str]:
    """Returns the answer of the person at the terminal."""
    approve = typer.confirm(question.subject)
    return approve, typer.prompt("Why", default=_APPROVED[1] if approve else "demo: not convinced")


def _on_port(settings: Settings, port: int | None, desk_port: int | None) -> Settings:
    from bloodcell.service.airflow_home import HOST

    ports = {"airflow_url": port, "desk_url": desk_port}
    return settings.model_copy(
        update={name: f"http://{HOST}:{number}" for name, number in ports.items() if number is not None}
    )


def _approvers_line(home: AirflowHome) -> str:
    """Returns a line with the approvers and the file of their passwords; empty if there are none."""
    if not home.approvers:
        return ""
    return f"  Approvers  {', '.join(home.approvers)}   their passwords are in {home.password_file}\n"


def _log(line: str) -> None:
    from datetime import UTC, datetime
    from json import dumps

    typer.echo(dumps({"timestamp": datetime.now(UTC).isoformat(), "event": line, "logger": "bloodcell.watch"}))


def _announce(line: str) -> None:
    from datetime import datetime

    typer.echo(f"{datetime.now().astimezone():%H:%M:%S}  {line}")
