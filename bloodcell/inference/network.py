"""What the prediction loop can run: anything that takes batches of pixels in given sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bloodcell.cells.image_size import Size

Output = TypeVar("Output", covariant=True)


class Network(Protocol[Output]):
    """A `MergedNetwork`, a `FeatureExtractor`, or anything else that turns pixels into outputs."""

    @property
    def input_sizes(self) -> tuple[Size, ...]:
        """The distinct sizes of the images that the network takes."""

    def __call__(self, pixels: Mapping[Size, NDArray[np.uint8]], /) -> Output:
        """Returns the network's output for n cells.

        Args:
            pixels: For each of `input_sizes` the same n cells: uint8 (n, height, width, 3), RGB.
        """
