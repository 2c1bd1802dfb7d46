"""`bloodcell evaluate`: how well models perform on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.progress import step_bars

if TYPE_CHECKING:
    from bloodcell.evaluation.bundle_evaluation import BundleEvaluation
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings


def evaluate(
    images: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Labelled images, FOLDER/<class>/*.jpg, with a folder for each of the eight cell classes.",
            show_default=False,
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Id of a registered model, or its first characters; may be repeated."),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Folder of a bundle, registered or not; may be repeated."),
    ] = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Use only images that none of these models was trained or validated on.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write plots of the confusion matrix and the reliability; with several models, one file for each.",
        ),
    ] = None,
) -> None:
    """Evaluate models on labelled images: accuracy, macro F1, and sensitivity, precision and specificity by cell class.

    Intervals are exact 95 % intervals. Without --model and --bundle, the champion and its challengers are evaluated.
    """
    from rich.console import Console

    from bloodcell.cli.output import print_json
    from bloodcell.evaluation.bundle_evaluation import evaluate_bundles
    from bloodcell.evaluation.evaluation_tables import evaluation_json, evaluation_tables
    from bloodcell.settings import Settings

    settings = Settings()
    bundles = _bundles(settings, model or [], bundle or [])
    with step_bars() as show:
        evaluated = evaluate_bundles(
            images, bundles, settings, lambda done, total: show("Cells", done, total), unseen=unseen
        )
    if json:
        print_json([evaluation_json(one) for one in evaluated.values()])
    else:
        for one in evaluated.values():
            Console().print(evaluation_tables(one), "", highlight=False)
    if png:
        _write_plots(png, list(evaluated.values()))


def _write_plots(png: Path, evaluated: list[BundleEvaluation]) -> None:
    from rich.console import Console

    from bloodcell.errors import ConfigurationError
    from bloodcell.evaluation.evaluation_plots import write_plots

    for one in evaluated:
        path = png if len(evaluated) == 1 else png.with_stem(f"{png.stem}-{one.model_id[:12]}")
        title = f"{one.variant} {one.model_id[:12]} on {one.evaluation.n_cells:,} cells"
        try:
            write_plots(one.evaluation, path, title=title)
        except OSError as error:
            raise ConfigurationError(
                f"The plots cannot be written to {path}: {error}. Choose another file for --png."
            ) from error
        Console(stderr=True).print(f"Wrote {path}.", highlight=False)


def _bundles(settings: Settings, models: list[str], folders: list[Path]) -> list[Bundle]:
    """Returns the requested bundles, opened; only registered models need the database."""
    from bloodcell.registry.bundle import open_bundle

    bundles = [open_bundle(folder) for folder in folders]
    if models or not folders:
        from bloodcell.registry.registered_models import find_model, open_registered, serving_models
        from bloodcell.storage.database import open_database
        from bloodcell.storage.store import Store

        database = open_database(settings)
        registered = database.transact(
            lambda connection: [find_model(connection, model) for model in models] or serving_models(connection)
        )
        store = Store.of(settings)
        bundles += [open_registered(store, model.model_id) for model in registered]
    return bundles
