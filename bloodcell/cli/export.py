"""`bloodcell export`: results as files for analysts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First night.", show_default=False)],
    last: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last night, included.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files are written.")] = Path("export"),
    file_format: Annotated[Literal["parquet", "csv"], typer.Option("--format", help="Of the files.")] = "parquet",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Write the results of some nights as Parquet or CSV files, without identities, with a dictionary of the columns.

    The files are the marts: mart_slide has one row per slide, mart_slide_class one per slide and class, mart_cell one
    per cell.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.exchange.mart_export import export_marts
    from bloodcell.presentation.progress import step_bars
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    if first > last:
        raise typer.BadParameter(f"--from {first:%Y-%m-%d} is after --to {last:%Y-%m-%d}")
    with step_bars() as tell:
        exported = export_marts(open_views(Settings()), out, first.date(), last.date(), file_format, tell)
    if json:
        print_json(exported)
        return
    for each in exported:
        typer.echo(f"{each.path}: {each.n_rows:,} rows")
