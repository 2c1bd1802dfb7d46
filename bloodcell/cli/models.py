"""`bloodcell models`: listing, comparing, validating, promoting and checking the registered models."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bloodcell.presentation.progress import step_bars

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings

Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="ID", help="Model id, or its first characters.", show_default=False)]
Reason = Annotated[str, typer.Option(help="The reason, which is kept permanently.", show_default=False)]
By = Annotated[str | None, typer.Option(help="The person who decides; default: the login name.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.callback()
def models() -> None:
    """Registered models: the champion's calls are reported, and the challengers run beside it."""


@app.command(name="list")
def list_models(json: Json = False) -> None:
    """List all registered models, the newest first."""
    from bloodcell.cli.output import models_table, print_json
    from bloodcell.registry.registered_models import registered_models

    found = _transact(_settings(), registered_models)
    if json:
        print_json(found)
    elif found:
        models_table(found)
    else:
        typer.echo("No model is registered. Next: bloodcell train --variant vgg16_svm --images FOLDER")


@app.command(no_args_is_help=True)
def show(model: Model) -> None:
    """Print everything known about a model as JSON: data, recipe, versions, metrics, thresholds, digests.

    `erased_images` counts the images of its snapshot that have been erased since. What it learnt from them remains.
    """
    from dataclasses import asdict

    from bloodcell.cli.output import print_json
    from bloodcell.registry.registered_models import find_model
    from bloodcell.removal import erased_images

    def read(connection: sa.Connection) -> dict[str, object]:
        found = find_model(connection, model)
        return {**asdict(found), "erased_images": erased_images(connection, found.model_id)}

    print_json(_transact(_settings(), read))


@app.command(no_args_is_help=True)
def register(
    bundle: Annotated[Path, typer.Argument(metavar="FOLDER", help="A bundle's folder.", show_default=False)],
) -> None:
    """Register a bundle that was trained elsewhere, after verifying every digest."""
    from bloodcell.registry.bundle import open_bundle

    opened = open_bundle(bundle)
    register_bundle(_settings(), opened)
    typer.echo(f"Registered {opened.title} {opened.model_id}")


@app.command(no_args_is_help=True)
def turn(
    model: Model,
    turns: Annotated[int, typer.Option(help="Rotated and mirrored images of each cell: 2, 4 or 8.")] = 4,
) -> None:
    """Register a copy of a model that averages its probabilities over rotated and mirrored images of each cell.

    It is right a little more often, and takes 2, 4 or 8 times as long. Thresholds stay those of the model. It runs only
    as champion, never as a challenger. Next: `bloodcell models promote`; where there is a hold-out, `bloodcell models
    validate` comes first.
    """
    from bloodcell.registry.registered_models import find_model, open_registered
    from bloodcell.storage.store import Store
    from bloodcell.training.turned_bundle import turned_bundle

    settings = _settings()
    found = _transact(settings, lambda c: find_model(c, model))
    bundle = open_registered(Store.of(settings), found.model_id)
    turned = turned_bundle(bundle, turns, settings.data_dir / "bundles")
    register_bundle(settings, turned)
    typer.echo(
        f"Registered {turned.title} {turned.model_id}\nNext: bloodcell models promote {turned.model_id[:12]} --reason R"
    )


@app.command(no_args_is_help=True)
def validate(model: Model, by: By = None, json: Json = False) -> None:
    """Validate a model against the champion on the newest hold-out, and record the result. Exit status 1 if it fails.

    A retraining validates its own models. A model from elsewhere needs this before it can be promoted.
    """
    from bloodcell.cli.output import print_json, print_markdown
    from bloodcell.retraining import validate_model

    with step_bars() as show_step:
        judged = validate_model(
            _settings(),
            model,
            by=by or getpass.getuser(),
            on_progress=lambda done, total: show_step("Cells", done, total),
        )
    if json:
        print_json(judged)
    else:
        print_markdown(judged.summary)
    raise typer.Exit(0 if judged.passed else 1)


@app.command(no_args_is_help=True)
def compare(
    model: Model,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The model to compare with.", show_default=False)],
    json: Json = False,
) -> None:
    """Compare two models on the newest hold-out: figures, differences, gates. Nothing is recorded."""
    from bloodcell.cli.output import print_json, print_markdown
    from bloodcell.retraining import compare_models
    from bloodcell.retraining.validation_summary import comparison_markdown

    with step_bars() as show_step:
        judgement = compare_models(
            _settings(), model, other, on_progress=lambda done, total: show_step("Cells", done, total)
        )
    if json:
        print_json({"comparison": judgement.comparison, "gates": judgement.gates})
    else:
        print_markdown(comparison_markdown(judgement.comparison, judgement.gates))


