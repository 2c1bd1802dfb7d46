"""A laboratory's images become bundles that are fitted to it: scale, head, temperature and thresholds of each variant.

The networks stay as they are. Their outputs are cached, so a calibration that was killed resumes where it was when it
is called again with the same images.
"""

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
from bloodcell.errors import TrainingDataError
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import (
    IMAGES,
    DataSplit,
    SiteRecord,
    ValidationMetrics,
    splits_of,
    write_bundle,
)
from bloodcell.registry.rehearsal import REHEARSAL
from bloodcell.registry.training_reference import reference_of
from bloodcell.site.site_fitting import SiteFit, SiteOutputs, fit_site
from bloodcell.site.site_model import parent_outputs, site_model
from bloodcell.site.site_scale import field_px_of
from bloodcell.site.site_verdict import verdict_of
from bloodcell.training.bundle_training import write_look_file, write_model
from bloodcell.training.calibration import softmax
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS
from bloodcell.training.image_folders import read_file
from bloodcell.training.provenance import code_version, git_commit, library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.site_images import SiteImage, SiteImages

    OnProgress = Callable[[str, int, int], None]

MIN_LABELLED: Final = 20
"""Labelled cells without which nothing is fitted: with fewer, not even 80 % can be told from chance in two classes."""

CLASS_OF_ITS_OWN: Final = 25
"""Labels from which a code out of scope becomes a class of the model; it is reported as that code, never as a class."""

