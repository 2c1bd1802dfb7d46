"""The mean of a site's calibrated models of one base network, as one model: where they differ, it is less sure.

On slides that no label was drawn from, single calibrated models called 0.3 to 3.8 % of all cells wrongly, and the mean
of two 0.3 to 0.8 % (benchmarks/accuracy/ABLATIONS.md). Members see the same pixels and share the lower layers of their
network, so two cost less than twice the time of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.cells.variants import title_of
from bloodcell.registry.recipes import base_of
from bloodcell.site.site_comparison import SiteCalls
from bloodcell.site.site_fitting import judge_others, parts_of, thresholds_of
from bloodcell.site.site_head import Judged
from bloodcell.site.site_verdict import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bloodcell.cells.calls import Calls
    from bloodcell.evaluation.comparison_records import Comparison
    from bloodcell.registry.bundle import Bundle
    from bloodcell.site.fitted_variant import FittedVariant
    from bloodcell.site.site_cells import SiteCells
    from bloodcell.site.site_comparison import CodeFigures
    from bloodcell.site.site_fitting import SiteFit


@dataclass(frozen=True, slots=True)
class Committee:
    """The mean of several fitted variants.

    Attributes:
        members: The variants, at least two, of one base network.
        confidence_threshold: Confidence that a call needs.
        novelty_threshold: Largest distance of a call, where a member's own threshold counts as 1.
        judged: What is made of the labelled cells, by heads that were not fitted on their slide.
        calls: What these heads call them together.
        judging: bool (n,), the labelled cells that figures are of.
        comparison: What it does on slides that it was not fitted on, beside the first member's parent.
        codes: How it recognises the codes out of scope that it knows.
        verdict: What it may be used for, in sentences.
    """

    members: tuple[FittedVariant, ...]
    confidence_threshold: float
    novelty_threshold: float
    judged: Judged
    calls: Calls
    judging: NDArray[np.bool_]
    comparison: Comparison
    codes: tuple[CodeFigures, ...]
    verdict: tuple[str, ...]

    @property
    def parent(self) -> Bundle:
        """The first member's parent."""
        return self.members[0].parent

    @property
    def title(self) -> str:
        """The variants of its members."""
        return _title_of(self.members)


def committees_of(fitted: Sequence[FittedVariant], cells: SiteCells) -> tuple[Committee, ...]:
    """Returns a committee of each base network that has several fitted variants, which take images of one size.

    Args:
        fitted: The variants, fitted to the same cells.
        cells: These cells.
    """

    def kind(made: FittedVariant) -> tuple[str, int, int]:
        manifest = made.parent.manifest
        return base_of(manifest.variant), manifest.input_height_px, manifest.input_width_px

    groups = (tuple(members) for _, members in groupby(sorted(fitted, key=kind), kind))
    return tuple(_committee(members, cells) for members in groups if len(members) > 1)


def mean_of(judged: Sequence[Judged], thresholds: Sequence[float | NDArray[np.float64]]) -> Judged:
    """Returns the mean of what several models make of the same n cells, with distances in their thresholds.

    Args:
        judged: What each model makes of the cells.
        thresholds: The largest distance of a call of each model; of all cells, or float64 (n,) of each.
    """
    return Judged(
        np.mean([each.probabilities for each in judged], axis=0),
        np.mean([each.of_codes for each in judged], axis=0),
        mean_ratio([each.distance for each in judged], thresholds),
    )


def mean_ratio(
    distances: Sequence[NDArray[np.float64]], thresholds: Sequence[float | NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Returns the mean over several models of the distances (n,) of the same cells, each in its model's threshold."""
    return np.asarray(np.mean([each / own for each, own in zip(distances, thresholds, strict=True)], axis=0))


def combined(fits: Sequence[SiteFit], labels: NDArray[np.integer]) -> tuple[Judged, list[tuple[float, float]]]:
    """Returns what the mean of fitted variants makes of the labelled cells, and its thresholds.

    Args:
        fits: The variants, fitted to the same cells.
        labels: int (n,), the classes of these cells.

    Returns:
        What heads that were not fitted on a cell's slide make of it; and the confidence that a call needs and the
        largest distance of one: of each part of the slides, chosen on the others, then those chosen on all.
    """
    crossed = fits[0].crossed
    own = [fit.novelty_at(crossed.parts) for fit in fits]
    judged = mean_of([fit.judged for fit in fits], own)
    distance = mean_ratio([fit.crossed.distance for fit in fits], own)
    can_judge = np.logical_and.reduce([fit.crossed.can_judge for fit in fits])
    parts = (*range(len(crossed.heads)), -1)
    return judged, [
        thresholds_of(judged.probabilities, distance, labels, can_judge, crossed.parts != part) for part in parts
    ]


def _title_of(members: Sequence[FittedVariant]) -> str:
    return title_of("", [member.title for member in members], turns=1)


def _committee(members: tuple[FittedVariant, ...], cells: SiteCells) -> Committee:
    first, fits = members[0], [member.fit for member in members]
    judged, thresholds = combined(fits, cells.labels)
    parts = parts_of(first.fit, cells.slides, cells.out_of_scope_slides)
    outside = mean_of(
        [judge_others(member.fit, member.out_of_scope, parts) for member in members],
        [fit.novelty_at(parts) for fit in fits],
    )

    def calls_at(found: Judged, of_part: NDArray[np.integer]) -> Calls:
        confidence, novelty = np.array([thresholds[part] for part in of_part], np.float64).reshape(-1, 2).T
        return found.calls(confidence, novelty, cells.codes)

    calls, (confidence, novelty) = calls_at(judged, first.fit.crossed.parts), thresholds[-1]
    site = SiteCalls(_title_of(members), judged, calls, outside, calls_at(outside, parts), novelty)
    judging = np.logical_and.reduce([member.judging for member in members])
    measured = measure(site, first.parent, first.as_is, cells, judging, by_slide=first.fit.crossed.by_slide)
    return Committee(members, confidence, novelty, judged, calls, judging, *measured)
