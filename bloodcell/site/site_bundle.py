"""A calibrated model becomes a bundle: the network of its parents, the site's heads, and what it was calibrated on."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import macro_sensitivity, negative_log_likelihood
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import IMAGES, DataSplit, SiteRecord, ValidationMetrics, write_bundle
from bloodcell.registry.rehearsal import REHEARSAL
from bloodcell.registry.training_reference import reference_of
from bloodcell.site.site_committee import Committee, mean_ratio
from bloodcell.site.site_model import committee_model, site_model
from bloodcell.site.site_verdict import may_be_used
from bloodcell.training.bundle_training import write_look_file, write_model
from bloodcell.training.calibration import softmax
from bloodcell.training.provenance import code_version, git_commit, library_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    from numpy.typing import NDArray

    from bloodcell.appearance.look_reference import LookReference
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.fitted_variant import FittedVariant
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_images import SiteImage, SiteImages
    from bloodcell.site.site_scale import SiteScale

_RULE: Final = "cross-fitted: each labelled cell is predicted by a head that was not fitted on its slide"


@dataclass(frozen=True, slots=True)
class _Content:
    """What of a bundle differs between a variant and a committee.

    Attributes:
        model: The Keras model.
        probabilities: float64 (n, 8), of the labelled cells, by heads that were not fitted on their slide.
        novelty: float64 (n,), of the same cells, by the model itself.
        unclassified: bool (n,), whether these heads left the cells without a call.
        temperature: Divisor of the scores; 1 for a committee, whose members have their own.
        confidence_threshold: Confidence that a call needs.
        novelty_threshold: Largest distance of a call.
        members: Variants of a committee; empty for a variant.
    """

    model: keras.Model
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]
    unclassified: NDArray[np.bool_]
    temperature: float
    confidence_threshold: float
    novelty_threshold: float
    members: tuple[str, ...]


def write_site_bundle(
    made: FittedVariant | Committee,
    images: SiteImages,
    cells: SiteCells,
    scale: SiteScale,
    looks: LookReference | None,
    *,
    site: str,
    out: Path,
) -> Bundle:
    """Writes the bundle of a calibrated model into `out` and returns it; a kill leaves either all of it or nothing.

    Args:
        made: The variant, or a committee.
        images: The site's images.
        cells: The same, as they were sorted for fitting.
        scale: Their scale.
        looks: How they look; None with too few of them.
        site: Name of the laboratory.
        out: Folder of bundles.
    """
    parent, labels = made.parent, cells.labels
    members = made.members if isinstance(made, Committee) else (made,)
    first = members[0]
    content = _of_committee(made) if isinstance(made, Committee) else _of_variant(made)
    in_scope = (labels < len(CELL_CLASSES)) & made.judging
    reference = reference_of(
        first.fit.head.gaussians.embed(first.labelled.features)[in_scope],
        content.probabilities[in_scope],
        content.novelty[in_scope],
        labels[in_scope],
        follows_mix=False,
    )
    record = SiteRecord(
        name=site,
        parent_id=parent.model_id,
        n_labelled=dict(sorted(images.counts().items())),
        n_slides=len({image.slide for image in cells.labelled if image.slide}),
        n_unlabelled=len(cells.unlabelled),
        red_cell_px=scale.red_cell_px,
        codes=cells.codes,
        verdict=made.verdict,
        may_be_used=may_be_used(made.verdict),
        members=content.members,
        um_per_px=scale.um_per_px,
    )
    manifest = replace(
        parent.manifest,
        data=DataSplit(images.digest, int((labels < len(CELL_CLASSES)).sum()), int(in_scope.sum()), _RULE),
        choice=f"{'mean of heads' if content.members else 'head'} of {len(labels)} labelled cells of {site}",
        code_version=code_version(),
        git_commit=git_commit(),
        libraries=library_versions(),
        metrics=_metrics(content, labels, in_scope),
        temperature=content.temperature,
        confidence_threshold=content.confidence_threshold,
        novelty_threshold=content.novelty_threshold,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        field_px=scale.field_px,
        site=record,
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".calibrating-") as folder:
        work = Path(folder)
        files = write_model(work, content.model, reference)
        shutil.copyfile(parent.folder / REHEARSAL, work / REHEARSAL)
        _write_images(work / IMAGES, [member.parent for member in members], cells.labelled)
        files |= {name: work / name for name in (REHEARSAL, IMAGES)}
        files |= write_look_file(work, looks)
        return write_bundle(out, manifest, files)


def _of_variant(made: FittedVariant) -> _Content:
    fit = made.fit
    return _Content(
        _model_of(made),
        fit.judged.probabilities,
        fit.head.gaussians.distance(made.labelled.features),
        fit.calls.unclassified,
        fit.temperature,
        fit.confidence_threshold,
        fit.novelty_threshold,
        (),
    )


def _of_committee(made: Committee) -> _Content:
    own = [member.fit.novelty_threshold for member in made.members]
    distances = [member.fit.head.gaussians.distance(member.labelled.features) for member in made.members]
    return _Content(
        committee_model([_model_of(member) for member in made.members], own, made.parent.manifest.variant),
        made.judged.probabilities,
        mean_ratio(distances, own),
        made.calls.unclassified,
        1.0,
        made.confidence_threshold,
        made.novelty_threshold,
        tuple(member.title for member in made.members),
    )


def _model_of(made: FittedVariant) -> keras.Model:
    return site_model(load_model(made.parent), made.parent.manifest.variant, made.fit.head, made.fit.temperature)


def _write_images(path: Path, parents: Sequence[Bundle], labelled: Sequence[SiteImage]) -> None:
    """Writes the images that the parents have seen, and those of the site, as `bundle.write_image_list` does."""
    head, *_ = parents[0].read(IMAGES).decode().splitlines()
    rows = {image.sha256: f"{image.sha256},{image.label},training" for image in labelled if image.label in CELL_CLASSES}
    for parent in reversed(parents):
        rows |= {row.split(",")[0]: row for row in parent.read(IMAGES).decode().splitlines()[1:]}
    path.write_text("\n".join([head, *sorted(rows.values())]) + "\n")


def _metrics(content: _Content, labels: NDArray[np.int64], in_scope: NDArray[np.bool_]) -> ValidationMetrics:
    truth, probabilities = labels[in_scope], content.probabilities[in_scope]
    right = probabilities.argmax(axis=1) == truth
    called = ~content.unclassified[in_scope]
    counts = np.bincount(truth, minlength=len(CELL_CLASSES))
    likely = np.clip(probabilities, 1e-12, 1)
    return ValidationMetrics(
        accuracy=float(right.mean()),
        macro_sensitivity=macro_sensitivity(np.bincount(truth[right], minlength=len(counts)), counts),
        negative_log_likelihood=negative_log_likelihood(likely, truth),
        uncalibrated_negative_log_likelihood=negative_log_likelihood(
            softmax(np.log(likely) * content.temperature), truth
        ),
        coverage=float(called.mean()),
        covered_accuracy=float(right[called].mean()) if called.any() else None,
    )
