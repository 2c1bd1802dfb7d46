"""`bloodcell erase` and `bloodcell clean`: what is removed on purpose, and what is removed because of its age."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.cli.output import NOTHING_TO_DO
from bloodcell.presentation.numbers import counted

if TYPE_CHECKING:
    from bloodcell.removal import Erasure
    from bloodcell.removal.erasing import Kind


def erase(
    reason: Annotated[
        str, typer.Option(help="Why. It is kept permanently, and must not name anybody.", show_default=False)
    ],
    patient: Annotated[
        str | None, typer.Option(metavar="KEY", help="Erase all slides of this patient key.", show_default=False)
    ] = None,
    slide: Annotated[str | None, typer.Option(metavar="BARCODE", help="Erase this slide.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Erase a patient, or a slide: every row, image, kept feature, page, and name in a log. It cannot be undone.

    Shows first what would go, and asks. Needs the login that owns the schema (the one that runs bloodcell db upgrade).
    A record of the erasure stays: when, who, why and how many, but not of whom. What models have learnt stays, too.

    Exit status 1 if nothing was erased because it was not confirmed, 3 if there is no such patient or slide.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.errors import UnknownRecordError
    from bloodcell.removal import erase as erase_now
    from bloodcell.removal import finish_interrupted, preview_erasure
    from bloodcell.settings import Settings

    if (patient is None) == (slide is None):
        raise typer.BadParameter("expected either --patient KEY or --slide BARCODE")
    settings = Settings()
    kind: Kind = "slide" if patient is None else "patient"
    name = patient or slide or ""
    if finished := finish_interrupted(settings):
        typer.echo(f"Finished {counted(finished, 'erasure')} that had been interrupted.", err=True)
    try:
        found = preview_erasure(settings, kind, name)
    except UnknownRecordError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(0 if finished else NOTHING_TO_DO) from error
    if not yes:
        if not json:
            _show(found)
        if not (sys.stdin.isatty() and typer.confirm("Erase this? It cannot be undone", err=True)):
            if json:
                print_json(found)
            typer.echo("Nothing was erased. To erase: the same command with --yes.", err=True)
            raise typer.Exit(1)
    done = erase_now(settings, kind, name, reason=reason)
    if json:
        print_json(done)
    else:
        _show(done)


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Remove images, task logs, Airflow's rows, kept features and unused snapshots that are older than their settings.

    By default nothing is removed: set BLOODCELL_KEEP_IMAGES_DAYS, BLOODCELL_KEEP_LOGS_DAYS,
    BLOODCELL_KEEP_AIRFLOW_DAYS, BLOODCELL_KEEP_FEATURES_DAYS or BLOODCELL_KEEP_SNAPSHOTS_DAYS. The Dag clean does the
    same every week. Exit status 3 if none is set.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.service.cleaning import clean as clean_now
    from bloodcell.service.disk_use import size_text
    from bloodcell.settings import Settings

    done = clean_now(Settings(), dry_run=dry_run)
    is_set = any(each.keep_days is not None for each in done.removed)
    if json:
        print_json(done)
    elif not is_set:
        typer.echo("No BLOODCELL_KEEP_*_DAYS is set, so everything is kept.")
    else:
        from rich.console import Console

        from bloodcell.presentation.tables import boxed_table

        title = "What would be removed" if dry_run else "What was removed"
        table = boxed_table("what", "kept for", "number", "size", right=("kept for", "number", "size"), title=title)
        for each in done.removed:
            if each.keep_days is not None:
                days = counted(each.keep_days, "day")
                table.add_row(each.part, days, f"{each.n:,}", size_text(each.n_bytes) if each.n_bytes else "")
        console = Console()
        console.print(table)
        for each in done.removed:
            if each.elsewhere:
                console.print(f"{each.part}: not here; {each.elsewhere}", highlight=False, markup=False)
    raise typer.Exit(0 if is_set else NOTHING_TO_DO)


def _show(erasure: Erasure) -> None:
    from rich.console import Console

    from bloodcell.presentation.tables import boxed_table

    is_done = erasure.erasure_id is not None
    title = f"Erasure {erasure.erasure_id}: what was removed" if is_done else "What would be removed"
    table = boxed_table("what", "number", right=("number",), title=title)
    for what, n in erasure.removed.items():
        table.add_row(what, f"{n:,}")
    console = Console()
    console.print(table)
    if not is_done:
        console.print("Also kept features of the images, pages, and names in logs and in Airflow's tables.")
    if erasure.n_models:
        verb = "keeps" if erasure.n_models == 1 else "keep"
        console.print(f"{counted(erasure.n_models, 'model')} trained with these images {verb} what it learnt.")
    for name in erasure.unsearched:
        console.print(
            f"{name!r} is too short to be looked for in logs: look through them yourself.",
            highlight=False,
            markup=False,
        )
    if erasure.left_to_site:
        console.print("Not removed, because they are the site's. Remove them yourself:")
        for path in erasure.left_to_site:
            console.print(f"  {path}", highlight=False, soft_wrap=True, markup=False)
