"""How the commands show records, on the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bloodcell.presentation.json_documents import json_text
from bloodcell.presentation.numbers import counted, interval, moment, number, percent
from bloodcell.presentation.tables import boxed_table, plain_table

if TYPE_CHECKING:
    from bloodcell.classify import ClassifySummary
    from bloodcell.evaluation.model_speed import Speed
    from bloodcell.ingest import IngestSummary
    from bloodcell.monitoring import ChampionCheck
    from bloodcell.registry.bundle import Bundle
    from bloodcell.registry.registered_models import RegisteredModel
    from bloodcell.settings import Settings
    from bloodcell.site.site_images import SiteImages


NOTHING_TO_DO: Final = 3
"""Exit status of a command that did nothing because there was nothing to do."""


_RETRAINING_STATUS: Final = {"skipped": NOTHING_TO_DO, "refused": 1, "failed": 1, "expired": 1}


def retraining_status(state: str) -> int:
    """Returns the exit status of a command whose retraining is in this state: 0 if a person decided, or still has to.

    Args:
        state: One of `bloodcell.retraining.TrainingState`.
    """
    return _RETRAINING_STATUS.get(state, 0)


def print_json(document: Any) -> None:
    """Prints records, or lists and dicts of them, as one JSON document; dates and ids become strings."""
    print(json_text(document))


def print_markdown(text: str) -> None:
    """Shows Markdown on the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def ingest_table(summary: IngestSummary) -> None:
    """Shows what a night's folder contains."""
    from rich.console import Console

    names = ("files", "cells", "duplicates", "quarantined", "ignored", "slides")
    table = boxed_table(*names, title=f"Night {summary.night}")
    counts = (
        summary.n_files, summary.n_cells, summary.n_duplicates,
        summary.n_quarantined, summary.n_ignored, summary.n_slides,
    )  # fmt: skip
    table.add_row(*(f"{count:,}" for count in counts))
    console = Console()
    console.print(table)
    if summary.n_quarantined:
        console.print('Why files were quarantined: bloodcell db psql -c "TABLE quarantine_report"', highlight=False)
    for slide, error in sorted(summary.failed.items()):
        console.print(
            f"Not ingested: {slide or 'loose files'} ({error}); the log above has the traceback.", markup=False
        )
    if summary.n_erased_files:
        console.print(f"{counted(summary.n_erased_files, 'file')} of erased slides not read: remove them.")
    if summary.n_waiting_folders:
        console.print(f"{counted(summary.n_waiting_folders, 'folder')} still being written: run this again later.")
    else:
        console.print(f"Next: bloodcell classify --night {summary.night}", highlight=False)


def classify_line(summaries: Sequence[ClassifySummary], reported: Sequence[str]) -> None:
    """Shows what was classified, how fast, and the next step."""
    from rich.console import Console

    n_cells = sum(summary.n_cells for summary in summaries)
    seconds = sum(summary.seconds for summary in summaries)
    rate = f" ({n_cells / seconds:.1f} cells/s)" if seconds else ""
    n_calls = sum(summary.n_calls for summary in summaries)
    Console().print(
        f"{counted(n_cells, 'cell')} called{rate}, {counted(n_calls, 'call')} written, "
        f"{counted(len(reported), 'slide')} reported.\n"
        "Next: bloodcell slides",
        highlight=False,
    )


def print_trained(bundle: Bundle, *, registered: bool) -> None:
    """Shows a trained model and the next step."""
    from rich.console import Console

    manifest, metrics = bundle.manifest, bundle.manifest.metrics
    Console().print(
        f"[bold]{manifest.variant}[/bold] {bundle.model_id}\n"
        f"  trained on {manifest.data.n_training:,} images, validated on {manifest.data.n_validation:,}: "
        f"accuracy {percent(metrics.accuracy)}, macro sensitivity {percent(metrics.macro_sensitivity)}\n"
        f"  {bundle.folder}\n"
        + (
            f"Next: bloodcell models promote {bundle.model_id[:12]} --reason R"
            if registered
            else f"Next: bloodcell evaluate --images FOLDER --bundle {bundle.folder}"
        ),
        highlight=False,
        soft_wrap=True,  # people copy ids and paths from here
    )


