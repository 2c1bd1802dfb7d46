"""A laboratory's images become bundles that are fitted to it: scale, head, temperature and thresholds of each variant.

The networks stay as they are. Their outputs are cached, so a calibration that was killed resumes where it was when it
is called again with the same images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.site.fitted_variant import fit_variant
from bloodcell.site.site_bundle import write_site_bundle
from bloodcell.site.site_cells import site_cells
from bloodcell.site.site_committee import committees_of
from bloodcell.site.site_look import with_known_looks
from bloodcell.site.site_scale import scale_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.site.fitted_variant import FittedVariant
    from bloodcell.site.site_committee import Committee
    from bloodcell.site.site_images import SiteImages

    OnProgress = Callable[[str, int, int], None]


def calibrate(
    images: SiteImages,
    parents: Sequence[Bundle],
    settings: Settings,
    *,
    site: str,
    um_per_px: float | None = None,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Bundle, ...]:
    """Returns the bundles of `parents`, calibrated for a site, then those of the committees of each base network.

    Args:
        images: The site's images, 100 to 400 of them with a label, from several slides.
        parents: Bundles of no site, one for each variant.
        settings: Data folder, image bounds, batch size.
        site: Name of the laboratory, or of one of its analysers.
        um_per_px: Micrometres per pixel of the images; None: estimated from red cells.
        out: Folder that the bundles are written into, default `<data_dir>/bundles`.
        on_progress: Called with the step's name, the amount done and the amount in all.

    Raises:
        TrainingDataError: Too few cells are labelled, only one class is, or the images are of several scales or grey.
        BundleError: A parent cannot be used.
    """
    tell = on_progress or (lambda step, done, total: None)
    cells = site_cells(images)
    scale = scale_of(images, settings, lambda done, total: tell("scale", done, total), um_per_px=um_per_px)
    cells, looks = with_known_looks(cells, settings, tell)
    place = out or settings.data_dir / "bundles"
    fitted = [fit_variant(parent, cells, scale, settings, tell) for parent in parents]
    made: list[FittedVariant | Committee] = [*fitted, *committees_of(fitted, cells)]
    return tuple(write_site_bundle(each, images, cells, scale, looks, site=site, out=place) for each in made)
