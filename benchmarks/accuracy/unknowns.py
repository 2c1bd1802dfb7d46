"""What models do with images of no class, and how often sets of classes have the true one; writes UNKNOWNS.md.

    python -m benchmarks.accuracy.unknowns PBC EXTERNAL [--bundle FOLDER ...] [--before FOLDER ...]

PBC has the images of the laboratory that the models learnt from. EXTERNAL has manifest.csv with the columns path,
source, class and slide_or_field; classes that begin with out_of_scope are unknown. Outputs are kept in WORK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.accuracy import leaving_out
from benchmarks.accuracy.laboratories import parser_of, sets_of
from benchmarks.accuracy.measuring import Found, Laboratory, area_under_curve, truth_of
from bloodcell.cells.intervals import proportion
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.inference.model_output import ModelOutput, calls_of
from bloodcell.presentation.numbers import percent, percent_with_interval
from bloodcell.registry.bundle import Bundle, images_of, open_bundle, splits_of
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders
from tests.artefacts import ARTEFACTS, a_few, spoiling

OUT = Path(__file__).parent / "UNKNOWNS.md"
KNOWN_HELD_BACK = 0.05
"""Share of known cells that is held back where kinds of unknown images are compared."""
ALPHAS = (0.05, 0.01)
"""Intended shares of sets without the true class."""


@dataclass(frozen=True)
class Held:
    """How well a model finds images of no class.

    Attributes:
        auroc: Probability that such an image has a higher novelty than a known cell.
        held_back: Share without a call, by the model's own thresholds.
        at_known: Share above the novelty that `KNOWN_HELD_BACK` of the known cells exceed.
    """

    auroc: float
    held_back: float
    at_known: float


def main() -> None:
    parser = parser_of("unknowns", __doc__ or "", OUT)
    parser.add_argument("--few", type=int, default=50, help="images per class that artefacts are made from")
    chosen = parser.parse_args()

    from bloodcell.presentation.progress import step_bars

    settings = Settings(data_dir=chosen.work / "data")
    before = [open_bundle(folder) for folder in chosen.before]
    now = [open_bundle(folder) for folder in chosen.bundle] if chosen.bundle else shipped_bundles()
    bundles = [*before, *now]
    names = {each.model_id: f"{each.manifest.variant}, before" for each in before}
    names |= {each.model_id: f"{each.manifest.variant}{', now' if before else ''}" for each in now}
    images, seen = read_image_folders(settings, chosen.pbc).images, images_of(*bundles)
    unseen = tuple(image for image in images if image.sha256 not in seen)
    with step_bars() as tell:
        few = a_few(unseen, chosen.few)
        laboratory = Laboratory(bundles, unseen, few, settings, chosen.work / "outputs", tell)
        known = laboratory.outputs("as they are", few)
        others = _others(laboratory, chosen.external)
        left_out = leaving_out.left_out(laboratory, tuple(image for image in images if image.sha256 in seen))
        sets = _conformal(laboratory, images, chosen.external)
    lines = [
        "# Images of no class",
        "",
        f"Written by `python -m benchmarks.accuracy.unknowns` on {datetime.now(UTC):%Y-%m-%d}. Models: "
        + ", ".join(f"{names[each.model_id]} `{each.model_id[:12]}`" for each in bundles)
        + ".",
        "",
        f"Area under the ROC curve of novelty against {len(few)} known cells that no model has seen; share without a "
        f"call, by the model's own thresholds; share held back where {percent(KNOWN_HELD_BACK, 0)} of the known cells "
        "are, by novelty.",
        "",
        "| image | " + " | ".join(names[each.model_id] for each in bundles) + " |",
        "| --- |" + " ---: |" * len(bundles),
    ]
    for kind, outputs in others.items():
        cells = [_held(each, known[each.model_id], outputs[each.model_id]) for each in bundles]
        lines.append(f"| {kind} | {' | '.join(_shown(cell) for cell in cells)} |")
    known_held = [calls_of(each, known[each.model_id]).unclassified.mean() for each in bundles]
    lines.append(f"| known cells | {' | '.join(f'-, {percent(share, 0)}, 5 %' for share in known_held)} |")
    lines += [
        "",
        "Each class left out in turn, then looked for among the others: "
        f"embedding, and SVM, fitted again without it on {leaving_out.N_FITTED} images per class as they are. Area "
        "under the curve, and share above the model's threshold of novelty.",
        "",
        "| class | " + " | ".join(names[each.model_id] for each in bundles) + " |",
        "| --- |" + " ---: |" * len(bundles),
        *(_row_of_class(name, found, bundles) for name, found in left_out.items()),
        "",
        "Conformal sets: the classes whose probability is at least that which all but the intended share of the "
        "validation images' true classes reach. Share of sets that have the true class, with its exact 95 % interval, "
        "mean number of classes, and share of sets without any.",
        "",
        "| images | intended | " + " | ".join(names[each.model_id] for each in bundles) + " |",
        "| --- | ---: |" + " ---: |" * len(bundles),
        *sets,
        "",
    ]
    chosen.out.write_text("\n".join(lines))
    print(f"Written: {chosen.out}")


def _others(laboratory: Laboratory, external: Path) -> dict[str, dict[str, ModelOutput]]:
    """Returns kind of image -> model id -> outputs, of images that show none of the eight classes."""
    made = {
        name: laboratory.outputs(name, laboratory.few, spoiling(make, laboratory.few, laboratory.settings))
        for name, make in ARTEFACTS.items()
    }
    for source, images in sets_of(external, laboratory.settings):
        for code in sorted({image.label or "" for image in images.out_of_scope}):
            cells = tuple(image.image for image in images.out_of_scope if image.label == code)
            made[f"{source}: {code}"] = laboratory.outputs(f"{source} {code}", cells)
    return made


def _held(bundle: Bundle, known: ModelOutput, unknown: ModelOutput) -> Held:
    limit = np.quantile(known.novelty, 1 - KNOWN_HELD_BACK)
    return Held(
        area_under_curve(known.novelty, unknown.novelty),
        float(calls_of(bundle, unknown).unclassified.mean()),
        float((unknown.novelty > limit).mean()),
    )


def _shown(held: Held) -> str:
    return f"{held.auroc:.3f}, {percent(held.held_back, 0)}, {percent(held.at_known, 0)}"


def _row_of_class(name: str, found: dict[str, Found], bundles: Sequence[Bundle]) -> str:
    cells = [found.get(each.model_id) for each in bundles]
    shown = (f"{cell.auroc:.3f}, {percent(cell.above, 0)}" if cell else "-" for cell in cells)
    return f"| {name} | {' | '.join(shown)} |"


def _conformal(laboratory: Laboratory, images: tuple[LabelledImage, ...], external: Path) -> list[str]:
    """Returns the rows of a table of conformal sets, fitted on each model's own validation images."""
    measured = {"own laboratory": laboratory.images}
    for source, found in sets_of(external, laboratory.settings):
        measured[source] = tuple(image.image for image in found.labelled)
    of_measured = {name: laboratory.outputs(f"all of {name}", each) for name, each in measured.items()}
    least: dict[tuple[str, float], float] = {}
    for bundle in laboratory.bundles:
        splits = splits_of(bundle)
        validation = tuple(image for image in images if splits.get(image.sha256) == "validation")
        output = laboratory.outputs(f"validation of {bundle.model_id[:12]}", validation)[bundle.model_id]
        of_truth = np.sort(output.probabilities[np.arange(len(validation)), truth_of(validation)])
        for alpha in ALPHAS:
            # the k-th smallest with k = floor(alpha (n + 1)): Vovk et al. 2005, Algorithmic Learning in a Random World
            least[bundle.model_id, alpha] = float(of_truth[max(int(alpha * (len(of_truth) + 1)) - 1, 0)])
    rows = []
    for name, cells in measured.items():
        truth = truth_of(cells)
        for alpha in ALPHAS:
            shown = []
            for bundle in laboratory.bundles:
                is_in = of_measured[name][bundle.model_id].probabilities >= least[bundle.model_id, alpha]
                covered = proportion(int(is_in[np.arange(len(truth)), truth].sum()), len(truth))
                sizes = is_in.sum(axis=1)
                empty = percent(float((sizes == 0).mean()))
                shown.append(f"{percent_with_interval(covered)}, {sizes.mean():.2f}, {empty}")
            rows.append(f"| {name} | {percent(1 - alpha, 0)} | {' | '.join(shown)} |")
    return rows


if __name__ == "__main__":
    main()
