"""Images that show none of the eight classes, made from training images, so that a network learns what it cannot name.

A network that knows only eight classes gives the rest to the class that needs the least evidence: trained without such
images, one called 70 % of fields without any white cell a platelet (benchmarks/accuracy/ABLATIONS.md). None of these
images looks like a blast or another cell that people know; these are found by their distance (`novelty`).
Source: Hendrycks, Mazeika and Dietterich 2019, Deep Anomaly Detection with Outlier Exposure, arXiv:1812.04606.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_KINDS: Final = (0.4, 0.2, 0.15, 0.15, 0.1)
"""Shares of `_beside`, `_two_cells`, `_broken`, `_smeared` and `_blurred`; fields beside cells are the commonest."""


def outlier(cell: NDArray[np.uint8], other: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns an image that shows no single, whole and sharp cell.

    Args:
        cell: uint8 (side, side, 3), RGB, an image of a cell.
        other: Another one, of the same size.
        random: The only source of randomness.

    Returns:
        uint8 (side, side, 3), RGB.
    """
    kind = int(random.choice(len(_KINDS), p=_KINDS))
    makers: tuple[Callable[[], NDArray[np.uint8]], ...] = (
        lambda: _beside(cell, random),
        lambda: _two_cells(cell, other, random),
        lambda: _broken(cell, random),
        lambda: _smeared(cell, random),
        lambda: _blurred(cell, random),
    )
    return makers[kind]()


def _beside(cell: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the field with a point near its border in the middle; what is missing is mirrored."""
    side_px = len(cell)
    angle = random.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)]) / max(abs(np.sin(angle)), abs(np.cos(angle)))
    top, left = (side_px // 2 + direction * random.uniform(0.34, 0.47) * side_px).astype(int)
    margin = side_px // 2
    wide = np.pad(cell, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    return np.ascontiguousarray(wide[top : top + side_px, left : left + side_px])


def _two_cells(cell: NDArray[np.uint8], other: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns parts of two cells on either side of a line through the middle."""
    side_px = len(cell)
    angle, reach = random.uniform(0, 2 * np.pi), random.uniform(0.08, 0.16) * side_px
    step = (int(reach * np.sin(angle)), int(reach * np.cos(angle)))
    rows, columns = np.mgrid[:side_px, :side_px] - side_px / 2
    is_first = (rows * np.sin(angle) + columns * np.cos(angle) > 0)[..., None]
    moved_back = (-step[0], -step[1])
    return np.where(is_first, np.roll(cell, step, (0, 1)), np.roll(other, moved_back, (0, 1)))


def _broken(cell: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the cell with the blocks of its middle in another order."""
    side_px = len(cell)
    block_px = int(random.integers(max(2, side_px // 40), side_px // 12 + 3))
    n_blocks = max(2, int(0.44 * side_px) // block_px)
    start = (side_px - n_blocks * block_px) // 2
    middle = slice(start, start + n_blocks * block_px)
    shape = (n_blocks, block_px, n_blocks, block_px, 3)
    blocks = cell[middle, middle].reshape(shape).swapaxes(1, 2).reshape(-1, block_px, block_px, 3)
    blocks = blocks[random.permutation(len(blocks))]
    result = cell.copy()
    tiles = blocks.reshape(n_blocks, n_blocks, block_px, block_px, 3).swapaxes(1, 2)
    result[middle, middle] = tiles.reshape(n_blocks * block_px, n_blocks * block_px, 3)
    return result


def _smeared(cell: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the cell drawn out along a line."""
    reach, angle = random.uniform(0.04, 0.1) * len(cell), random.uniform(0, np.pi)
    steps = [(int(reach * part * np.sin(angle)), int(reach * part * np.cos(angle))) for part in np.linspace(-1, 1, 7)]
    return np.asarray(np.mean([np.roll(cell, step, (0, 1)) for step in steps], axis=0), np.uint8)


def _blurred(cell: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the cell far out of focus."""
    radius_px = random.uniform(0.02, 0.05) * len(cell)
    return np.asarray(Image.fromarray(cell).filter(ImageFilter.GaussianBlur(radius_px)))
