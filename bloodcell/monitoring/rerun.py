"""The champion runs over a sample of cells again, because no row of the database keeps the embedding."""

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
    """The champion's outputs for n cells.

    Attributes:
        embedding: float32 (n, d).
        top: int64 (n,), index into `CELL_CLASSES` of the most probable class.
        groups: int64 (n,), group of slides that each cell is in.
        failures: Why other cells of the sample could not be read.
    """

    embedding: NDArray[np.float32]
    top: NDArray[np.int64]
    groups: NDArray[np.int64]
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
        bundle: The champion's.
        cells: At least one.
        store: Where their images are.
        settings: Image limits, reader threads and batch size.
        on_cells: Called with cells done and cells in all.

    Raises:
        StoreUnavailableError: The store is away, or has none of the images.
        BundleError: The model cannot be loaded safely, or returns values that are not finite.
    """
    network = MergedNetwork((bundle,), batch_cells=settings.batch_cells)
    skipped = Skipped(store.check)
    images, group_of = [cell.image for cell in cells], {cell.image.cell_id: cell.group for cell in cells}
    embeddings, tops, groups = [], [], []
    for batch, outputs in predict(network, images, lambda cell: store.read_image(cell.sha256), settings, skipped):
        output = outputs[bundle.model_id]
        embeddings.append(output.embedding)
        tops.append(output.probabilities.argmax(axis=1))
        groups += [group_of[cell.cell_id] for cell in batch]
        on_cells(len(groups), len(cells))
    if not groups:
        raise StoreUnavailableError(
            f"None of the {len(cells)} sampled cells could be read, so there was no check. First: {skipped.reasons[0]}"
        )
    embedding = np.concatenate(embeddings)
    if not np.isfinite(embedding).all():
        raise BundleError(
            f"The champion {bundle.model_id[:12]} ({bundle.manifest.variant}) returns values that are not finite. "
            "Next: bloodcell models rollback --reason R",
            folder=str(bundle.folder),
        )
    return Embedded(embedding, np.concatenate(tops), np.array(groups), tuple(skipped.reasons))
