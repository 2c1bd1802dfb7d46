"""A laboratory's images become variants that are fitted to it: scale, head, temperature and thresholds of each.

The networks stay as they are. Their outputs are cached, so a calibration that was killed resumes where it was when it
is called again with the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.errors import TrainingDataError
from bloodcell.inference.model_loading import load_model
from bloodcell.site.site_bundle import write_site_bundle
from bloodcell.site.site_comparison import compare_with_parent
from bloodcell.site.site_fitting import SiteFit, SiteOutputs, fit_site
from bloodcell.site.site_model import parent_outputs
from bloodcell.site.site_scale import SiteScale, scale_of
from bloodcell.site.site_verdict import verdict_of
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS
from bloodcell.training.image_folders import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.site_images import SiteImage, SiteImages

    OnProgress = Callable[[str, int, int], None]

MIN_LABELLED: Final = 20
"""Labelled cells without which nothing is fitted: with fewer, not even 80 % can be told from chance in two classes."""

CLASS_OF_ITS_OWN: Final = 25
"""Labels from which a code out of scope becomes a class of the model; it is reported as that code, never as a class."""


@dataclass(frozen=True, slots=True)
class SiteCells:
    """A site's images, sorted for fitting.

    Attributes:
        labelled: Those of a class, or of a code that the head learns.
        labels: int64 (n,), their classes; from 8 on, `codes`.
        slides: int64 (n,), their slides.
        out_of_scope: Those of other codes.
        unlabelled: Those without a label.
        codes: Codes that the head learns.
    """

    labelled: tuple[SiteImage, ...]
    labels: NDArray[np.int64]
    slides: NDArray[np.int64]
    out_of_scope: tuple[SiteImage, ...]
    unlabelled: tuple[SiteImage, ...]
    codes: tuple[str, ...]

    @property
    def out_of_scope_slides(self) -> NDArray[np.int64]:
        """The slides of `out_of_scope`, int64 (m,), with the numbers of `slides` where they are the same."""
        known = {image.slide: int(slide) for image, slide in zip(self.labelled, self.slides, strict=True)}
        return np.array([known.setdefault(image.slide, len(known)) for image in self.out_of_scope], np.int64)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A variant that was calibrated.

    Attributes:
        bundle: Its bundle.
        parent: The bundle that it was calibrated from.
        fit: Its head and thresholds.
        comparison: What it does on slides that it was not fitted on, beside its parent.
    """

    bundle: Bundle
    parent: Bundle
    fit: SiteFit
    comparison: Comparison


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
    cells = site_cells(images)
    scale = scale_of(images, settings, lambda done, total: tell("scale", done, total))
    place = out or settings.data_dir / "bundles"
    return tuple(_calibrated(parent, images, cells, scale, settings, site, place, tell) for parent in parents)


def site_cells(images: SiteImages) -> SiteCells:
    """Returns a site's images, sorted for fitting.

    Raises:
        TrainingDataError: Too few cells are labelled, or only one class is.
    """
    counts = images.counts()
    codes = tuple(sorted(name for name, n in counts.items() if name not in CELL_CLASSES and n >= CLASS_OF_ITS_OWN))
    names = (*CELL_CLASSES, *codes)
    labelled = tuple(image for image in images.images if image.label in names)
    labels = np.array([names.index(image.label or "") for image in labelled], np.int64)
    _refuse_too_few(labels)
    slides = np.unique([image.slide for image in labelled], return_inverse=True)[1].astype(np.int64)
    out_of_scope = tuple(image for image in images.out_of_scope if image.label not in names)
    return SiteCells(labelled, labels, slides, out_of_scope, images.unlabelled, codes)


def parent_outputs_on(
    parent: Bundle, images: Sequence[SiteImage], settings: Settings, field_px: float | None, tell: OnProgress
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
    return SiteOutputs(rows["features"][:], rows["probabilities"][:], rows["novelty"][:])


def _calibrated(
    parent: Bundle,
    images: SiteImages,
    cells: SiteCells,
    scale: SiteScale,
    settings: Settings,
    site: str,
    place: Path,
    tell: OnProgress,
) -> Calibrated:
    variant, n_labelled = parent.manifest.variant, len(cells.labelled)
    everything = (*cells.labelled, *cells.out_of_scope, *cells.unlabelled)
    outputs = parent_outputs_on(parent, everything, settings, scale.field_px, tell)
    labelled, others = outputs[:n_labelled], outputs[n_labelled:]
    n_classes = len(CELL_CLASSES) + len(cells.codes)
    fit = fit_site(
        parent, labelled, cells.labels, cells.slides, others, n_classes,
        lambda done, total: tell(f"{variant}: cross-fit", done, total),
    )  # fmt: skip
    outside = others[: len(cells.out_of_scope)]
    comparison = compare_with_parent(
        parent, fit, labelled, cells.labels, cells.slides, outside, cells.out_of_scope_slides
    )
    verdict = verdict_of(comparison, cells.labels, cells.slides, by_slide=fit.by_slide)
    bundle = write_site_bundle(
        parent, fit, images, cells.labelled, labelled, cells.labels, scale, site, cells.codes, verdict, settings, place,
        lambda done, total: tell("looks", done, total),
    )  # fmt: skip
    return Calibrated(bundle, parent, fit, comparison)


def _refuse_too_few(labels: NDArray[np.int64]) -> None:
    in_scope = labels[labels < len(CELL_CLASSES)]
    if len(in_scope) < MIN_LABELLED or len(np.unique(in_scope)) < 2:
        classes = np.bincount(in_scope, minlength=len(CELL_CLASSES))
        received = ", ".join(f"{n} {name}" for name, n in zip(CELL_CLASSES, classes, strict=True) if n) or "none"
        raise TrainingDataError(
            f"Too few labelled cells to calibrate: expected at least {MIN_LABELLED} of two classes, better 25 of each "
            f"class from several slides; received {received}. Next: label more cells."
        )
