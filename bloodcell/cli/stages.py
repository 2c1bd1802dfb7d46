"""`bloodcell ingest`, `classify` and `train`: the stages by hand, as the Dags run them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.cells.variants import Variant
from bloodcell.presentation.progress import counting_bar, step_bars

if TYPE_CHECKING:
    from bloodcell.classify import ClassifySummary

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def ingest(
    night_folder: Annotated[
        Path, typer.Argument(metavar="NIGHT_FOLDER", help="<drops>/<YYYY-MM-DD>, one night's folder.")
    ],
    json: Json = False,
) -> None:
    """Take a night's folder in: every file becomes a cell, or is accounted for with its reason. Safe to repeat.

    Slides still being written are left for the next time. Exit status 1 when some are, so that a script tries again.
    """
    from bloodcell.cli.output import ingest_table, print_json
    from bloodcell.ingest import ingest_night
    from bloodcell.settings import Settings

    settings = Settings()
    with counting_bar("Files") as on_files:
        summary = ingest_night(night_folder.resolve(), settings, on_files=on_files)
    if json:
        print_json(summary)
    else:
        ingest_table(summary)
    raise typer.Exit(1 if summary.n_waiting_folders else 0)


def classify(
    night: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="N", help="Slides of this night (YYYY-MM-DD).")
    ] = None,
    slide: Annotated[list[str] | None, typer.Option(metavar="S", help="This slide's barcode; may be repeated.")] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Whatever is not yet called.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="This model, or the beginning of its id; may be repeated. Default: all serving."
        ),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Call cells again that were called already.")] = False,
    json: Json = False,
) -> None:
    """Call every cell that the champion or a challenger lacks, then write the differentials. Safe to repeat."""
    from bloodcell.classify import classify_shard, plan_shards
    from bloodcell.cli.output import classify_line, print_json
    from bloodcell.differential import write_due_differentials
    from bloodcell.errors import StoreUnavailableError
    from bloodcell.settings import Settings

    if not (night or slide or pending):
        raise typer.BadParameter("say what to classify: --night N, --slide S or --pending")
    if redo and not (night or slide):
        raise typer.BadParameter("--redo needs --night or --slide: it would call everything ever received again")
    settings = Settings()
    shards = plan_shards(
        settings, night=night.date() if night else None, slides=slide or (), model_ids=model or (), redo=redo
    )
    summaries: list[ClassifySummary] = []
    unread: StoreUnavailableError | None = None
    with counting_bar("Cells", sum(shard.n_cells for shard in shards)) as on_cells:
        for shard in shards:
            try:
                summaries.append(classify_shard(shard, settings, on_cells=on_cells))
            except StoreUnavailableError as error:  # slides whose images are all there get their differential
                unread = error
    reported = write_due_differentials(settings, night=night.date() if night else None, slides=slide or ())
    if json:
        print_json({"shards": summaries, "slides_reported": reported})
    else:
        classify_line(summaries, reported)
    if unread:
        raise unread


def train(
    variant: Annotated[
        Variant, typer.Option(help="Fine-tuned, or an SVM on the network's features.", show_default=False)
    ],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="One sub-folder a class, FOLDER/<class>/*.jpg; may be repeated.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Train on the labels that stand now, split by patient, instead.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    hold_out: Annotated[
        float,
        typer.Option(min=0.0, max=0.5, help="With --images: share that is not trained on (`evaluate --unseen`)."),
    ] = 0.0,
    register: Annotated[bool, typer.Option(help="Make the database know the model (as idle or challenger).")] = True,
    json: Json = False,
) -> None:
    """Train a model on labelled images into a verified bundle. Killed and called again, it goes on where it was.

    The new model does not become champion: that is `bloodcell models promote`.
    """
    from bloodcell.cli.output import print_json, print_trained
    from bloodcell.errors import BloodcellError
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.training.bundle_training import train as train_bundle

    if labels == bool(images):
        raise typer.BadParameter("one of --images FOLDER and --labels is needed, and not both")
    if labels and hold_out:
        raise typer.BadParameter("--hold-out goes with --images; labels have the hold-out of `bloodcell labels status`")
    settings = Settings()
    if register:
        open_database(settings)  # says now, not after hours of training, that there is none
    with step_bars() as on_progress:
        if images:
            bundle = train_bundle(
                variant, images, settings, seed=seed, holdout_fraction=hold_out, on_progress=on_progress
            )
        else:
            from bloodcell.retraining import train_on_labels

            bundle = train_on_labels(settings, variant, seed=seed, on_progress=on_progress)
    if register:
        from bloodcell.cli.models import register_bundle

        try:
            register_bundle(settings, bundle)
        except BloodcellError:
            typer.echo(f"Trained, not registered. Then: bloodcell models register {bundle.folder}", err=True)
            raise
    if json:
        print_json({"model_id": bundle.model_id, "folder": str(bundle.folder), "manifest": bundle.manifest})
    else:
        print_trained(bundle, registered=register)
