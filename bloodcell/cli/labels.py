"""`bloodcell labels`: importing, exporting and counting the labels that people give cells."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.numbers import counted, moment
from bloodcell.presentation.progress import step_bars
from bloodcell.presentation.tables import boxed_table

if TYPE_CHECKING:
    from bloodcell.labels import InboxResult, LabelImport
    from bloodcell.retraining.label_status import LabelStatus

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]

_SHOWN_ERRORS = 20


@app.callback()
def labels() -> None:
    """Labels that people give cells. A label is never changed; a correction is a new label."""


@app.command(name="import", no_args_is_help=True)
def import_file(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A CSV file (slide, file or cell_id; label; labelled_by; labelled_at; blind; adjudication; note), or "
            "a folder sorted by class, FOLDER/<class or code>/*.jpg.",
            show_default=False,
        ),
    ],
    partial: Annotated[
        bool,
        typer.Option("--partial", help="If some rows are wrong, import the correct ones; by default none is imported."),
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The person who labelled, where the rows name nobody; required for a folder."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Import labels. Importing them again adds nothing. Exit status 1 if rows were refused."""
    from bloodcell.cli.output import print_json
    from bloodcell.labels import import_labels
    from bloodcell.settings import Settings

    with step_bars() as on_progress:
        done = import_labels(source.resolve(), Settings(), partial=partial, labelled_by=by, on_progress=on_progress)
    if json:
        print_json(done)
    else:
        _show_import(done)
    raise typer.Exit(1 if done.n_refused else 0)


@app.command()
def inbox(json: Json = False) -> None:
    """Import what is new in the label inbox, as the Dag import_labels does.

    Exit status 1 if a file was set aside, 3 if there was nothing new.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.labels import import_inbox
    from bloodcell.settings import Settings

    result = import_inbox(Settings())
    if json:
        print_json(result)
    else:
        _show_inbox(result)
    raise typer.Exit(1 if result.quarantined else 0 if result.files else NOTHING_TO_DO)


@app.command(no_args_is_help=True)
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file to write.", show_default=False)],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write the images, FOLDER/<class or code>/<slide>/<file>; the folder must be new or empty.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the current labels to a file that can be imported again, with one row per person and cell."""
    from bloodcell.cli.output import print_json
    from bloodcell.labels import export_labels
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.storage.store import Store

    settings = Settings()
    with step_bars() as on_progress:
        written = export_labels(
            open_database(settings), out, images=images, store=Store.of(settings), on_progress=on_progress
        )
    if json:
        print_json(written)
    else:
        beside = f", {counted(written.n_images, 'image')} in {images}" if images else ""
        typer.echo(f"{counted(written.n_labels, 'label')} written to {out}{beside}.")


@app.command(no_args_is_help=True)
def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder for images and labels.csv.", show_default=False)
    ],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who is going to read the cells.", show_default=False)],
    night: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only cells of this night; default: of all nights.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the cells of the nights' random samples that wait for a blind reading. Exit status 3 if none waits.

    Fill in label and labelled_at in labels.csv, remove the rows of cells that you did not read, and import the file:
    bloodcell labels import FOLDER/labels.csv. Only these labels judge models.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.labels import write_sample
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.storage.store import Store

    settings = Settings()
    with step_bars() as on_progress:
        written = write_sample(
            open_database(settings),
            Store.of(settings),
            folder,
            reader=by,
            night=night.date() if night else None,
            on_progress=on_progress,
        )
    if json:
        print_json(written)
    elif written.n_cells:
        typer.echo(f"{counted(written.n_cells, 'cell')} to read blind in {folder}. Fill in {written.form}.")
    else:
        typer.echo(f"No cell waits for a blind reading by {by}.")
    raise typer.Exit(0 if written.n_cells else NOTHING_TO_DO)


@app.command()
def status(json: Json = False) -> None:
    """Count labels by person, cells by class and split, contested cells, and cells new since the last training set."""
    from bloodcell.cli.output import print_json
    from bloodcell.retraining.label_status import label_status
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    found = label_status(open_database(Settings()))
    if json:
        print_json(found)
    elif found.n_labels:
        _show_status(found)
    else:
        typer.echo(
            f"There are no labels; {counted(found.sample.n_waiting, 'cell')} of the random samples wait for a blind "
            "reading. Next: bloodcell labels sample FOLDER --by NAME, or bloodcell labels import FILE"
        )


def _show_import(done: LabelImport) -> None:
    from rich.console import Console

    console = Console()
    table = boxed_table("rows", "new", "known", "repeated", "refused")
    counts = (done.n_rows, done.n_new, done.n_known, done.n_repeated, done.n_refused)
    table.add_row(*(f"{count:,}" for count in counts))
    console.print(table)
    if done.ignored_columns:
        console.print(f"Ignored columns: {', '.join(done.ignored_columns)}", highlight=False, markup=False)
    for error in done.errors[:_SHOWN_ERRORS]:
        console.print(f"Row {error.row:,}: {error.text}", highlight=False, markup=False, soft_wrap=True)
    if done.n_refused > _SHOWN_ERRORS:
        console.print(f"... and {done.n_refused - _SHOWN_ERRORS:,} more; --json lists the first 1,000.")
    if not done.is_taken:
        console.print("Nothing was imported. Correct the rows, or import the others with --partial.", highlight=False)
    if done.n_contested:
        console.print(
            f'{done.n_contested:,} of these cells are contested. Next: bloodcell db psql -c "TABLE contested_cell"',
            highlight=False,
        )


def _show_inbox(result: InboxResult) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    table = boxed_table("file", "outcome", "rows", "new labels", "reason")
    for file in result.files:
        counts = (f"{file.n_rows:,}", f"{file.n_labels:,}")
        table.add_row(escape(file.path), file.outcome, *counts, escape(file.reason or ""))
    if result.files:
        console.print(table)
    console.print(
        f"{counted(len(result.files), 'file')} read, {result.n_known:,} already known, "
        f"{result.n_waiting:,} still being written."
    )


def _show_status(found: LabelStatus) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    table = boxed_table("state", "class", "finer code", "cells")
    for cells in found.classes:
        table.add_row(cells.state, cells.cell_class or "", cells.sub_label or "", f"{cells.n_cells:,}")
    console.print(table)
    people = boxed_table("labelled by", "labels", "blind", "newest")
    for person in found.people:
        people.add_row(
            escape(person.labelled_by),
            f"{person.n_labels:,}",
            f"{person.n_blind:,}",
            moment(person.newest_at),
        )
    console.print(people)
    splits = boxed_table("split", "patients", "cells")
    for split in found.splits:
        splits.add_row(split.split or "not yet", f"{split.n_patients:,}", f"{split.n_cells:,}")
    console.print(splits)
    sample = found.sample
    console.print(
        f"Random samples: {counted(sample.n_drawn, 'cell')}, {sample.n_read:,} read blind, {sample.n_waiting:,} wait "
        f"for a reading (bloodcell labels sample), {sample.n_contested:,} contested."
    )
    console.print(
        f"{counted(found.n_labels, 'label')} of {counted(found.n_cells, 'cell')}; {found.n_contested:,} contested; "
        f"{found.n_new_cells:,} confirmed since the last training set."
    )