def site_table(images: SiteImages, bundles: Sequence[Bundle], *, registered: bool) -> None:
    """Shows what the models of a site do on slides that they were not fitted on, and what they may be used for."""
    from rich.console import Console

    console, figures = Console(), ("accuracy", "share called", "accuracy among called")
    first = bundles[0]
    red_cell_px, field_px = first.manifest.site and first.manifest.site.red_cell_px, first.manifest.field_px
    scale = f"red cells have a diameter of {red_cell_px:.0f} px" if red_cell_px else "not known: too few red cells"
    if field_px:
        scale += f", so the middle {field_px:.0f} px are used"
    labels = ", ".join(f"{n:,} {label}" for label, n in sorted(images.counts().items()))
    console.print(f"Labelled: {labels}. Scale: {scale}.", highlight=False, soft_wrap=True)
    if first.manifest.site and (n_strange := len(images.unlabelled) - first.manifest.site.n_unlabelled):
        console.print(
            f"Left out: {counted(n_strange, 'unlabelled image')} that look unlike the labelled ones.", highlight=False
        )
    table = boxed_table("model", "variant", *figures, right=figures, title="On slides that a model was not fitted on")
    for bundle in bundles:
        metrics = bundle.manifest.metrics
        shares = (metrics.accuracy, metrics.coverage, metrics.covered_accuracy)
        shown = ("-" if share is None else percent(share) for share in shares)
        table.add_row(bundle.model_id[:12], bundle.title, *shown)
    console.print(table)
    for bundle in bundles:
        if bundle.manifest.site:
            console.print(
                f"[bold]{bundle.title}[/bold] {' '.join(bundle.manifest.site.verdict)}",
                highlight=False,
                soft_wrap=True,
            )
    console.print(_next_of_site(bundles, registered=registered), highlight=False, soft_wrap=True)


def _next_of_site(bundles: Sequence[Bundle], *, registered: bool) -> str:
    """Returns what to do after a calibration, with the most accurate of the models that may be used."""
    usable = [each for each in bundles if each.manifest.site and each.manifest.site.may_be_used]
    if not usable:
        return "None of them may be used. Next: label more cells, then calibrate again."
    best = max(usable, key=lambda bundle: bundle.manifest.metrics.accuracy)
    if not registered:
        return f"Next: bloodcell models register {best.folder}"
    short = best.model_id[:12]
    return (
        f"Next: bloodcell models promote {short} --reason R (where cells of the random sample have been read blind, "
        f"bloodcell models validate {short} comes first)"
    )


def models_table(models: Sequence[RegisteredModel]) -> None:
    """Shows the registered models, one line for each."""
    from rich.console import Console

    table = plain_table("model", "variant", "role", "validated", "trained on", "created")
    for model in models:
        metrics, data = model.manifest["metrics"], model.manifest["data"]
        table.add_row(
            model.model_id[:12],
            model.title,
            f"[bold green]{model.role}[/bold green]" if model.role == "champion" else model.role,
            percent(metrics["accuracy"]) if not model.manifest.get("turned_from") else "-",
            f"{data['n_training']:,} images",
            moment(model.created_at),
        )
    Console().print(table)


def speed_table(measured: Speed, variants: Sequence[str], settings: Settings) -> None:
    """Shows the speed of models by batch size, their bottleneck, and what to set."""
    from rich.console import Console

    names = ("batch size", "cells/s")
    table = boxed_table(*names, right=names, title=f"{', '.join(variants)} on {measured.device}")
    for n, speed in measured.called_per_s.items():
        table.add_row(f"{n:,}{' *' if n == settings.batch_cells else ''}", f"{speed:,.1f}")
    console = Console()
    console.print(table)
    best = max(measured.called_per_s.values(), default=0.0)
    bottleneck = "the models are" if measured.decoded_per_s > best else "decoding is"
    console.print(
        f"Decoding with {settings.reader_threads} threads: {measured.decoded_per_s:,.0f} cells/s, so {bottleneck} the "
        "bottleneck.",
        highlight=False,
    )
    if measured.no_memory_for:
        console.print(f"There is not enough memory for batches of {measured.no_memory_for:,} cells.", highlight=False)
    if not measured.called_per_s:
        console.print("Next: try smaller batches, --batches 1,2,4", highlight=False)
    elif measured.proposed != settings.batch_cells:
        console.print(f"Next: BLOODCELL_BATCH_CELLS={measured.proposed} (* is the present value)", highlight=False)
    else:
        console.print("* is the value of BLOODCELL_BATCH_CELLS; keep it.", highlight=False)


def check_table(found: ChampionCheck) -> None:
    """Shows every figure of a check of the champion, then the reasons why some failed or were not judged."""
    from rich.console import Console

    figures = ("cells", "measured", "95 % interval", "threshold")
    title = f"Champion {found.variant} {found.model_id[:12]}"
    table = plain_table("check", "class", *figures, "", right=figures, title=title)
    for check in found.checks:
        table.add_row(
            check.kind.replace("_", " "),
            check.cell_class or "all",
            f"{check.n_cells:,}",
            "" if check.measured is None else number(check.measured, 3),
            interval(check.interval, 3),
            "" if check.threshold is None else number(check.threshold, 3),
            ("" if check.measured is None else "[green]ok[/green]") if check.passed else "[bold red]FAILED[/bold red]",
        )
    console = Console()
    console.print(table)
    for check in found.checks:
        if not check.passed or (check.measured is None and check.cell_class is None):
            console.print(check.reason, highlight=False, soft_wrap=True)
