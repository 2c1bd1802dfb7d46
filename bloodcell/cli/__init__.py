"""The command line: one module per group of commands.

    operate       demo, up, desk, watch, doctor
    stages        ingest, classify, train
    differential  differential, report
    results       nights, slides, result, sign
    rules         rules show, check
    withdraw      withdraw
    evaluate      evaluate
    labels        labels import, inbox, export, status
    retrain       retrain, approve
    site          site calibrate, report
    models        models list, show, register, validate, compare, promote, rollback, verify, check, speed
    database      db upgrade, status, url, queries, psql
    store         store verify
    drop          drop make
    erasure       clean, erase
    export        export
    quality       quality status, check, override, restart, show, rules
    exchange      exchange status, send, listen, replay, skip, remove, example
    users         users add, list, password, roles, remove
    output        how these commands show records

Each command imports what it needs when it runs, so that `bloodcell --help` stays quick. Exit status: 0 the work was
done; 1 it failed, was refused, or found data that it could not accept; 2 wrong usage or a wrong setting; 3 there was
nothing to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from bloodcell.cli import (
    database,
    differential,
    drop,
    erasure,
    evaluate,
    exchange,
    export,
    labels,
    models,
    operate,
    quality,
    results,
    retrain,
    rules,
    site,
    stages,
    store,
    users,
    withdraw,
)
from bloodcell.errors import BloodcellError, SettingError
from bloodcell.storage.private_files import keep_private

__all__ = ["app", "main"]

app = typer.Typer(
    name="bloodcell",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are environment variables (BLOODCELL_...), described in the documentation that `make docs` builds."
    " To try bloodcell: bloodcell demo",
)


def _version(is_given: bool) -> None:
    if is_given:
        from bloodcell.storage.runs import code_version

        typer.echo(code_version())
        raise typer.Exit


@app.callback()
def bloodcell(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Classify a night's blood cell images into differentials in Postgres."""


_GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "The whole system": (operate.demo, operate.up, operate.desk, operate.watch, operate.doctor),
    "A night, step by step": (stages.ingest, stages.classify, differential.differential, differential.report),
    "Results": (results.nights, results.slides, results.result, results.sign, export.export, withdraw.withdraw),
    "Labels and retraining": (retrain.retrain, retrain.approve),
    "Models": (stages.train, evaluate.evaluate),
    "Data": (erasure.clean, erasure.erase),
}
_NEED_ARGUMENTS = (
    differential.differential, differential.report, results.result, results.sign, export.export, withdraw.withdraw,
    retrain.retrain, retrain.approve, erasure.erase,
)  # fmt: skip
for panel, commands in _GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=panel, no_args_is_help=command in _NEED_ARGUMENTS)(command)
app.add_typer(rules.app, name="rules", rich_help_panel="Results")
app.add_typer(users.app, name="users", rich_help_panel="Results")
app.add_typer(quality.app, name="quality", rich_help_panel="Results")
app.add_typer(exchange.app, name="exchange", rich_help_panel="Results")
app.add_typer(labels.app, name="labels", rich_help_panel="Labels and retraining")
app.add_typer(site.app, name="site", rich_help_panel="Models")
app.add_typer(models.app, name="models", rich_help_panel="Models")
app.add_typer(database.app, name="db", rich_help_panel="Data")
app.add_typer(store.app, name="store", rich_help_panel="Data")
app.add_typer(drop.app, name="drop", rich_help_panel="Data")


def main() -> None:
    """Runs the command line; an error that bloodcell raises on purpose becomes one message and exit status 1.

    A wrong setting counts as wrong usage: exit status 2. All files are written for this user only.
    """
    keep_private()
    try:
        app()
    except BloodcellError as error:
        typer.secho(f"{type(error).__name__}: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2 if isinstance(error, SettingError) else 1)