_RULE: Final = "cross-fitted: each labelled cell is predicted by a head that was not fitted on its slide"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A variant that was calibrated.

    Attributes:
        bundle: Its bundle.
        fit: What its figures rest on.
        images: The labelled images, in the order of the fit's arrays.
        labels: int (n,), their classes; from 8 on, codes.
    """

    bundle: Bundle
    fit: SiteFit
    images: tuple[SiteImage, ...]
    labels: NDArray[np.int64]


def calibrate(
    images: SiteImages,
    parents: Sequence[Bundle],
    settings: Settings,
    *,
    site: str,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Calibrated, ...]:
    """Returns the variants of `parents`, calibrated for a site.

    Args:
        images: The site's images, 100 to 400 of them with a label, from several slides.
        parents: Bundles of no site, one for each variant.
        settings: Data folder, image bounds, batch size.
        site: Name of the laboratory, or of one of its analysers.
        out: Folder that the bundles are written into, default `<data_dir>/bundles`.
        on_progress: Called with the step's name, the amount done and the amount in all.

    Raises:
        TrainingDataError: Too few cells are labelled, only one class is, or the images are of several scales or grey.
        BundleError: A parent cannot be used.
    """
    tell = on_progress or (lambda step, done, total: None)
    codes = tuple(
        sorted(code for code, n in images.counts().items() if code not in CELL_CLASSES and n >= CLASS_OF_ITS_OWN)
    )
    names = (*CELL_CLASSES, *codes)
    labelled = tuple(image for image in images.images if image.label in names)
    others = tuple(image for image in images.images if image.label not in names)
    labels = np.array([names.index(image.label or "") for image in labelled], np.int64)
    _refuse_too_few(labels)
    slides = np.unique([image.slide for image in labelled], return_inverse=True)[1]
    red_cell_px, field_px = field_px_of(images, settings, lambda done, total: tell("scale", done, total))
    calibrated = []
    for parent in parents:
        variant = parent.manifest.variant
        outputs = parent_outputs_on(parent, (*labelled, *others), settings, field_px, tell)
        of_labelled, of_others = (
            SiteOutputs(outputs.features[part], outputs.of_any_class[part])
            for part in (slice(len(labelled)), slice(len(labelled), None))
        )

        def tell_part(done: int, total: int, variant: str = variant) -> None:
            tell(f"{variant}: cross-fit", done, total)

        fit = fit_site(parent, of_labelled, labels, slides, of_others, len(names), tell_part)
        record = SiteRecord(
            name=site,
            parent_id=parent.model_id,
            n_labelled=dict(sorted(images.counts().items())),
            n_slides=len({image.slide for image in labelled if image.slide}),
            n_unlabelled=len(others),
            red_cell_px=red_cell_px,
            codes=codes,
            verdict=verdict_of(fit.calls, labels, slides, by_slide=fit.by_slide),
        )
        place = out or settings.data_dir / "bundles"
        bundle = _write(parent, fit, images, labelled, labels, of_labelled, record, field_px, place, settings, tell)
        calibrated.append(Calibrated(bundle, fit, labelled, labels))
    return tuple(calibrated)


def _refuse_too_few(labels: NDArray[np.int64]) -> None:
    in_scope = labels[labels < len(CELL_CLASSES)]
    if len(in_scope) < MIN_LABELLED or len(np.unique(in_scope)) < 2:
        classes = np.bincount(in_scope, minlength=len(CELL_CLASSES))
        received = ", ".join(f"{n} {name}" for name, n in zip(CELL_CLASSES, classes, strict=True) if n) or "none"
        raise TrainingDataError(
            f"Too few labelled cells to calibrate: expected at least {MIN_LABELLED} of two classes, better 25 of each "
            f"class from several slides; received {received}. Next: label more cells."
        )


def parent_outputs_on(
    parent: Bundle, images: tuple[SiteImage, ...], settings: Settings, field_px: float | None, tell: OnProgress
) -> SiteOutputs:
    """Returns what a parent makes of images, from the cache or computed now.

    Args:
        parent: A bundle of no site.
        images: The images.
        settings: Data folder, image bounds, batch size.
        field_px: Side of the middle of an image that the model sees; None: the whole image.
        tell: Called with the step's name, the amount done and the amount in all.
    """
    network = parent_outputs(load_model(parent), parent.manifest.variant)
    network.name = parent.manifest.variant
    rows = cached_outputs(
        network,
        network.output,
        [image.image for image in images],
        read=read_file,
        change=AS_IS,
        cache=settings.data_dir / "training" / "features",
        settings=settings,
        on_image=lambda done, total: tell(f"{parent.manifest.variant}: images", done, total),
        field_px=field_px,
    )
    return SiteOutputs(rows["features"][:], rows["of_any_class"][:].astype(np.float64)[:, 0])


def _write(
    parent: Bundle,
    fit: SiteFit,
    images: SiteImages,
    labelled: tuple[SiteImage, ...],
    labels: NDArray[np.int64],
    outputs: SiteOutputs,
    record: SiteRecord,
    field_px: float | None,
    out: Path,
    settings: Settings,
    tell: OnProgress,
) -> Bundle:
    in_scope = labels < len(CELL_CLASSES)
    model = site_model(load_model(parent), parent.manifest.variant, fit.head, fit.temperature)
    reference = reference_of(
        fit.head.embed(outputs.features)[in_scope],
        fit.probabilities[in_scope],
        fit.head.distance(outputs.features)[in_scope],
        labels[in_scope],
        follows_mix=False,
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".calibrating-") as folder:
        work = Path(folder)
        files = write_model(work, model, reference)
        shutil.copyfile(parent.folder / REHEARSAL, work / REHEARSAL)
        _write_images(work / IMAGES, parent, labelled)
        files |= {name: work / name for name in (REHEARSAL, IMAGES)}
        files |= write_look_file(work, [image.image for image in images.images], read_file, settings, tell)
        manifest = replace(
            parent.manifest,
            data=DataSplit(images.digest, int(in_scope.sum()), int(in_scope.sum()), _RULE),
            choice=f"head of {len(labels)} labelled cells of {record.name}",
            code_version=code_version(),
            git_commit=git_commit(),
            libraries=library_versions(),
            metrics=_metrics(fit, labels, in_scope),
            temperature=fit.temperature,
            confidence_threshold=fit.confidence_threshold,
            novelty_threshold=fit.novelty_threshold,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files={},
            field_px=field_px,
            site=record,
        )
        return write_bundle(out, manifest, files)


def _write_images(path: Path, parent: Bundle, labelled: tuple[SiteImage, ...]) -> None:
    """Writes the images that the parent has seen, and those of the site, as `bundle.write_image_list` does."""
    rows = parent.read(IMAGES).decode().splitlines()
    known = splits_of(parent)
    rows += [
        f"{each.sha256},{each.label},training"
        for each in labelled
        if each.sha256 not in known and each.label in CELL_CLASSES
    ]
    path.write_text("\n".join([rows[0], *sorted(rows[1:])]) + "\n")


def _metrics(fit: SiteFit, labels: NDArray[np.int64], in_scope: NDArray[np.bool_]) -> ValidationMetrics:
    truth, probabilities = labels[in_scope], fit.probabilities[in_scope]
    right = probabilities.argmax(axis=1) == truth
    called = ~fit.calls.unclassified[in_scope]
    counts = np.bincount(truth, minlength=len(CELL_CLASSES))
    return ValidationMetrics(
        accuracy=float(right.mean()),
        macro_sensitivity=macro_sensitivity(np.bincount(truth[right], minlength=len(counts)), counts),
        negative_log_likelihood=negative_log_likelihood(probabilities, truth),
        uncalibrated_negative_log_likelihood=negative_log_likelihood(softmax(np.log(probabilities + 1e-12)), truth),
        coverage=float(called.mean()),
        covered_accuracy=float(right[called].mean()) if called.any() else None,
    )