@app.command(no_args_is_help=True)
def promote(model: Model, reason: Reason, by: By = None) -> None:
    """Make a model champion: from now on its calls are reported. Who promoted it, when and why is kept permanently.

    A model that failed a gate cannot be promoted, not even by hand. If there is a hold-out of labelled cells, the model
    has to be validated on it first (bloodcell models validate), and the lockbox is opened for it now.
    """
    from bloodcell.retraining import promote_by_hand

    model_id = promote_by_hand(_settings(), model, by=by or getpass.getuser(), reason=reason)
    typer.echo(f"Model {model_id[:12]} is champion.")


@app.command()
def rollback(reason: Reason, by: By = None) -> None:
    """Make the previous champion champion again. Existing calls keep the model that made them."""
    from bloodcell.registry.promotion import rollback as roll_back
    from bloodcell.registry.registered_models import champion
    from bloodcell.storage.store import Store

    settings = _settings()
    store, who = Store.of(settings), by or getpass.getuser()
    present = _transact(settings, champion)
    model_id = _transact(settings, lambda c: roll_back(c, store, replaces=present, by=who, reason=reason))
    typer.echo(f"Model {model_id[:12]} is champion again.")


@app.command()
def verify() -> None:
    """Verify every byte of every registered bundle. Exit status 1 if one is incomplete, altered or cannot be read."""
    from bloodcell.errors import BundleError, StoreUnavailableError
    from bloodcell.registry.registered_models import open_registered, registered_models
    from bloodcell.storage.store import Store

    settings = _settings()
    store = Store.of(settings)
    bad = 0
    for model in _transact(settings, registered_models):
        try:
            open_registered(store, model.model_id, fresh=True)
            typer.echo(f"ok    {model.model_id[:12]}  {model.title:<18} {model.role}")
        except (BundleError, StoreUnavailableError) as error:
            bad += 1
            typer.secho(f"BAD   {model.model_id[:12]}  {model.title:<18} {model.role}: {error}", fg=typer.colors.RED)
    raise typer.Exit(1 if bad else 0)


@app.command()
def check(json: Json = False) -> None:
    """Check the champion's agreement with new labels, and its drift, since the last check. Exit status 1 if it fails.

    The exit status is 3 if there is too little new data to judge. Each label and each night is used by only one check,
    and this one counts just as a nightly check does.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, check_table, print_json
    from bloodcell.monitoring import check_champion

    with step_bars() as show_step:
        found = check_champion(_settings(), on_progress=show_step)
    if json:
        print_json(found)
    else:
        check_table(found)
    raise typer.Exit(1 if found.failed else 0 if found.is_judged else NOTHING_TO_DO)


@app.command()
def speed(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Default: the champion and its challengers.")
    ] = None,
    batches: Annotated[str, typer.Option(help="Batch sizes to try, in cells, separated by commas.")] = (
        "8,16,32,64,128,256"
    ),
    json: Json = False,
) -> None:
    """Measure how many cells per second models call on this machine, and find the best BLOODCELL_BATCH_CELLS.

    Run it on the worker's machine while nothing else runs there. It takes a minute with a GPU, several minutes without.
    """
    from bloodcell.cli.output import print_json, speed_table
    from bloodcell.evaluation.model_speed import measure_speed
    from bloodcell.registry.registered_models import find_model, open_registered, serving_models
    from bloodcell.storage.store import Store

    sizes = {int(size) if size.strip().isdecimal() else 0 for size in batches.split(",")}
    if 0 in sizes:
        raise typer.BadParameter(f"expected numbers of cells separated by commas, received {batches!r}")
    settings = _settings()
    found = _transact(settings, lambda c: [find_model(c, each) for each in models or ()] or serving_models(c))
    if not found:
        typer.echo("There is no champion. Next: bloodcell models list, then promote a model.", err=True)
        raise typer.Exit(1)
    bundles = [open_registered(Store.of(settings), model.model_id) for model in found]
    with step_bars() as show_step:
        measured = measure_speed(bundles, settings, batch_sizes=sorted(sizes), on_progress=show_step)
    if json:
        print_json(measured)
    else:
        speed_table(measured, [model.variant for model in found], settings)


def register_bundle(settings: Settings, bundle: Bundle) -> None:
    """Registers a verified bundle in the name of the logged-in user."""
    from bloodcell.registry.registered_models import register as register_model
    from bloodcell.storage.store import Store

    store = Store.of(settings)
    _transact(settings, lambda connection: register_model(connection, store, bundle, by=getpass.getuser()))


def _settings() -> Settings:
    from bloodcell.settings import Settings

    return Settings()


def _transact(settings: Settings, work: Callable[[sa.Connection], Result]) -> Result:
    from bloodcell.storage.database import open_database

    return open_database(settings).transact(work)
