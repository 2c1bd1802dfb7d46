"""`bloodcell withdraw`: a slide that was delivered under a wrong barcode."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bloodcell.ingest.slide_record import SlideRecord
    from bloodcell.withdrawal import Withdrawal


def withdraw(
    slide: Annotated[str, typer.Argument(metavar="SLIDE", help="Barcode that the slide has.", show_default=False)],
    reason: Annotated[
        str, typer.Option(help="The reason, which is kept permanently. Name no patient.", show_default=False)
    ],
    renamed_to: Annotated[
        str | None, typer.Option(metavar="BARCODE", help="The right barcode, if it is known.", show_default=False)
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The right slide.json, with the order and the patient of the right barcode.",
            show_default=False,
        ),
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap", help="Exchange the barcodes of the two slides: both have cells.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back the last withdrawal or renaming of the slide.")
    ] = False,
    night: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Which slide, if several had the barcode.", show_default=False),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="The person who asks for it; default: the login name.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking, for example without a terminal.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Withdraw a slide that was delivered under a wrong barcode, or give its cells the right one.

    Nothing is reported for a withdrawn slide, and its cells are not used for training. What was reported until then
    stays readable, marked as withdrawn. Who did it, when, for whom and why is kept permanently. Exit status 3: it had
    been done already.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.errors import AlreadyDoneError
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.withdrawal import WithdrawalRequest, plan_withdrawal, withdraw_slide

    if not yes and (json or not sys.stdin.isatty()):
        raise typer.BadParameter("it asks before it changes anything, which needs a terminal; or add --yes")
    request = WithdrawalRequest(
        barcode=slide,
        reason=reason,
        requested_by=by or getpass.getuser(),
        renamed_to=renamed_to,
        record=_record(record, renamed_to or slide) if record else None,
        swap=swap,
        undo=undo,
        night=night.date() if night else None,
    )
    settings = Settings()
    try:
        if not yes:
            _show(plan_withdrawal(open_database(settings), request))
            typer.confirm("Do this?", abort=True)
        done = withdraw_slide(settings, request)
    except AlreadyDoneError as error:
        if json:
            print_json({"done": False, "reason": str(error)})
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(NOTHING_TO_DO) from None
    if json:
        print_json({"done": True, "changes": done.changes, "reported": done.reported})
    else:
        _show_done(done)


def _record(file: Path, barcode: str) -> SlideRecord:
    from bloodcell.errors import ConfigurationError, UnusableFileError
    from bloodcell.ingest.slide_record import MAX_RECORD_BYTES, parse_slide_record

    try:
        with file.open("rb") as opened:
            return parse_slide_record(opened.read(MAX_RECORD_BYTES + 1), barcode)
    except (OSError, UnusableFileError) as error:
        raise ConfigurationError(f"--record {file}: {error}") from error


def _show(planned: Withdrawal) -> None:
    """Shows what is about to happen."""
    from rich.console import Console

    from bloodcell.presentation.numbers import count, moment
    from bloodcell.presentation.tables import plain_table
    from bloodcell.visible_text import visible

    table = plain_table("slide", "night", "cells", "labels", "reported", "will", right=("cells", "labels"))
    for change in planned.changes:
        reported = f"{change.reported_variant} {moment(change.reported_at)}" if change.reported_variant else "no"
        does = f"be slide {visible(change.renamed_to)}" if change.renamed_to else f"be {_DONE[change.action]}"
        figures = (count(change.n_cells), count(change.n_labels))
        table.add_row(visible(change.barcode), str(change.night), *figures, reported, does)
    console = Console()
    console.print(table, markup=False)
    for change in planned.changes:
        if change.renamed_to:
            order, patient = change.renamed_order_id or "none", change.renamed_patient_key or "none"
            typer.echo(visible(f"Slide {change.renamed_to} will have order: {order}, patient: {patient}."))
        if change.action != "restore":
            _show_uses(change.barcode, change.n_snapshots, change.trained_models)


def _show_uses(barcode: str, n_snapshots: int, trained_models: tuple[str, ...]) -> None:
    from bloodcell.presentation.numbers import counted
    from bloodcell.visible_text import visible

    if n_snapshots:
        typer.echo(f"Cells of {visible(barcode)} are in {counted(n_snapshots, 'data set')}, which never change.")
    for model in trained_models:
        typer.echo(f"Model {model} was trained on some of them, as this slide's patient: retrain soon.")


def _show_done(done: Withdrawal) -> None:
    from bloodcell.visible_text import visible

    for change in done.changes:
        what = f"withdrawn; its cells are slide {change.renamed_to} now" if change.renamed_to else _DONE[change.action]
        typer.echo(f"Slide {visible(change.barcode)} of night {change.night} is {visible(what)}.")
        if change.action != "restore" and change.reported_variant:
            typer.echo("It had been reported: correct what was passed on under this barcode.")
        stands = change.renamed_to or (change.barcode if change.action == "restore" else None)
        if stands is not None:
            step = "differential" if stands in done.reported else "classify --slide"
            typer.echo(f"Next: bloodcell {step} {visible(stands)}")


_DONE = {"withdraw": "withdrawn", "restore": "restored"}
