"""The sheet that one cell is drawn on, with what all portraits share: cytoplasm, nucleus, granules, vacuoles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.drawing.shapes import cover, ellipse, granules, noise, outline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.drawing.palette import Ink, Stain
    from bloodcell.drawing.shapes import Plane


@dataclass(frozen=True, slots=True)
class Portrait:
    """One cell on a transparent sheet.

    Attributes:
        layers: float32 (4, n, n), RGB premultiplied by the cover (0 to 255), and the cover (0 to 1).
        radius_px: Radius of the cell: red cells keep away from it.
    """

    layers: NDArray[np.float32]
    radius_px: float


class Sheet:
    """A square, transparent sheet around the outline of one cell.

    Attributes:
        rng: Source of all variation.
        stain: How its slide is stained.
        radius: Mean radius of the cell, in pixels.
        x, y: float32 (n, n), coordinates in pixels from the middle.
        body: The cell's outline, an inside distance.
        layers: As in `Portrait`. Channels come first so that numpy runs over whole planes, not over triples.
    """

    def __init__(self, rng: np.random.Generator, stain: Stain, radius: float, uneven: float, ragged: float = 0) -> None:
        self.rng, self.stain, self.radius = rng, stain, radius
        half = int(radius * 1.3) + 8  # bulges reach 1.2 radii
        axis = np.arange(-half, half + 1, dtype=np.float32)
        self.x, self.y = np.meshgrid(axis, axis)
        self.body = outline(rng, self.x, self.y, radius, uneven, ragged)
        self.layers = np.zeros((4, axis.size, axis.size), np.float32)

    def paint(self, mask: Plane, colour: NDArray[np.float32]) -> None:
        """Lays `colour`, float32 (3, 1, 1) or (3, n, n), over the sheet; `mask` is float32 (n, n), 0 to 1."""
        self.layers *= 1 - mask
        self.layers[:3] += mask * colour
        self.layers[3] += mask

    def shaken(self, amount: float, grain: float) -> tuple[Plane, Plane]:
        """Returns the coordinates, moved by about `amount` pixels in bumps of `grain` pixels so that lines waver."""
        side = self.x.shape[0]
        return self.x + amount * noise(self.rng, side, grain), self.y + amount * noise(self.rng, side, grain)

    def colours(self, ink: Ink, clear: Plane) -> NDArray[np.float32]:
        """Returns the colours between the two ends of `ink`; `clear` is 0 at the dark end, 1 at the light one."""
        dark, light = self.stain.of(ink.dark), self.stain.of(ink.light)
        return dark + np.clip(clear, 0, 1) * (light - dark)

    def cytoplasm(self, ink: Ink, grain: float = 9.0, contrast: float = 0.35, opacity: float = 0.95) -> None:
        """Fills the body with a cloudy background."""
        clear = np.float32(0.5) + np.float32(contrast) * noise(self.rng, self.x.shape[0], grain)
        rim = np.clip(1 - self.body / np.float32(3.5), 0, 1) * np.float32(0.35)
        self.paint(cover(self.body) * np.float32(opacity), self.colours(ink, clear - rim))

    def nucleus(self, shape: Plane, ink: Ink, grain: float = 4.5, clear: float = 0.2, contrast: float = 0.45) -> Plane:
        """Fills a nucleus with chromatin, denser along its border; returns its shape, kept within the body."""
        shape = np.minimum(shape, self.body - np.float32(1.5))
        chromatin = np.float32(clear) + np.float32(contrast) * noise(self.rng, self.x.shape[0], grain)
        chromatin *= np.clip(shape / np.float32(5), 0, 1)
        self.paint(cover(shape), self.colours(ink, chromatin))
        return shape

    def speckle(
        self,
        where: Plane,
        colour: tuple[int, int, int],
        spacing: float,
        radii: tuple[float, float],
        *,
        share: float = 1.0,
        opacity: float = 0.8,
        margin: float = 0.0,
    ) -> None:
        """Scatters granules of one colour inside a shape."""
        mask = granules(self.rng, where, spacing, radii, share, margin)
        self.paint(mask * np.float32(opacity), self.stain.of(colour))

    def bubbles(self, n: int, radii: tuple[float, float]) -> None:
        """Adds `n` vacuoles, as clear as the background."""
        for _ in range(n):
            angle, far = self.rng.uniform(0, 2 * np.pi), self.radius * self.rng.uniform(0.25, 0.8)
            middle = (far * np.cos(angle), far * np.sin(angle))
            size = self.rng.uniform(*radii)
            hole = np.minimum(ellipse(self.x, self.y, middle, (size, size * 0.85)), self.body - np.float32(2))
            self.paint(cover(hole) * np.float32(0.75), self.stain.of((246, 222, 206)))

    def finished(self) -> Portrait:
        return Portrait(self.layers, self.radius)
