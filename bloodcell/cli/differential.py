"""`bloodcell differential` and `bloodcell report`: one slide, on the terminal or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Slide = Annotated[str, typer.Argument(metavar="SLIDE", help="Barcode of the slide.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        help="Model whose calls to count; its id or the beginning of it; default: the reported one.",
    ),
]


def differential(
    slide: Slide,
    model: Model = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a slide's differential: counts, percentages with exact 95 % intervals, flags, NRBC, agreement.

    Percentages are of the six leucocyte classes; unclassified cells are not part of them, and are shown.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.differential.differential_tables import differential_json, differential_table
    from bloodcell.differential.stored_differential import read_differential
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    read = read_differential(open_database(Settings()), slide, model)
    if json:
        print_json(differential_json(read))
        return
    from rich.console import Console

    console = Console()
    console.print(differential_table(read, console.width))


def report(
    slide: Slide,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="Page to write.", show_default=False)],
    model: Model = None,
) -> None:
    """Write a slide's report as one self-contained HTML page: differential, every cell's picture, provenance.

    The page needs no network and no script; it can be archived, mailed and printed.
    """
    from rich.console import Console

    from bloodcell.report.slide_page import write_report
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.storage.store import Store

    settings = Settings()
    write_report(open_database(settings), Store.of(settings), slide, html, model_id=model)
    Console(stderr=True).print(f"Wrote {html} ({html.stat().st_size / 1e6:.1f} MB).", highlight=False)
