"""The champion over a sample of cells once more, for what no row keeps: the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloodcell.errors import BundleError, StoreUnavailableError
from bloodcell.inference.read_ahead import BatchReader
from bloodcell.storage.decoding import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bloodcell.monitoring.called_nights import SampledCell
    from bloodcell.registry.bundle import Bundle
    from bloodcell.settings import Settings
    from bloodcell.storage.store import Store


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the champion makes of n cells.

    Attributes:
        embedding: float32 (n, d).
        top: int64 (n,), index into `CELL_CLASSES` of the most probable group.
        groups: int64 (n,), group of slides that each is in.
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
        BundleError: The model cannot be loaded safely, or gives values that are no numbers.
    """
    from bloodcell.inference.merged import MergedNetwork

    network = MergedNetwork((bundle,), batch_cells=settings.batch_cells)
    reader = BatchReader(store, ImageLimits.of(settings), network.input_sizes, settings.reader_threads)
    group_of = {cell.image.cell_id: cell.group for cell in cells}
    images = [cell.image for cell in cells]
    n = settings.batch_cells
    embeddings, tops, groups = [], [], []
    for batch in reader.batches(images[start : start + n] for start in range(0, len(images), n)):
        output = network(batch.images)[bundle.model_id]
        embeddings.append(output.embedding)
        tops.append(output.probabilities.argmax(axis=1))
        groups += [group_of[cell.cell_id] for cell in batch.cells]
        on_cells(len(groups), len(images))
    if not groups:
        raise StoreUnavailableError(
            f"None of the {len(images)} sampled cells could be read, so the check was not made. First: "
            f"{reader.failures[0]}"
        )
    embedding = np.concatenate(embeddings)
    if not np.isfinite(embedding).all():
        raise BundleError(
            f"The champion {bundle.model_id[:12]} ({bundle.manifest.variant}) gives values that are no numbers. Next: "
            "bloodcell models rollback --reason R",
            folder=str(bundle.folder),
        )
    return Embedded(embedding, np.concatenate(tops), np.array(groups), tuple(reader.failures))
