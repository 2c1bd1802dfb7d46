"""A calibrated variant becomes a bundle: its parent's network, the site's head, and what it was calibrated on."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import macro_sensitivity, negative_log_likelihood
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import IMAGES, DataSplit, SiteRecord, ValidationMetrics, splits_of, write_bundle
from bloodcell.registry.rehearsal import REHEARSAL
from bloodcell.registry.training_reference import reference_of
from bloodcell.site.site_model import site_model
from bloodcell.site.site_verdict import may_be_used
from bloodcell.training.bundle_training import write_look_file, write_model
from bloodcell.training.calibration import softmax
from bloodcell.training.provenance import code_version, git_commit, library_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.appearance.look_reference import LookReference
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.fitted_variant import FittedVariant
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_fitting import SiteFit
    from bloodcell.site.site_images import SiteImage, SiteImages
    from bloodcell.site.site_scale import SiteScale

_RULE: Final = "cross-fitted: each labelled cell is predicted by a head that was not fitted on its slide"


def write_site_bundle(
    made: FittedVariant,
    images: SiteImages,
    cells: SiteCells,
    scale: SiteScale,
    looks: LookReference | None,
    *,
    site: str,
    out: Path,
) -> Bundle:
    """Writes the bundle of a calibrated variant into `out` and returns it; a kill leaves either all of it or nothing.

    Args:
        made: The variant.
        images: The site's images.
        cells: The same, as they were sorted for fitting.
        scale: Their scale.
        looks: How they look; None with too few of them.
        site: Name of the laboratory.
        out: Folder of bundles.
    """
    parent, fit, labels = made.parent, made.fit, cells.labels
    in_scope, gaussians = labels < len(CELL_CLASSES), fit.head.gaussians
    model = site_model(load_model(parent), parent.manifest.variant, fit.head, fit.temperature)
    reference = reference_of(
        gaussians.embed(made.labelled.features)[in_scope],
        fit.judged.probabilities[in_scope],
        gaussians.distance(made.labelled.features)[in_scope],
        labels[in_scope],
        follows_mix=False,
    )
    record = SiteRecord(
        name=site,
        parent_id=parent.model_id,
        n_labelled=dict(sorted(images.counts().items())),
        n_slides=len({image.slide for image in cells.labelled if image.slide}),
        n_unlabelled=len(images.unlabelled),
        red_cell_px=scale.red_cell_px,
        codes=cells.codes,
        verdict=made.verdict,
        may_be_used=may_be_used(made.verdict),
    )
    manifest = replace(
        parent.manifest,
        data=DataSplit(images.digest, int(in_scope.sum()), int(in_scope.sum()), _RULE),
        choice=f"head of {len(labels)} labelled cells of {site}",
        code_version=code_version(),
        git_commit=git_commit(),
        libraries=library_versions(),
        metrics=_metrics(fit, labels, in_scope),
        temperature=fit.temperature,
        confidence_threshold=fit.confidence_threshold,
        novelty_threshold=fit.novelty_threshold,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        field_px=scale.field_px,
        site=record,
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".calibrating-") as folder:
        work = Path(folder)
        files = write_model(work, model, reference)
        shutil.copyfile(parent.folder / REHEARSAL, work / REHEARSAL)
        _write_images(work / IMAGES, parent, cells.labelled)
        files |= {name: work / name for name in (REHEARSAL, IMAGES)}
        files |= write_look_file(work, looks)
        return write_bundle(out, manifest, files)


def _write_images(path: Path, parent: Bundle, labelled: Sequence[SiteImage]) -> None:
    """Writes the images that the parent has seen, and those of the site, as `bundle.write_image_list` does."""
    rows, known = parent.read(IMAGES).decode().splitlines(), splits_of(parent)
    new = [image for image in labelled if image.sha256 not in known and image.label in CELL_CLASSES]
    rows += [f"{image.sha256},{image.label},training" for image in new]
    path.write_text("\n".join([rows[0], *sorted(rows[1:])]) + "\n")


def _metrics(fit: SiteFit, labels: NDArray[np.int64], in_scope: NDArray[np.bool_]) -> ValidationMetrics:
    truth, probabilities = labels[in_scope], fit.judged.probabilities[in_scope]
    right = probabilities.argmax(axis=1) == truth
    called = ~fit.calls.unclassified[in_scope]
    counts = np.bincount(truth, minlength=len(CELL_CLASSES))
    likely = np.clip(probabilities, 1e-12, 1)
    return ValidationMetrics(
        accuracy=float(right.mean()),
        macro_sensitivity=macro_sensitivity(np.bincount(truth[right], minlength=len(counts)), counts),
        negative_log_likelihood=negative_log_likelihood(likely, truth),
        uncalibrated_negative_log_likelihood=negative_log_likelihood(softmax(np.log(likely) * fit.temperature), truth),
        coverage=float(called.mean()),
        covered_accuracy=float(right[called].mean()) if called.any() else None,
    )
