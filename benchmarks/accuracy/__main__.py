"""Measures models on unseen real images; writes RESULTS.md and its plots.

    python -m benchmarks.accuracy IMAGES [--bundle FOLDER ...] [--work FOLDER] [--out FOLDER]

Outputs are kept in WORK, so that a run that was killed, or that has one more model, resumes.
"""

from __future__ import annotations

import argparse
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bloodcell.registry.bundle import images_of, open_bundle
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders
from tests.artefacts import a_few

OUT = Path(__file__).parent
N_FEW = 50


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, help="FOLDER/<class>/*.jpg; images that the models have seen are left out")
    parser.add_argument("--bundle", type=Path, action="append", help="may be repeated; default: the shipped ones")
    parser.add_argument("--work", type=Path, default=Path("paper-work"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--few", type=int, default=N_FEW, help="images per class for shifts and unknown images")
    chosen = parser.parse_args()

    from benchmarks.accuracy import leaving_out, measuring, results
    from bloodcell.evaluation.call_evaluation import evaluate_calls
    from bloodcell.presentation.progress import step_bars

    settings = Settings(data_dir=chosen.work / "data")
    bundles = [open_bundle(folder) for folder in chosen.bundle] if chosen.bundle else shipped_bundles()
    names = results.names_of(bundles)
    if len(set(names.values())) < len(bundles):
        parser.error("expected one bundle per variant")
    images, seen = read_image_folders(settings, chosen.images).images, images_of(*bundles)
    unseen = tuple(image for image in images if image.sha256 not in seen)
    with step_bars() as tell:
        laboratory = measuring.Laboratory(
            bundles, unseen, a_few(unseen, chosen.few), settings, chosen.work / "outputs", tell
        )
        outputs = laboratory.outputs("all as they are", unseen)
        figures = {
            bundle.manifest.variant: measuring.evaluated(bundle, unseen, outputs[bundle.model_id]) for bundle in bundles
        }
        if len(bundles) > 1:
            mean = np.mean([output.probabilities for output in outputs.values()], axis=0)
            figures["ensemble"] = evaluate_calls(measuring.truth_of(unseen), mean, mean.max(axis=1) < 0.5)
        shifted = measuring.robustness(laboratory)
        artefacts = measuring.artefacts_found(laboratory)
        without = leaving_out.left_out(laboratory, tuple(image for image in images if image.sha256 in seen))
    folder = chosen.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = results.plot_confusions(folder, figures)
    results.plot_shifts(folder / "shifts.png", shifted, names)
    results.plot_unknown(folder / "unknown.png", artefacts | without, names)
    lines = [
        "# Figures of the models",
        "",
        f"Written by `python -m benchmarks.accuracy` on {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python "
        f"{platform.python_version()}. Models: "
        + ", ".join(f"{name} `{model_id[:12]}`" for model_id, name in names.items())
        + ".",
        "",
        f"{len(unseen):,} images of eight classes that no model was trained or validated on, held out by the end of "
        "their sha256. Images: Acevedo et al. 2020, doi 10.17632/snkd93bnjr.1, CC BY 4.0; they name no patients, so "
        "the split is by image and every figure is too good: expect less on another laboratory's slides. Intervals: "
        "exact 95 %.",
        "",
        "Layers, sizes, kernels and the novelty score were chosen on training images only. Two choices were made after "
        "looking at these images: that the best epoch is the one with the lowest loss after calibration, not before; "
        "and that fine-tuned variants measure novelty in frozen layers, not in tuned ones.",
        "",
        "## Compared with the study",
        "",
        "The study (Acevedo et al. 2019) cannot be repeated exactly: its split, input size, layers and epochs are not "
        "known to us, so this is not a replication.",
        "",
        *results.table_of_the_study(figures),
        "",
        "Accuracy gives every cell its most probable class. Unclassified are cells below a model's confidence "
        "threshold or above its novelty threshold. The ensemble is the mean of all models' probabilities; it has no "
        "novelty, and leaves a cell unclassified if no class reaches 0.5.",
        "",
        "## Classes",
        "",
        *results.table_of_classes(figures),
        *pictures,
        "",
        "## Shifts",
        "",
        f"Accuracy in percent on {len(laboratory.few)} of the images, {chosen.few} per class; in brackets that of the "
        "called cells, and the percentage of cells that are called.",
        "",
        *results.table_of_shifts(shifted, names),
        "",
        "![Accuracy under every shift](figures/shifts.png)",
        "",
        "## Unknown images",
        "",
        "Area under the ROC curve of novelty against known unseen cells, share above the novelty threshold, and share "
        f"without a call for any reason, on {len(laboratory.few)} images of each kind.",
        "",
        f"Below them the classes, {chosen.few} cells each among those of the others: the embedding is fitted again "
        f"without the class, on {leaving_out.N_FITTED} images per class as they are.",
        "",
        *results.table_of_unknown(artefacts | without, names),
        "",
        "![Area under the curve for every kind of unknown image](figures/unknown.png)",
        "",
    ]
    (chosen.out / "RESULTS.md").write_text("\n".join(lines))
    print(f"Written: {chosen.out / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
