"""Runs the champion over a sample of cells again, for their embeddings, which no row keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.errors import BundleError, StoreUnavailableError
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.predicting import predict
from bloodcell.inference.read_ahead import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.monitoring.called_nights import SampledCell
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.storage.store import Store


@dataclass(frozen=True, slots=True)
class Embedded:
    """The champion's output for n cells.

    Attributes:
        embedding: float32 (n, d).
        top: int64 (n,), index into `CELL_CLASSES` of the most probable class.
        slide_buckets: int64 (n,), slide bucket of each.
        failures: Why other cells of the sample could not be read.
    """

    embedding: NDArray[np.float32]
    top: NDArray[np.int64]
    slide_buckets: NDArray[np.int64]
    failures: tuple[str, ...]


def embed(
    bundle: Bundle,
    cells: Sequence[SampledCell],
    store: Store,
    settings: Settings,
    on_cells: Callable[[int, int], None],
) -> Embedded:
    """Returns the champion's embedding of a sample of cells.

    Args:
        bundle: The champion's bundle.
        cells: The sample, at least one cell.
        store: Where their images are.
        settings: Image bounds, reader threads and batch size.
        on_cells: Called with the number of cells done, and the total.

    Raises:
        StoreUnavailableError: The store is unavailable, or none of the images can be read.
        BundleError: The model cannot be loaded safely, or its embeddings are not finite.
    """
    network = MergedNetwork((bundle,), batch_cells=settings.batch_cells)
    skipped = Skipped(store.check)
    images, bucket_of = [cell.image for cell in cells], {cell.image.cell_id: cell.slide_bucket for cell in cells}
    embeddings, tops, slide_buckets = [], [], []
    for batch, outputs in predict(network, images, lambda cell: store.read_image(cell.sha256), settings, skipped):
        output = outputs[bundle.model_id]
        embeddings.append(output.embedding)
        tops.append(output.probabilities.argmax(axis=1))
        slide_buckets += [bucket_of[cell.cell_id] for cell in batch]
        on_cells(len(slide_buckets), len(cells))
    if not slide_buckets:
        raise StoreUnavailableError(
            f"None of the {len(cells)} sampled cells could be read, so the champion was not checked. First: "
            f"{skipped.reasons[0]}"
        )
    embedding = np.concatenate(embeddings)
    if not np.isfinite(embedding).all():
        raise BundleError(
            f"The champion {bundle.model_id[:12]} ({bundle.manifest.variant}) gives embeddings that are not finite. "
            "Next: bloodcell models rollback --reason R",
            folder=str(bundle.folder),
        )
    return Embedded(embedding, np.concatenate(tops), np.array(slide_buckets), tuple(skipped.reasons))
