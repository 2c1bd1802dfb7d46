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
        help="Id of the model whose calls are counted, or its first characters; default: the reported model.",
    ),
]


def differential(
    slide: Slide,
    model: Model = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Show a slide's differential: counts, percentages with exact 95 % intervals, flags, NRBC, agreement.

    Percentages are of the six leucocyte classes. Unclassified cells are shown, but are not part of the percentages.
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
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="HTML file to write.", show_default=False)],
    model: Model = None,
) -> None:
    """Write a slide's report as one self-contained HTML page: differential, a picture of every cell, provenance.

    The page needs neither a network nor scripts, so it can be archived, mailed and printed.
    """
    from rich.console import Console

    from bloodcell.report.slide_page import write_report
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.storage.store import Store

    settings = Settings()
    write_report(open_database(settings), Store.of(settings), slide, html, model_id=model)
    Console(stderr=True).print(f"Wrote {html} ({html.stat().st_size / 1e6:.1f} MB).", highlight=False)
