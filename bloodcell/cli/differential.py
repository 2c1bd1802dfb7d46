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

    Percentages are of all leucocytes. Unclassified cells are not part of them; the worst case says what they could
    change. `bloodcell result SLIDE` shows the versions, too.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.results.result_display import result_json, result_table
    from bloodcell.results.stored_result import read_result
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    read = read_result(open_views(Settings()), slide, model_id=model)
    if json:
        print_json(result_json(read))
        return
    from rich.console import Console

    console = Console()
    console.print(result_table(read, console.width))


def report(
    slide: Slide,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="HTML file to write.", show_default=False)],
    model: Model = None,
    version: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="This version; default: the one that counts.")
    ] = None,
) -> None:
    """Write a slide's report as one self-contained HTML page: differential, a picture of every cell, provenance.

    The page needs neither a network nor scripts, so it can be archived, mailed and printed.
    """
    from rich.console import Console

    from bloodcell.report.slide_page import write_report
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views
    from bloodcell.storage.store import Store

    if model is not None and version is not None:
        raise typer.BadParameter("a version has its own model: give --version or --model, not both")
    settings = Settings()
    write_report(open_views(settings), Store.of(settings), slide, html, model_id=model, version=version)
    Console(stderr=True).print(f"Wrote {html} ({html.stat().st_size / 1e6:.1f} MB).", highlight=False)
