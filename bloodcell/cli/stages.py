"""`bloodcell ingest`, `classify` and `train`: the stages that the Dags run, started by hand."""

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
        Path, typer.Argument(metavar="NIGHT_FOLDER", help="One night's folder, <drops>/<YYYY-MM-DD>.")
    ],
    json: Json = False,
) -> None:
    """Ingest a night's folder: every file becomes a cell or is listed with the reason why not. Safe to repeat.

    Slides that are still being written are left for a later run; the exit status is then 1, so that a script can retry.
    It is 1, too, if slides could not be ingested; the others are.
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
    raise typer.Exit(1 if summary.n_waiting_folders or summary.failed else 0)


def classify(
    night: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="N", help="Slides of this night (YYYY-MM-DD).")
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(metavar="S", help="The slide with this barcode; may be repeated.")
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="All cells without a call.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Model id, or its first characters; may be repeated. Default: the champion and its challengers.",
        ),
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Also call the cells again that already have a call.")] = False,
    json: Json = False,
) -> None:
    """Call every cell that the champion or a challenger has not called, then write the differentials. Safe to repeat.

    The quality control of the nights comes between the two; the command lists what it holds.

    Exit status 3 if there was no cell to call and no differential to write.
    """
    from bloodcell.classify import classify_shard, plan_shards
    from bloodcell.cli.output import NOTHING_TO_DO, classify_line, print_json
    from bloodcell.errors import StoreUnavailableError
    from bloodcell.quality.night_control import held_nights
    from bloodcell.results import write_due_results
    from bloodcell.settings import Settings

    if not (night or slide or pending):
        raise typer.BadParameter("say what to classify: --night N, --slide S or --pending")
    if redo and not (night or slide):
        raise typer.BadParameter(
            "--redo needs --night or --slide; without them, all cells ever received would be called again"
        )
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
            except StoreUnavailableError as error:  # the slides whose images could be read get their differential
                unread = error
    reported = write_due_results(settings, night=night.date() if night else None, slides=slide or ())
    held = held_nights(settings, reported)
    if json:
        print_json({"shards": summaries, "slides_reported": reported, "held": held})
    else:
        classify_line(summaries, reported)
        for each in held:
            typer.echo(f"Results of {each.night} are held: {' '.join(each.reasons)}", err=True)
    if unread:
        raise unread
    raise typer.Exit(0 if shards or reported else NOTHING_TO_DO)


def train(
    variant: Annotated[
        Variant,
        typer.Option(help="A fine-tuned network, or an SVM on a network's features (_svm).", show_default=False),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Images in one sub-folder per class, FOLDER/<class>/*.jpg; may be repeated.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Train on the current labels instead, split by patient.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    hold_out: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.5, help="With --images: share of the images to hold out for `bloodcell evaluate --unseen`."
        ),
    ] = 0.0,
    register: Annotated[bool, typer.Option(help="Register the model in the database (as idle or challenger).")] = True,
    json: Json = False,
) -> None:
    """Train a model on labelled images and write it as a verified bundle. If it is killed, the same command resumes it.

    The new model does not become champion; `bloodcell models promote` makes it champion.
    """
    from bloodcell.cli.output import print_json, print_trained
    from bloodcell.errors import BloodcellError
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database
    from bloodcell.training.bundle_training import train as train_bundle

    if labels == bool(images):
        raise typer.BadParameter("give either --images FOLDER or --labels")
    if labels and hold_out:
        raise typer.BadParameter(
            "--hold-out needs --images; labels have their own hold-out, see `bloodcell labels status`"
        )
    settings = Settings()
    if register:
        open_database(settings)  # a missing database is reported now, not after hours of training
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
            typer.echo(f"Trained but not registered. Next: bloodcell models register {bundle.folder}", err=True)
            raise
    if json:
        print_json({"model_id": bundle.model_id, "folder": str(bundle.folder), "manifest": bundle.manifest})
    else:
        print_trained(bundle, registered=register)
