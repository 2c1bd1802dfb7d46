"""A site's images, sorted for fitting: of a class, of a code that the head learns, of another code, without a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES, UNDECIDED_CODES
from bloodcell.errors import TrainingDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from bloodcell.cells.labelled_image import LabelledImage
    from bloodcell.site.site_images import SiteImage, SiteImages

MIN_LABELLED: Final = 20
"""Labelled cells without which nothing is fitted: with fewer, not even 80 % can be told from chance in two classes."""

CLASS_OF_ITS_OWN: Final = 20
"""Labels from which a model knows a code out of scope: it leaves such cells unclassified, and says which code."""


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
        read: Returns an image's file.
    """

    labelled: tuple[SiteImage, ...]
    labels: NDArray[np.int64]
    slides: NDArray[np.int64]
    out_of_scope: tuple[SiteImage, ...]
    unlabelled: tuple[SiteImage, ...]
    codes: tuple[str, ...]
    read: Callable[[LabelledImage], bytes]

    @property
    def out_of_scope_slides(self) -> NDArray[np.int64]:
        """The slides of `out_of_scope`, int64 (m,), with the numbers of `slides` where they are the same."""
        known = {image.slide: int(slide) for image, slide in zip(self.labelled, self.slides, strict=True)}
        return np.array([known.setdefault(image.slide, len(known)) for image in self.out_of_scope], np.int64)


def site_cells(images: SiteImages) -> SiteCells:
    """Returns a site's images, sorted for fitting.

    Raises:
        TrainingDataError: Too few cells are labelled, or only one class is.
    """
    counts = images.counts()
    others = sorted(set(counts) - {*CELL_CLASSES, *UNDECIDED_CODES})  # an undecided cell may look like anything
    codes = tuple(name for name in others if counts[name] >= CLASS_OF_ITS_OWN)
    names = (*CELL_CLASSES, *codes)
    labelled = tuple(image for image in images.images if image.label in names)
    labels = np.array([names.index(image.label or "") for image in labelled], np.int64)
    _refuse_too_few(labels)
    _refuse_some_without_slide(labelled)
    slides = np.unique([image.slide for image in labelled], return_inverse=True)[1].astype(np.int64)
    out_of_scope = tuple(image for image in images.out_of_scope if image.label not in names)
    return SiteCells(labelled, labels, slides, out_of_scope, images.unlabelled, codes, images.read)


def _refuse_some_without_slide(labelled: tuple[SiteImage, ...]) -> None:
    n_without = sum(not image.slide for image in labelled)
    if 0 < n_without < len(labelled):
        raise TrainingDataError(
            f"{n_without} of {len(labelled)} labelled images name no slide, so they may be of the slides that judge "
            "the models. Next: put them into a folder for each slide, or fill in the column slide."
        )


def _refuse_too_few(labels: NDArray[np.int64]) -> None:
    in_scope = labels[labels < len(CELL_CLASSES)]
    if len(in_scope) < MIN_LABELLED or len(np.unique(in_scope)) < 2:
        classes = np.bincount(in_scope, minlength=len(CELL_CLASSES))
        received = ", ".join(f"{n} {name}" for name, n in zip(CELL_CLASSES, classes, strict=True) if n) or "none"
        raise TrainingDataError(
            f"Too few labelled cells to calibrate: expected at least {MIN_LABELLED} of two or more of the eight "
            f"classes, better 25 of each class from five slides; received {received}. Next: label more cells."
        )
