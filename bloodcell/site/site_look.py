"""How a site's labelled images look, and which of the others look like them.

A calibrated model knows the looks of the slides on which it was measured, and no others: slides of another stain or
analyser, which have no labels, would otherwise be let through at night although nothing is known of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bloodcell.appearance.image_look import looks_of
from bloodcell.appearance.look_reference import are_alike
from bloodcell.training.bundle_training import looks_known_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.appearance.look_reference import LookReference
    from bloodcell.settings import Settings
    from bloodcell.site.site_cells import SiteCells

    OnProgress = Callable[[str, int, int], None]


def with_known_looks(cells: SiteCells, settings: Settings, tell: OnProgress) -> tuple[SiteCells, LookReference | None]:
    """Returns the cells without those unlabelled ones that look unlike the labelled ones, and how these look.

    Args:
        cells: The site's images, sorted.
        settings: Image bounds and reader threads.
        tell: Called with the step's name, the amount done and the amount in all.
    """
    told = sorted((*cells.labelled, *cells.out_of_scope), key=lambda image: image.sha256)
    known = looks_known_from(
        [image.image for image in told], cells.read, settings, lambda done, total: tell("looks", done, total)
    )
    if known is None or not cells.unlabelled:
        return cells, known
    looks = looks_of(
        [image.image for image in cells.unlabelled],
        cells.read,
        settings,
        lambda done, total: tell("looks of unlabelled images", done, total),
    )
    is_alike = are_alike(known, looks)
    chosen = tuple(image for image, alike in zip(cells.unlabelled, is_alike, strict=True) if alike)
    return replace(cells, unlabelled=chosen), known
