"""Outlines, lobes, textures and granules: the geometry of drawn cells.

A shape is an inside distance: float32 (n, n), in pixels, positive inside, zero on the border, negative outside.
Shapes join with `merged` and become soft masks with `cover`; `bloodcell.drawing.sheet` decides what is laid where.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Point = tuple[float, float]

_ANGLES: Final = np.linspace(0, 2 * np.pi, 1024, endpoint=False)
"""Directions in which an outline is computed: less than a pixel apart on the largest cell."""

_WAVES: Final = np.stack([wave(order * _ANGLES) for order in (2, 3, 4) for wave in (np.cos, np.sin)])
_WAVE_SIZES: Final = np.repeat([0.7, 0.35, 0.2], 2)
"""Waves of an outline, two to four around it, and their sizes: broad ones are larger."""


def noise(rng: np.random.Generator, side: int, grain: float) -> Plane:
    """Returns smooth noise, float32 (side, side), mean 0, standard deviation about 0.7, bumps of `grain` px."""
    n = max(3, round(side / grain))
    coarse = Image.fromarray(rng.standard_normal((n, n), dtype=np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def cover(inside: Plane, softness: float = 1.6) -> Plane:
    """Returns the soft mask of a shape, 0 to 1, with a border `softness` pixels wide."""
    mask: Plane = np.clip(inside / np.float32(softness) + np.float32(0.5), 0, 1)
    return mask


def outline(rng: np.random.Generator, x: Plane, y: Plane, radius: float, uneven: float, ragged: float = 0.0) -> Plane:
    """Returns a roundish closed border.

    Args:
        rng: Source of its shape.
        x: Coordinates in pixels from its middle.
        y: Coordinates in pixels from its middle.
        radius: Mean radius in pixels.
        uneven: Size of its two to four broad bulges as a share of the radius.
        ragged: Size of its fine projections as a share of the radius.
    """
    bulges = rng.normal(size=_WAVES.shape[0]) * _WAVE_SIZES * uneven
    edge = np.clip(1 + bulges @ _WAVES, 0.75, 1.2)
    if ragged:
        teeth = np.abs(rng.normal(size=int(rng.integers(14, 40))))
        edge += ragged * np.interp(_ANGLES, np.linspace(0, 2 * np.pi, teeth.size + 1), [*teeth, teeth[0]])
    steps = np.arctan2(y, x) * np.float32(_ANGLES.size / (2 * np.pi))
    inside: Plane = (radius * edge).astype(np.float32)[steps.astype(np.intp)] - np.hypot(x, y)
    return inside


def ellipse(x: Plane, y: Plane, middle: Point, radii: Point, turn: float = 0.0) -> Plane:
    """Returns an ellipse with its first axis turned by `turn` radians; lengths in pixels."""
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = x - np.float32(middle[0]), y - np.float32(middle[1])
    u = (dx * cos + dy * sin) / np.float32(radii[0])
    v = (dy * cos - dx * sin) / np.float32(radii[1])
    return (1 - np.hypot(u, v)) * np.float32(min(radii))


def limb(x: Plane, y: Plane, start: Point, end: Point, widths: Point) -> Plane:
    """Returns a stretch from `start` to `end` with round ends; its half width runs from `widths[0]` to `widths[1]`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    along: Plane = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(dx * dx + dy * dy + 1e-6), 0, 1)
    gap = np.hypot(px - along * np.float32(dx), py - along * np.float32(dy))
    return np.float32(widths[0]) + along * np.float32(widths[1] - widths[0]) - gap


def chain(x: Plane, y: Plane, points: Sequence[Point], widths: Sequence[float]) -> Plane:
    """Returns limbs along `points`, each point with its half width: a band, a horseshoe or a kidney."""
    joints = pairwise(zip(points, widths, strict=True))
    return merged([limb(x, y, start, end, (first, last)) for (start, first), (end, last) in joints])


def merged(shapes: Sequence[Plane], softness: float = 3.0) -> Plane:
    """Returns the union of shapes, with inner corners rounded over about `softness` pixels."""
    whole = shapes[0]
    for shape in shapes[1:]:
        near = np.clip(np.float32(softness) - np.abs(whole - shape), 0, None)
        whole = np.maximum(whole, shape) + near * near * np.float32(0.25 / softness)
    return whole


def arc(middle: Point, radius: float, first: float, last: float, n: int) -> list[Point]:
    """Returns `n` points on a circle from angle `first` to `last`, in radians."""
    return [
        (middle[0] + radius * float(np.cos(a)), middle[1] + radius * float(np.sin(a)))
        for a in np.linspace(first, last, n)
    ]


def granules(
    rng: np.random.Generator, where: Plane, spacing: float, radii: Point, share: float = 1.0, margin: float = 0.0
) -> Plane:
    """Returns the mask of granules scattered evenly inside a shape, 0 to 1.

    Args:
        rng: Source of their places and sizes.
        where: Shape they lie in.
        spacing: Mean distance between neighbours, in pixels.
        radii: Smallest and largest radius, in pixels.
        share: Share of the places that hold a granule.
        margin: Smallest inside distance of a granule's middle; negative lets granules stick out.
    """
    side = where.shape[0]
    ticks = np.arange(0, side, spacing, dtype=np.float32)
    rows, columns = (plane.ravel() for plane in np.meshgrid(ticks, ticks))
    places = np.stack([rows, columns], 1) + rng.normal(0, 0.35 * spacing, (rows.size, 2))
    reach = int(np.ceil(radii[1])) + 1
    nearest = np.rint(places).astype(np.intp)
    kept = ((nearest >= reach) & (nearest < side - reach)).all(axis=1) & (rng.random(rows.size) < share)
    places, nearest = places[kept], nearest[kept]
    kept = where[nearest[:, 0], nearest[:, 1]] > margin
    places, nearest = places[kept].astype(np.float32), nearest[kept]

    offsets = np.arange(-reach, reach + 1)
    near = offsets.astype(np.float32)
    shift = (nearest - places).astype(np.float32)
    gap = np.hypot((near + shift[:, :1])[:, :, None], (near + shift[:, 1:])[:, None, :])
    sizes = rng.uniform(*radii, places.shape[0]).astype(np.float32)
    stamps = np.clip(sizes[:, None, None] - gap + np.float32(0.5), 0, 1)
    cells = (nearest[:, :1] + offsets)[:, :, None] * side + (nearest[:, 1:] + offsets)[:, None, :]
    mask = np.zeros(side * side, np.float32)
    np.maximum.at(mask, cells.ravel(), stamps.ravel())
    return mask.reshape(side, side)
