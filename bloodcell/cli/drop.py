"""`bloodcell drop`: nights and training folders of drawn cells."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.numbers import counted
from bloodcell.presentation.progress import counting_bar

if TYPE_CHECKING:
    from bloodcell.drawing.drops import DrawnDrop

app = typer.Typer(no_args_is_help=True)


@app.callback()
def drop() -> None:
    """Drawn cells, for demonstrations and tests without real images."""


@app.command(no_args_is_help=True)
def make(
    out: Annotated[
        Path, typer.Argument(file_okay=False, help="Folder for the night, or for the images with --labelled.")
    ],
    night: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Date of the night.", show_default="today, UTC"),
    ] = None,
    slides: Annotated[int, typer.Option(min=1, max=1000, help="Number of slides.")] = 3,
    cells: Annotated[
        int, typer.Option(min=1, help="Number of cells per slide; 120 include at least 100 leucocytes.")
    ] = 120,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; the same seed, night and numbers give the same bytes.")
    ] = 0,
    labelled: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Instead of a night, write N cells of each class to OUT/<class>/*.jpg, for training and evaluation.",
        ),
    ] = None,
) -> None:
    """Draw a night of cell images, with a table of the true classes beside it.

    Every pixel is computed: no part comes from a photograph, and no slide belongs to a patient. The slides take these
    findings in turn: ordinary, eosinophilia, left shift, lymphocytosis, monocytosis, basophilia.
    """
    from bloodcell.cells.classes import CELL_CLASSES
    from bloodcell.drawing.drops import draw_folder, make_drop

    if labelled is not None:
        with counting_bar("Drawing cells", labelled * len(CELL_CLASSES)) as on_cell:
            n_images = draw_folder(out, cells_per_class=labelled, seed=seed, on_cell=on_cell)
        typer.echo(f"{n_images} drawn images, {labelled} of each class, in {out}")
        typer.echo(f"Next: bloodcell train --variant vgg16_svm --images {out}")
        return
    of_night = night.date() if night else datetime.now(UTC).date()
    with counting_bar("Drawing cells", slides * cells) as on_cell:
        drawn = make_drop(out, night=of_night, n_slides=slides, cells_per_slide=cells, seed=seed, on_cell=on_cell)
    _print_drop(drawn, of_night)


def _print_drop(drawn: DrawnDrop, night: date) -> None:
    """Prints what was written, and the next step."""
    from bloodcell.cells.classes import REPORT_ORDER

    size = f"{counted(drawn.n_cells, 'drawn cell')} on {counted(len(drawn.slides), 'slide')}"
    typer.echo(f"Night {night}: {size} in {drawn.folder}")
    for slide in drawn.slides:
        counts = ", ".join(
            f"{slide.n_cells[cell_class]} {cell_class}" for cell_class in REPORT_ORDER if slide.n_cells[cell_class]
        )
        typer.echo(f"  {slide.barcode}  {slide.finding}: {counts}")
    typer.echo(f"True classes: {drawn.truth}")
    typer.echo(f"Next: bloodcell ingest {drawn.folder}")
