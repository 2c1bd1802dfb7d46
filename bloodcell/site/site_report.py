"""How well the models perform at a site, as one page for the file of an accredited laboratory; nothing is registered.

Every figure is of slides that a model was not fitted on. Without labels the page shows what can be known without them:
how many cells would be called, how many are novel, and how the images look beside those that the models learnt from.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.appearance.image_look import looks_of
from bloodcell.appearance.look_reference import MIN_IMAGES, compared, read_looks
from bloodcell.cells.classes import CELL_CLASSES, CLASS_NAMES, REPORT_ORDER, UNDECIDED_CODES
from bloodcell.evaluation import comparison_plots
from bloodcell.evaluation.differential_agreement import MIN_LEUCOCYTES
from bloodcell.evaluation.passing_bablok import MIN_POINTS, passing_bablok
from bloodcell.presentation.numbers import counted
from bloodcell.presentation.templates import render_page
from bloodcell.site.fitted_variant import fit_variant, parent_outputs_on
from bloodcell.site.site_cells import CLASS_OF_ITS_OWN, site_cells
from bloodcell.site.site_committee import committees_of
from bloodcell.site.site_fitting import calls_of_parent
from bloodcell.site.site_look import with_known_looks
from bloodcell.site.site_scale import scale_of
from bloodcell.site.site_verdict import MIN_CELLS, MIN_SLIDES, may_be_used
from bloodcell.training.provenance import code_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bloodcell.appearance.look_reference import Likeness
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.evaluation.passing_bablok import Line
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.fitted_variant import FittedVariant
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_committee import Committee
    from bloodcell.site.site_images import SiteImages
    from bloodcell.site.site_scale import SiteScale

    OnProgress = Callable[[str, int, int], None]

WANTED_CELLS: Final = 25
WANTED_SLIDES: Final = 5
"""Labels of a class, and slides, that a calibration should have: from 25 labels on, accuracy on other slides rises by
less than a point for each further 25 (benchmarks/accuracy/LABORATORIES.md)."""

_MAX_LOOKS: Final = 200
_MAX_FILES: Final = 20
_ROLES: Final = {"candidate": "calibrated", "champion": "not calibrated"}


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """What a model as it is makes of the site's images.

    Attributes:
        bundle: The model.
        n_cells: Images.
        n_called: Of these, those that it would call.
        n_novel: Of these, those that are unlike the training cells.
    """

    bundle: Bundle
    n_cells: int
    n_called: int
    n_novel: int


@dataclass(frozen=True, slots=True)
class ClassLabels:
    """How many labels a class has at the site, and what to label next.

    Attributes:
        cell_class: The class, or a code out of scope.
        n_cells: Labelled cells.
        n_slides: Their slides.
        next_step: What to label next; empty if it has enough.
    """

    cell_class: str
    n_cells: int
    n_slides: int
    next_step: str


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What the page shows.

    Attributes:
        site: Name of the laboratory.
        images: Its images.
        scale: Their scale.
        likeness: How they look beside those that the first model knows; None if that is not known.
        uncalibrated: Each model as it is.
        fitted: Each model, calibrated, then committees; empty without enough labels.
        without_labels: Why nothing was calibrated; empty if it was.
        classes: Labels of each class.
        made_at: When.
    """

    site: str
    images: SiteImages
    scale: SiteScale
    likeness: Likeness | None
    uncalibrated: tuple[Uncalibrated, ...]
    fitted: tuple[FittedVariant | Committee, ...]
    without_labels: str
    classes: tuple[ClassLabels, ...]
    made_at: datetime


def report_site(
    images: SiteImages,
    bundles: Sequence[Bundle],
    settings: Settings,
    *,
    site: str,
    um_per_px: float | None = None,
    on_progress: OnProgress | None = None,
) -> SiteReport:
    """Returns how well models do at a site, as they are and calibrated.

    Args:
        images: The site's images, with or without labels.
        bundles: Models of no site.
        settings: Data folder, image bounds, batch size.
        site: Name of the laboratory.
        um_per_px: Micrometres per pixel of the images; None: estimated from red cells.
        on_progress: Called with the step's name, the amount done and the amount in all.

    Raises:
        TrainingDataError: The images are of several scales or grey.
        BundleError: A model cannot be used.
    """
    from bloodcell.errors import TrainingDataError

    tell = on_progress or (lambda step, done, total: None)
    scale = scale_of(images, settings, lambda done, total: tell("scale", done, total), um_per_px=um_per_px)
    cells: SiteCells | None = None
    why = ""
    try:
        cells, _ = with_known_looks(site_cells(images), settings, tell)
    except TrainingDataError as error:
        why = str(error)
    fitted = [fit_variant(bundle, cells, scale, settings, tell) for bundle in bundles] if cells else []
    return SiteReport(
        site=site,
        images=images,
        scale=scale,
        likeness=_likeness(images, bundles[0], settings, tell),
        uncalibrated=tuple(_as_it_is(bundle, images, settings, tell) for bundle in bundles),
        fitted=(*fitted, *committees_of(fitted, cells)) if cells else (),
        without_labels=why,
        classes=_class_labels(images),
        made_at=datetime.now(UTC),
    )


