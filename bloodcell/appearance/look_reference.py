"""The looks that a model knows, and how unlike them a slide is.

A bundle keeps the looks of some of its training images, or of a site's, in the file `look.npz`. A slide is compared by
the distance of its images to the nearest looks that are known, so that a model may know several stains. The images of a
slide are unlike the known ones if their median distance is more than one and a half times what nine in ten known images
have among themselves; slides of the own laboratory reach a third to two thirds of that, slides of other laboratories
four to nine times as much (benchmarks/accuracy/ABLATIONS.md).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.appearance.image_look import LOOK
from bloodcell.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bloodcell.registry.bundle import Bundle

LOOKS: Final = "look.npz"
MAX_IMAGES: Final = 512
MIN_IMAGES: Final = 20
"""Images without which nothing is judged: the median of fewer is too uncertain, and a site has to show some slides."""

_NEIGHBOURS: Final = 5
_OWN_SHARE: Final = 0.9  # of the known images, whose distance to the others is below the threshold without the margin
_MARGIN: Final = 1.5  # a slide that the model has not seen may differ more than images of slides that it has
_LEAST_SPREADS: Final = np.array([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.05, 0.05, 0.04])
"""Smallest spread of each figure of a look: levels, and logarithms; what a photograph taken again differs by."""


@dataclass(frozen=True)
class LookReference:
    """Looks that a model knows.

    Attributes:
        looks: float32 (n, 9), in the order of `LOOK`; the diameter of red cells may be nan.
    """

    looks: NDArray[np.float32]

    def __post_init__(self) -> None:
        is_number = np.isfinite(self.looks)
        if (
            self.looks.dtype != np.float32
            or self.looks.ndim != 2
            or self.looks.shape[1] != len(LOOK)
            or not MIN_IMAGES <= len(self.looks) <= MAX_IMAGES
            or not is_number[:, :-1].all()
        ):
            raise ValueError(
                f"expected {MIN_IMAGES} to {MAX_IMAGES} looks, float32 (n, {len(LOOK)}), received {self.looks.dtype} "
                f"{self.looks.shape}, or figures that are not finite"
            )

    @cached_property
    def scale(self) -> LookScale:
        """What distances from the known looks are measured with; comparing them among themselves takes 20 ms."""
        known = self.looks.astype(np.float64)
        middle = _medians(known)
        spread = np.fmax(1.4826 * _medians(np.abs(known - middle)), _LEAST_SPREADS)
        scaled = _scaled(known, middle, spread)
        own = np.sort(_distances(scaled, scaled), axis=1)[:, 1 : _NEIGHBOURS + 1].max(axis=1)
        return LookScale(middle, spread, scaled, _MARGIN * float(np.quantile(own, _OWN_SHARE)))

    def distances_of(self, looks: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns the distance of each look (n, 9) to the nearest known ones: float64 (n,)."""
        scaled = _scaled(looks, self.scale.middle, self.scale.spread)
        return np.asarray(np.sort(_distances(scaled, self.scale.scaled), axis=1)[:, _NEIGHBOURS - 1])


@dataclass(frozen=True, slots=True)
class LookScale:
    """What distances from known looks are measured with.

    Attributes:
        middle: float64 (9,), median of each figure.
        spread: float64 (9,), its robust standard deviation, at least the smallest.
        scaled: float64 (n, 9), the known looks in these units.
        threshold: Distance above which images are unlike them.
    """

    middle: NDArray[np.float64]
    spread: NDArray[np.float64]
    scaled: NDArray[np.float64]
    threshold: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """How unlike the known looks some images are.

    Attributes:
        n_images: Images compared.
        distance: Median of their distances to the nearest known looks.
        threshold: Distance above which they are unlike them.
        figures: Name of each figure of `LOOK` -> its median among the known looks, among the images, and the
            difference in units of the known looks' spread; nan where nothing was measured.
    """

    n_images: int
    distance: float
    threshold: float
    figures: dict[str, tuple[float, float, float]]

    @property
    def is_alike(self) -> bool:
        """Whether the images look like those that the model knows."""
        return self.distance <= self.threshold

    @property
    def most_different(self) -> list[str]:
        """Names of the figures that differ by more than three spreads, the most different first."""
        by_difference = sorted(self.figures.items(), key=lambda item: -abs(np.nan_to_num(item[1][2])))
        return [name for name, (_, _, difference) in by_difference if abs(difference) > 3]


def compared(reference: LookReference, looks: NDArray[np.floating]) -> Likeness:
    """Returns how unlike the known looks some images are.

    Args:
        reference: The known looks.
        looks: float (n, 9), at least `MIN_IMAGES`.
    """
    scale, found = reference.scale, _medians(looks)
    difference = (found - scale.middle) / scale.spread
    return Likeness(
        n_images=len(looks),
        distance=float(np.median(reference.distances_of(looks))),
        threshold=scale.threshold,
        figures={name: (float(scale.middle[i]), float(found[i]), float(difference[i])) for i, name in enumerate(LOOK)},
    )


def are_alike(reference: LookReference, looks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Returns whether each look is like those that are known, by itself: bool (n,).

    Args:
        reference: The known looks.
        looks: float (n, 9).
    """
    return np.asarray(reference.distances_of(looks) <= reference.scale.threshold)


def _scaled(
    rows: NDArray[np.floating], middle: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    # an image whose red cells cannot be measured counts as typical
    return np.asarray(np.nan_to_num((rows - middle) / spread))


def _medians(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the median of each column without what is nan; nan where nothing else is there."""
    columns = (column[~np.isnan(column)] for column in rows.T)
    return np.array([np.median(column) if len(column) else np.nan for column in columns], np.float64)


def _distances(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.linalg.norm(rows[:, None] - others[None], axis=2)
    return distances


def look_reference(looks: NDArray[np.floating]) -> LookReference | None:
    """Returns the reference of these looks, at most `MAX_IMAGES` of them; None with fewer than `MIN_IMAGES`.

    Args:
        looks: float (n, 9), in an order that has nothing to do with how the images look.
    """
    if len(looks) < MIN_IMAGES:
        return None
    return LookReference(np.asarray(looks[:MAX_IMAGES], np.float32))


def write_looks(path: Path, reference: LookReference) -> None:
    """Writes the looks; the same looks give the same bytes."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, looks=reference.looks)


def read_looks(bundle: Bundle) -> LookReference | None:
    """Returns the looks in a bundle; None for a bundle of an earlier release, which has none.

    Raises:
        BundleError: The file is damaged.
    """
    if LOOKS not in bundle.manifest.files:
        return None
    body = bundle.read(LOOKS)
    try:
        if len(body) > MAX_IMAGES * len(LOOK) * 4 + 2**12:
            raise ValueError(f"received {len(body):,} bytes, which is too much")
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return LookReference(arrays["looks"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BundleError(
            f"Model bundle refused: {bundle.folder / LOOKS} is not what training writes: {error}. Restore the bundle "
            "from its source, or train again.",
            folder=str(bundle.folder),
        ) from error
