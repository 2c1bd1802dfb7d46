"""The size at which a model sees an image, and how much of the image it sees."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Height and width that an image is brought to for a model.

    Attributes:
        height_px: Height, in pixels of the model's input.
        width_px: Width, in pixels of the model's input.
        field_px: Side of the square in the middle of the image that is scaled to this size, in pixels of the image;
            beyond the image's border it is mirrored. None for the whole image, whatever its size.
    """

    height_px: int
    width_px: int
    field_px: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixels of one image, (height, width, 3)."""
        return self.height_px, self.width_px, 3