def site_page(report: SiteReport) -> str:
    """Returns the report as one self-contained HTML page."""
    best = max(report.fitted, key=_usable_then_accurate, default=None)
    return render_page(
        Path(__file__).with_name("site_report.html.j2"),
        report=report,
        best=best,
        may_be_used=best is not None and may_be_used(best.verdict),
        pictures=_pictures(best.comparison) if best else {},
        lines=_lines(best.comparison) if best else [],
        names=CLASS_NAMES,
        order=[(CELL_CLASSES.index(cell_class), cell_class) for cell_class in REPORT_ORDER],
        min_leucocytes=MIN_LEUCOCYTES,
        min_points=MIN_POINTS,
        min_cells=MIN_CELLS,
        max_files=_MAX_FILES,
        min_slides=MIN_SLIDES,
        code_version=code_version(),
    )


def _usable_then_accurate(made: FittedVariant | Committee) -> tuple[bool, float]:
    """Orders models as `bloodcell site calibrate` does: those that may be used first, then by accuracy."""
    figures = made.comparison.candidate
    return may_be_used(made.verdict), figures.accuracy.value if figures else 0.0


def _likeness(images: SiteImages, bundle: Bundle, settings: Settings, tell: OnProgress) -> Likeness | None:
    reference = read_looks(bundle)
    sample = images.images[:: max(1, len(images.images) // _MAX_LOOKS)][:_MAX_LOOKS]
    if reference is None or len(sample) < MIN_IMAGES:
        return None
    looks = looks_of(
        [image.image for image in sample], images.read, settings, lambda done, total: tell("looks", done, total)
    )
    return compared(reference, looks)


def _as_it_is(bundle: Bundle, images: SiteImages, settings: Settings, tell: OnProgress) -> Uncalibrated:
    outputs = parent_outputs_on(bundle, images.images, images.read, settings, None, tell)
    calls = calls_of_parent(bundle, outputs)
    novel = sum(reason == "novel" for reason in calls.reasons)
    return Uncalibrated(bundle, len(images.images), int((~calls.unclassified).sum()), novel)


def _class_labels(images: SiteImages) -> tuple[ClassLabels, ...]:
    """Returns the labels of the eight classes in the order of reports, then of the codes that a model can know."""
    counts = images.counts()
    rows = []
    for name in (*REPORT_ORDER, *sorted(counts.keys() - {*CELL_CLASSES, *UNDECIDED_CODES})):
        n_slides = len({image.slide for image in images.images if image.label == name})
        wanted = WANTED_CELLS if name in CELL_CLASSES else CLASS_OF_ITS_OWN
        lacking = [
            f"{counted(n, noun)} more"
            for n, noun in ((wanted - counts[name], "cell"), (WANTED_SLIDES - n_slides, "slide"))
            if n > 0
        ]
        rows.append(ClassLabels(name, counts[name], n_slides, ", of ".join(lacking)))
    return tuple(rows)


def _pictures(comparison: Comparison) -> dict[str, str]:
    """Returns name -> `data:` URI of each plot."""
    if comparison.candidate is None:
        return {}
    pictures = {
        "confusion": comparison_plots.confusion_plot(comparison, _ROLES),
        "reliability": comparison_plots.reliability_plot(comparison, _ROLES),
    }
    if comparison.candidate.out_of_scope.unclassified.total:
        pictures["novelty"] = comparison_plots.novelty_plot(comparison, _ROLES)
    if comparison.candidate.agreement.n_slides:
        pictures["agreement"] = comparison_plots.agreement_plot(comparison)
    return {name: f"data:image/png;base64,{base64.b64encode(body).decode()}" for name, body in pictures.items()}


def _lines(comparison: Comparison) -> list[tuple[str, float | None, float | None, float | None, Line | None]]:
    """Returns each leucocyte class with bias, limits of agreement, and the line of calls on labels."""
    if comparison.candidate is None:
        return []
    rows = []
    for each in comparison.candidate.agreement.classes:
        means, differences = np.array(each.means), np.array(each.differences)
        line = passing_bablok(means - differences / 2, means + differences / 2)
        rows.append((each.cell_class, each.bias, each.lower, each.upper, line))
    return rows
