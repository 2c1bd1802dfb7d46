"""How models do on the images of other laboratories, as they are and calibrated; writes LABORATORIES.md.

    python -m benchmarks.accuracy.laboratories PBC EXTERNAL [--bundle FOLDER ...] [--before FOLDER ...] [--repeats 5]

PBC has the images of the laboratory that the models learnt from; those that no model has seen are used. EXTERNAL has
manifest.csv with the columns path, source, class and slide_or_field. Calibrations are fitted on some labels of half of
the slides, drawn with seeds 0, 1 ..., and measured on the other half.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bloodcell.cells.calls import Calls, decide
from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.intervals import proportion
from bloodcell.inference.model_output import ModelOutput, calls_of
from bloodcell.inference.predicting import predict_all
from bloodcell.registry.bundle import Bundle, images_of, open_bundle
from bloodcell.registry.recipes import base_of
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.site.fitted_variant import parent_outputs_on
from bloodcell.site.site_committee import combined, mean_of
from bloodcell.site.site_fitting import calls_by, fit_site
from bloodcell.site.site_head import SiteOutputs
from bloodcell.site.site_images import SiteImages, read_site_images
from bloodcell.training.image_folders import read_file

OUT = Path(__file__).parent / "LABORATORIES.md"
LABELS = (10, 25, 50)
MEAN = "mean of the four"
OWN = "The training's own laboratory"


@dataclass(frozen=True)
class Figures:
    """What one model does on the cells of one laboratory, as shares of cells.

    Attributes:
        right: Cells in scope whose most probable class is the true one.
        called: Cells in scope with a call.
        right_called: Of these, called correctly; nan if there are none.
        confident_errors: Of all cells, those called and wrong, cells out of scope included.
        held_back: Of the cells out of scope, those without a call; nan if there are none.
        right_known: As `right`, only cells whose class had labels.
    """

    right: float
    called: float
    right_called: float
    confident_errors: float
    held_back: float
    right_known: float


def parser_of(name: str, doc: str, out: Path) -> argparse.ArgumentParser:
    """Returns the arguments of a benchmark that compares models on several laboratories' images."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.accuracy.{name}", description=doc.split("\n")[0])
    parser.add_argument("pbc", type=Path)
    parser.add_argument("external", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", help="may be repeated; default: the shipped ones")
    parser.add_argument("--before", type=Path, action="append", default=[], help="bundles to compare with")
    parser.add_argument("--work", type=Path, default=Path("paper-work"))
    parser.add_argument("--out", type=Path, default=out)
    return parser


def main() -> None:
    parser = parser_of("laboratories", __doc__ or "", OUT)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()

    from bloodcell.presentation.progress import step_bars

    settings = Settings(data_dir=chosen.work / "data")
    bundles = [open_bundle(folder) for folder in chosen.bundle] if chosen.bundle else shipped_bundles()
    before = [open_bundle(folder) for folder in chosen.before]
    lines = [
        "# Other laboratories",
        "",
        f"Written by `python -m benchmarks.accuracy.laboratories` on {datetime.now(UTC):%Y-%m-%d}. Models: "
        + ", ".join(f"{each.manifest.variant} `{each.model_id[:12]}`" for each in bundles)
        + (f"; before: {', '.join(f'`{each.model_id[:12]}`' for each in before)}." if before else "."),
        "",
        "Right: by most probable class, all eight kept. Called, and right among the called: as bloodcell calls cells. "
        "Confident errors: called and wrong, of all cells, cells out of scope included. Held back: cells out of scope "
        f"without a call. Calibrated: mean ± sd of {chosen.repeats} draws of labels from half of the slides, measured "
        "on the other half. Intervals: exact 95 %.",
        "",
    ]
    with step_bars() as tell:
        for name, images in _sets(chosen.pbc, chosen.external, [*before, *bundles], settings):
            lines += _section(name, images, before, bundles, settings, chosen.repeats, tell)
            chosen.out.write_text("\n".join(lines))
    print(f"Written: {chosen.out}")


def _sets(pbc: Path, external: Path, bundles: list[Bundle], settings: Settings) -> Iterable[tuple[str, SiteImages]]:
    """Yields the name and the images of each laboratory, that of the training first."""
    yield unseen_of(pbc, bundles, settings)
    yield from sets_of(external, settings)


def unseen_of(pbc: Path, bundles: Sequence[Bundle], settings: Settings) -> tuple[str, SiteImages]:
    """Returns the name and those images of the training's laboratory that none of the models has seen."""
    seen, own = images_of(*bundles), read_site_images(settings, pbc)
    return OWN, replace(own, images=tuple(image for image in own.images if image.sha256 not in seen))


def sets_of(external: Path, settings: Settings) -> Iterable[tuple[str, SiteImages]]:
    """Yields the name and the images of each source in `external`."""
    with (external / "manifest.csv").open(newline="") as file:
        sources = sorted({row["source"] for row in csv.DictReader(file)})
    for source in sources:
        yield source, read_site_images(settings, external / source, external / "manifest.csv")


def _section(
    name: str,
    images: SiteImages,
    before: list[Bundle],
    bundles: list[Bundle],
    settings: Settings,
    repeats: int,
    tell: Callable[[str, int, int], None],
) -> list[str]:
    labelled, others = images.labelled, images.out_of_scope
    cells = (*labelled, *others)
    truth = np.array([image.class_number for image in labelled])
    lines = [
        f"## {name}",
        "",
        f"{len(labelled):,} cells in scope, {len(others):,} out of scope.",
        "",
        "| model | labels a class | right | called | right among the called | confident errors | held back | "
        "right, labelled classes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    outputs = predict_all(
        [*before, *bundles],
        [each.image for each in cells],
        read_file,
        settings,
        lambda d, t: tell(f"{name}: cells", d, t),
    )
    for group, word in ((before, "before"), (bundles, "now")):
        for bundle in group:
            found = calls_of(bundle, outputs[bundle.model_id])
            lines.append(
                _row(
                    f"{bundle.manifest.variant}, {word}",
                    "0",
                    [_figures(found, truth, len(labelled), None)],
                    len(labelled),
                )
            )
        if len(group) > 1:
            lines.append(
                _row(
                    f"{MEAN}, {word}", "0", [_figures(_mean(group, outputs), truth, len(labelled), None)], len(labelled)
                )
            )
    if name == OWN:
        return [*lines, ""]
    slides = np.unique([image.slide for image in labelled], return_inverse=True)[1]
    of_parents = [parent_outputs_on(each, cells, read_file, settings, None, tell) for each in bundles]
    for n_labels in LABELS:
        by_variant: dict[str, list[Figures]] = {}
        for seed in range(repeats):
            for variant, figures in _calibrated(of_parents, truth, slides, bundles, n_labels, seed).items():
                by_variant.setdefault(variant, []).append(figures)
        lines += [_row(variant, str(n_labels), figures, 0) for variant, figures in by_variant.items()]
    return [*lines, ""]


def _mean(bundles: list[Bundle], outputs: Mapping[str, ModelOutput]) -> Calls:
    """Returns the calls of the mean probabilities: a cell that most models find novel is left unclassified."""
    probabilities = np.mean([outputs[bundle.model_id].probabilities for bundle in bundles], axis=0)
    novel = np.mean([outputs[each.model_id].novelty > each.manifest.novelty_threshold for each in bundles], axis=0)
    return decide(probabilities, novel, confidence_threshold=0.5, novelty_threshold=0.5)


def _calibrated(
    of_parents: list[SiteOutputs],
    truth: np.ndarray,
    slides: np.ndarray,
    bundles: list[Bundle],
    n_labels: int,
    seed: int,
) -> dict[str, Figures]:
    """Returns each variant's figures, and those of their mean, on the slides that no label was drawn from."""
    random = np.random.default_rng(seed)
    order = random.permutation(np.unique(slides))
    is_first = np.isin(slides, order[: len(order) // 2])
    drawn = np.concatenate(
        [random.permutation(np.flatnonzero(is_first & (truth == each)))[:n_labels] for each in range(len(CELL_CLASSES))]
    )
    rest = np.flatnonzero(~is_first)
    measured = np.concatenate([rest, np.arange(len(truth), len(of_parents[0].novelty))])
    found, fits, judged = {}, {}, {}
    for bundle, outputs in zip(bundles, of_parents, strict=True):
        variant = bundle.manifest.variant
        fits[variant] = fit_site(
            bundle,
            outputs[drawn],
            truth[drawn],
            slides[drawn],
            outputs[rest],
            (),
            lambda *_: None,
        )
        judged[variant], made = calls_by(fits[variant], outputs[measured])
        found[variant] = _figures(made, truth[rest], len(rest), truth[drawn])
    for name, members in _committees(list(fits)).items():
        of_members = [fits[variant] for variant in members]
        confidence, novelty = combined(of_members, truth[drawn])[1][-1]
        together = mean_of([judged[variant] for variant in members], [fit.novelty_threshold for fit in of_members])
        found[name] = _figures(together.calls(confidence, novelty, ()), truth[rest], len(rest), truth[drawn])
    return found


def _committees(variants: list[str]) -> dict[str, list[str]]:
    """Returns name -> variants: those of one base network, which `site calibrate` writes, and all of them."""
    groups = {
        name: [each for each in variants if base_of(each) == name]
        for name in {base_of(each): None for each in variants}
    }
    pairs = {" + ".join(members): members for members in groups.values() if len(members) > 1}
    return pairs | ({MEAN: variants} if len(variants) > 2 else {})


def _figures(calls: Calls, truth: np.ndarray, n_in_scope: int, drawn: np.ndarray | None) -> Figures:
    called = ~calls.unclassified
    right = calls.top[:n_in_scope] == truth
    known = np.isin(truth, drawn) if drawn is not None else np.ones(len(truth), bool)
    wrong = int((called[:n_in_scope] & ~right).sum() + called[n_in_scope:].sum())
    return Figures(
        right=float(right.mean()),
        called=float(called[:n_in_scope].mean()),
        right_called=float(right[called[:n_in_scope]].mean()) if called[:n_in_scope].any() else np.nan,
        confident_errors=wrong / len(called),
        held_back=float((~called[n_in_scope:]).mean()) if len(called) > n_in_scope else np.nan,
        right_known=float(right[known].mean()) if known.any() else np.nan,
    )


def _row(name: str, labels: str, figures: list[Figures], n_cells: int) -> str:
    shown = []
    for field in ("right", "called", "right_called", "confident_errors", "held_back", "right_known"):
        values = 100 * np.array([getattr(each, field) for each in figures], np.float64)
        if np.isnan(values).all():
            shown.append("-")
        elif len(values) > 1:
            shown.append(f"{np.nanmean(values):.1f} ± {np.nanstd(values):.1f}")
        elif field == "right":
            low, high = proportion(round(values[0] / 100 * n_cells), n_cells).percentage_interval or (0, 0)
            shown.append(f"{values[0]:.1f} ({low:.1f}-{high:.1f})")
        else:
            shown.append(f"{values[0]:.1f}")
    return f"| {name} | {labels} | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()
