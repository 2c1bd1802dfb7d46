"""A variant fitted to a site, and what it does on slides that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.errors import ConfigurationError, TrainingDataError
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import images_of
from bloodcell.site.site_comparison import SiteCalls
from bloodcell.site.site_fitting import SiteFit, fit_site, judge_others, parts_of
from bloodcell.site.site_head import SiteOutputs
from bloodcell.site.site_model import parent_outputs
from bloodcell.site.site_verdict import measure
from bloodcell.training.feature_cache import cached_outputs
from bloodcell.training.image_changes import AS_IS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_comparison import CodeFigures
    from bloodcell.site.site_images import SiteImage
    from bloodcell.site.site_scale import SiteScale

    OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class FittedVariant:
    """A variant that was fitted to a site.

    Attributes:
        parent: The bundle whose network it has.
        fit: Its head and thresholds.
        labelled: The parent's outputs for the labelled cells.
        out_of_scope: The parent's outputs for the cells of codes that the head does not know.
        judging: bool (n,), the labelled cells that figures are of: those of slides that the parent was not trained on.
        as_is: As `labelled` and then `out_of_scope`, but of whole images, which the parent sees at night.
        comparison: What it does on slides that it was not fitted on, beside its parent.
        codes: How it recognises the codes out of scope that it knows.
        verdict: What it may be used for, in sentences.
    """

    parent: Bundle
    fit: SiteFit
    labelled: SiteOutputs
    out_of_scope: SiteOutputs
    judging: NDArray[np.bool_]
    as_is: SiteOutputs
    comparison: Comparison
    codes: tuple[CodeFigures, ...]
    verdict: tuple[str, ...]

    @property
    def title(self) -> str:
        """Its variant."""
        return self.parent.manifest.variant


def fit_variant(
    parent: Bundle, cells: SiteCells, scale: SiteScale, settings: Settings, tell: OnProgress
) -> FittedVariant:
    """Returns a variant, fitted to a site; nothing is written but the cache of outputs.

    Args:
        parent: A bundle of no site.
        cells: The site's images.
        scale: Their scale.
        settings: Data folder, image bounds, batch size.
        tell: Called with the step's name, the amount done and the amount in all.

    Raises:
        ConfigurationError: The bundle is of a site, or averages over turns.
        TrainingDataError: The parent was trained on cells of all labelled slides, so nothing can be measured.
    """
    _refuse_derived(parent)
    variant, n_labelled = parent.manifest.variant, len(cells.labelled)
    everything = (*cells.labelled, *cells.out_of_scope, *cells.unlabelled)
    outputs = parent_outputs_on(parent, everything, cells.read, settings, scale.field_px, tell)
    labelled, others = outputs[:n_labelled], outputs[n_labelled:]
    judging = _new_to(parent, cells)
    fit = fit_site(
        parent, labelled, cells.labels, cells.slides, others, cells.codes,
        lambda done, total: tell(f"{variant}: cross-fit", done, total),
        may_judge=judging,
    )  # fmt: skip
    outside = others[: len(cells.out_of_scope)]
    told = n_labelled + len(outside.novelty)
    as_is = outputs[:told]
    if scale.field_px is not None:
        as_is = parent_outputs_on(parent, everything[:told], cells.read, settings, None, tell)
    parts = parts_of(fit, cells.slides, cells.out_of_scope_slides)
    outside_judged = judge_others(fit, outside, parts)
    outside_calls = fit.calls_at(outside_judged, parts)
    site = SiteCalls(variant, fit.judged, fit.calls, outside_judged, outside_calls, fit.novelty_threshold)
    measured = measure(site, parent, as_is, cells, judging, by_slide=fit.crossed.by_slide)
    return FittedVariant(parent, fit, labelled, outside, judging, as_is, *measured)


def _new_to(parent: Bundle, cells: SiteCells) -> NDArray[np.bool_]:
    """Returns which labelled cells are of slides that the parent was not trained on, bool (n,)."""
    seen = images_of(parent)
    is_seen = np.array([image.sha256 in seen for image in cells.labelled], bool)
    is_new = ~np.isin(cells.slides, cells.slides[is_seen])
    if not is_new.any():
        raise TrainingDataError(
            f"Model {parent.model_id[:12]} was trained on cells of all labelled slides, so nothing can be measured on "
            "them. Next: label cells of other slides, or start from a shipped model."
        )
    return is_new


def _refuse_derived(parent: Bundle) -> None:
    of_site, origin = parent.manifest.site, parent.manifest.turned_from
    if of_site or origin:
        raise ConfigurationError(
            f"Model {parent.model_id[:12]} cannot be calibrated: it is itself calibrated, or a turned copy. Next: "
            f"start from model {(of_site.parent_id if of_site else origin)[:12]}."
        )


def parent_outputs_on(
    parent: Bundle,
    images: Sequence[SiteImage],
    read: Callable[[LabelledImage], bytes],
    settings: Settings,
    field_px: float | None,
    tell: OnProgress,
) -> SiteOutputs:
    """Returns what a parent makes of images, from the cache or computed now.

    Args:
        parent: A bundle of no site.
        images: The images.
        read: Returns an image's file.
        settings: Data folder, image bounds, batch size.
        field_px: Side of the middle of an image that the model sees; None: the whole image.
        tell: Called with the step's name, the amount done and the amount in all.
    """
    network = parent_outputs(load_model(parent), parent.manifest.variant)
    rows = cached_outputs(
        network,
        network.output,
        [image.image for image in images],
        read=read,
        change=AS_IS,
        cache=settings.data_dir / "training" / "features",
        settings=settings,
        on_image=lambda done, total: tell(f"{parent.manifest.variant}: images", done, total),
        field_px=field_px,
    )
    return SiteOutputs(rows["features"][:], rows["probabilities"][:], rows["novelty"][:])
