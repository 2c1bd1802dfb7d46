"""`bloodcell site`: models are fitted to a laboratory's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.progress import step_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.presentation.progress import ShowStep
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.site_images import SiteImages

app = typer.Typer(
    no_args_is_help=True, help="Calibrate the models for this laboratory, and report how well they perform here."
)


Images = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        help="Images of this laboratory: FOLDER/<class or code>/<slide>/*.jpg, and, if there are any, "
        "FOLDER/unlabelled/<slide>/*.jpg. Without slides no model may be used.",
        show_default=False,
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="CSV file with the columns path (relative to the file, inside --images), class and slide, instead of the "
        "folders' names.",
    ),
]
Name = Annotated[str, typer.Option(help="Name of the laboratory, or of one of its analysers.")]
UmPerPx = Annotated[
    float | None,
    typer.Option(
        min=0.02,
        max=1.0,
        metavar="NUMBER",
        help="Micrometres per pixel of the images. Default: estimated from the red cells beside the cells.",
    ),
]
Bundles = Annotated[
    list[Path] | None,
    typer.Option(metavar="FOLDER", help="Bundle to start from; may be repeated. Default: the shipped models."),
]


@app.command(no_args_is_help=True)
def calibrate(
    images: Images,
    table: Table = None,
    name: Name = "site",
    um_per_px: UmPerPx = None,
    bundle: Bundles = None,
    register: Annotated[
        bool,
        typer.Option(help="Register the models in the database. They may run as challengers from the next night on."),
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Calibrate the models for this laboratory on 100 to 400 labelled cells of several slides.

    Only the last layer is fitted; the layers before it stay as they are. What is printed was measured on slides that a
    model was not fitted on. No model becomes champion by this: `bloodcell models promote` comes next. If the command is
    killed, the same command resumes it.
    """
    from bloodcell.cli.output import print_json, site_table
    from bloodcell.settings import Settings
    from bloodcell.site.calibrating import calibrate as calibrate_site
    from bloodcell.storage.database import open_database

    settings = Settings()
    if register:
        open_database(settings)  # a missing database is reported now, not after the work
    with step_bars() as show:
        found = _read(settings, images, table, show)
        parents = _parents(bundle)
        bundles = calibrate_site(found, parents, settings, site=name, um_per_px=um_per_px, on_progress=show)
    if register:
        _register(settings, [*parents, *bundles])  # a later retraining starts from the parents
    if json:
        print_json(
            [{"model_id": each.model_id, "folder": str(each.folder), "manifest": each.manifest} for each in bundles]
        )
    else:
        site_table(found, bundles, registered=register)


@app.command(no_args_is_help=True)
def report(
    images: Images,
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where the page is written.", show_default=False)],
    table: Table = None,
    name: Name = "site",
    um_per_px: UmPerPx = None,
    bundle: Bundles = None,
) -> None:
    """Write one page on how well the models perform in this laboratory, before and after calibration.

    No model is registered. Without labels the page says how many cells would be called, how the images look beside the
    training images, and what to label.
    """
    from bloodcell.settings import Settings
    from bloodcell.site.site_report import report_site, site_page
    from bloodcell.storage.atomic_write import atomic_file

    settings = Settings()
    with step_bars() as show:
        found = _read(settings, images, table, show)
        parents = _parents(bundle)
        reported = report_site(found, parents, settings, site=name, um_per_px=um_per_px, on_progress=show)
    with atomic_file(html) as file:
        file.write(site_page(reported).encode())
    for made in reported.fitted:
        typer.echo(f"{made.title}: {' '.join(made.verdict)}")
    if not reported.fitted:
        typer.echo(f"Nothing was calibrated. {reported.without_labels}")
    typer.echo(f"The page: {html}")


def _read(settings: Settings, folder: Path, table: Path | None, show: ShowStep) -> SiteImages:
    from bloodcell.site.site_images import read_site_images

    show("read images", 0, 1)
    found = read_site_images(settings, folder, table)
    show("read images", 1, 1)
    for broken in found.broken:
        typer.secho(f"Left out {broken.path}: {broken.reason}", err=True, fg=typer.colors.YELLOW)
    return found


def _parents(folders: list[Path] | None) -> list[Bundle]:
    from bloodcell.registry.bundle import open_bundle
    from bloodcell.registry.shipped import shipped_bundles

    return [open_bundle(folder) for folder in folders] if folders else shipped_bundles()


def _register(settings: Settings, bundles: Sequence[Bundle]) -> None:
    from bloodcell.cli.models import register_bundle

    for bundle in bundles:
        register_bundle(settings, bundle)
