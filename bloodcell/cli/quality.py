"""`bloodcell quality`: what holds the results of a night, and a person's override."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
By = Annotated[str | None, typer.Option(help="The person; default: the login name.", show_default=False)]
Reason = Annotated[str, typer.Option(help="The reason, which is kept. Name no patient.", show_default=False)]


@app.callback()
def quality() -> None:
    """Quality control: what holds a night's results (BLOODCELL_QUALITY_FILE), overrides, and external rounds."""


@app.command()
def show() -> None:
    """Print the quality file in use, or the one that comes with bloodcell, to start from."""
    from bloodcell.quality_rules import DEFAULT_QUALITY, read_quality_rules
    from bloodcell.settings import Settings

    path = Settings().quality_file
    read_quality_rules(path)
    typer.echo((path or DEFAULT_QUALITY).read_text(), nl=False)


@app.command(no_args_is_help=True)
def rules(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The quality file, in TOML.", show_default=False)],
) -> None:
    """Check a quality file before it is used. Exit status 1 if it is not valid."""
    from bloodcell.presentation.numbers import counted
    from bloodcell.quality_rules import read_quality_rules

    found = read_quality_rules(file)
    typer.echo(f"{file} is valid: version {found.version!r}, {counted(len(found.controls), 'control')}.")
    typer.echo(f"Next: BLOODCELL_QUALITY_FILE={file.resolve()}")


@app.command(no_args_is_help=True)
def check(
    night: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], metavar="NIGHT", help="The night (YYYY-MM-DD).")],
    json: Json = False,
) -> None:
    """Compare a night with its control slides and with earlier nights, as the nightly run does. Safe to repeat.

    Exit status 1: results are held.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.presentation.numbers import counted
    from bloodcell.quality import control_night
    from bloodcell.settings import Settings

    found = control_night(Settings(), night.date())
    if json:
        print_json(found)
    else:
        typer.echo(f"{found.night}: {counted(found.n_checks, 'check')}.")
        for reason in found.failed:
            typer.echo(f"Held: {reason}")
    raise typer.Exit(1 if found.failed else 0)


@app.command()
def status(json: Json = False) -> None:
    """Show what is held and why, what people overrode, and each figure of the newest night.

    Exit status 1: results are held.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.quality.quality_display import show_quality
    from bloodcell.quality.quality_status import read_quality
    from bloodcell.results.signed_before import n_signed_before
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    database = open_views(Settings())
    found = read_quality(database)
    if json:
        print_json(found)
    else:
        show_quality(found, database.transact(n_signed_before))
    raise typer.Exit(1 if found.failed else 0)


@app.command(no_args_is_help=True)
def override(
    check_id: Annotated[int, typer.Argument(metavar="CHECK", min=1, help="Number of the failed check.")],
    reason: Reason,
) -> None:
    """Release what a failed check holds, as the person whose login Postgres authenticates (BLOODCELL_SIGNING_URL)."""
    from bloodcell.results.overriding import override_check
    from bloodcell.settings import Settings

    override_check(Settings(), check_id, reason)
    typer.echo(
        "Overridden. Next: bloodcell labels inbox counts the slides anew; the Dag import_labels does it by itself."
    )


@app.command()
def restart(
    reason: Reason,
    sentinels: Annotated[
        bool, typer.Option("--sentinels", help="What the next worker computes becomes the reference.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], metavar="NIGHT", help="First night of a new baseline."),
    ] = None,
    analyser: Annotated[
        str | None, typer.Option(help="With --from: the analyser; default: the one without a name.", show_default=False)
    ] = None,
    by: By = None,
) -> None:
    """Start a new baseline after another stain, lamp or camera (--from), or reset the references (--sentinels).

    What is held stays held until a person overrides it.
    """
    from bloodcell.quality.restarting import Restart
    from bloodcell.quality.restarting import restart as begin_anew
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    if sentinels == (since is not None):
        raise typer.BadParameter("say what to reset: --sentinels, or --from NIGHT")
    night = since.date() if since else None
    begin_anew(
        open_database(Settings()),
        Restart("sentinels" if sentinels else "figures", reason, by or getpass.getuser(), analyser, night),
    )
    typer.echo("Recorded. Nights that are held stay held until a person overrides: bloodcell quality status")


@app.command()
def rounds(json: Json = False) -> None:
    """Show the rounds of external quality assessment: until when, who has read what, and the scores."""
    from bloodcell.cli.output import print_json
    from bloodcell.quality.external_rounds import read_rounds
    from bloodcell.quality.quality_display import show_rounds
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    found = read_rounds(open_views(Settings()))
    if json:
        print_json(found)
    else:
        show_rounds(found)


@app.command(no_args_is_help=True)
def targets(
    round_: Annotated[str, typer.Argument(metavar="ROUND", help="Name of the round.", show_default=False)],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with the columns slide, file, label.", show_default=False)
    ],
    by: By = None,
) -> None:
    """Bring in what the organiser of a round says that its cells are, once it is over. Safe to repeat.

    Of a cell, the newest target counts. If a row is wrong, nothing is recorded.
    """
    from bloodcell.presentation.numbers import counted
    from bloodcell.quality.external_rounds import import_targets
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    n_new = import_targets(open_database(Settings()), round_, file, by=by or getpass.getuser())
    typer.echo(f"{counted(n_new, 'new target')}. Next: bloodcell quality rounds")
