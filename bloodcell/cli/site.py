"""`bloodcell site`: models are fitted to a laboratory's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.progress import step_bars

if TYPE_CHECKING:
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Fit the models to this laboratory, and report how well they do here.")


@app.command(no_args_is_help=True)
def calibrate(
    images: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Images of this laboratory: FOLDER/<class or code>/<slide>/*.jpg, FOLDER/unlabelled/<slide>/*.jpg.",
            show_default=False,
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Table with the columns path, class and slide that names the labels instead of the folders.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the laboratory, or of one of its analysers.")] = "site",
    bundle: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Bundle to start from; may be repeated. Default: the shipped models."),
    ] = None,
    register: Annotated[bool, typer.Option(help="Register the models in the database (as idle or challenger).")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Fit the models to this laboratory from 100 to 400 labelled cells of several slides; the networks do not change.

    What is printed was measured on slides that a model was not fitted on. No model becomes champion: `bloodcell models
    validate` and `bloodcell models promote` come next. If the command is killed, the same command resumes it.
    """
    from bloodcell.cli.output import print_json, site_table
    from bloodcell.settings import Settings
    from bloodcell.site.calibrating import calibrate as calibrate_site
    from bloodcell.site.site_images import read_site_images
    from bloodcell.storage.database import open_database

    settings = Settings()
    if register:
        open_database(settings)  # a missing database is reported now, not after the work
    with step_bars() as show:
        show("read images", 0, 1)
        found = read_site_images(settings, images, table)
        show("read images", 1, 1)
        calibrated = calibrate_site(found, _parents(bundle), settings, site=name, on_progress=show)
    bundles = [each.bundle for each in calibrated]
    if register:
        _register(settings, bundles)
    if json:
        print_json(
            [{"model_id": each.model_id, "folder": str(each.folder), "manifest": each.manifest} for each in bundles]
        )
    else:
        site_table(found, bundles, registered=register)


def _parents(folders: list[Path] | None) -> list[Bundle]:
    from bloodcell.registry.bundle import open_bundle
    from bloodcell.registry.shipped import shipped_bundles

    return [open_bundle(folder) for folder in folders] if folders else shipped_bundles()


def _register(settings: Settings, bundles: list[Bundle]) -> None:
    from bloodcell.cli.models import register_bundle

    for bundle in bundles:
        register_bundle(settings, bundle)
