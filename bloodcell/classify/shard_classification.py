"""A shard's cells stream through the models; rows are written while the device works on the next cells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from typing import TYPE_CHECKING
from uuid import UUID

from bloodcell.cells.cell_image import CellImage
from bloodcell.classify.call_rows import ModelCalls, make_partitions, write_calls
from bloodcell.classify.sentinels import check_sentinels
from bloodcell.classify.slide_look import check_looks
from bloodcell.classify.uncalled_cells import barcodes_of, page_of, passes_of
from bloodcell.errors import BundleError, StoreUnavailableError
from bloodcell.inference.keras_backend import device
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_output import calls_of
from bloodcell.inference.predicting import predict
from bloodcell.inference.read_ahead import Skipped
from bloodcell.quality_rules import read_quality_rules
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.registered_models import open_registered
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from bloodcell.classify.shards import Shard
    from bloodcell.inference.model_output import ModelOutput
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

# rows are committed at whichever comes first: a kill loses little, and commits take no noticeable time
_FLUSH_CELLS = 1024
_FLUSH_S = 10.0


@dataclass(frozen=True, slots=True)
class ClassifySummary:
    """What classifying a shard did.

    Attributes:
        run_id: The recorded run; None if there was nothing left to do.
        slides: Barcodes of the shard's slides; empty if there was nothing left to do.
        n_cells: Cells that went through at least one model in this run.
        n_calls: Rows written.
        seconds: Wall time of reading, classifying and writing, without loading the models.
    """

    run_id: UUID | None
    slides: tuple[str, ...]
    n_cells: int
    n_calls: int
    seconds: float


def classify_shard(
    shard: Shard,
    settings: Settings,
    *,
    airflow_run: str | None = None,
    on_cells: Callable[[int], None] | None = None,
) -> ClassifySummary:
    """Classifies the cells of a shard that its models have not called yet, and returns what was done.

    Args:
        shard: From `plan_shards`.
        settings: Where the database and the store are, the batch size, and the reader threads.
        airflow_run: Id of the Dag run on whose behalf this is done.
        on_cells: Called with the number of cells in each batch that was classified.

    Raises:
        ConfigurationError: The quality file is not valid.
        BundleError: A model's bundle is incomplete or altered, and nothing was classified; or a model returns values
            that are not finite, and the other models' calls are kept.
        RetryLaterError: Postgres or the store is unavailable; calls written so far are kept, and a later run adds the
            rest.
    """
    database = open_database(settings)
    store = Store.of(settings)
    sentinels = read_quality_rules(settings.quality_file).sentinels
    passes, slides = database.transact(lambda c: (passes_of(c, shard), barcodes_of(c, shard)))
    if not passes:
        return ClassifySummary(None, (), 0, 0, 0.0)
    bundles = {model_id: open_registered(store, model_id) for models in passes for model_id in models}
    check_looks(shard.slide_ids, bundles, settings, database, store, night=shard.night, airflow_run=airflow_run)
    with recorded_run(database, "classify", night=shard.night, airflow_run=airflow_run) as run:
        run.detail |= {"models": list(shard.model_ids), "slides": len(shard.slide_ids)}
        seconds = 0.0
        n_calls = 0
        failure: BundleError | StoreUnavailableError | None = None
        for models in passes:
            one = _Pass(shard, [bundles[model_id] for model_id in models], settings, database, store, run.run_id)
            network = _network(tuple(one.bundles), settings.batch_cells)
            run.detail["device"] = device()
            # before the first call, so that no call of a worker that was killed is without the check
            check_sentinels(network, sentinels, settings, database, store, run_id=run.run_id, night=shard.night)
            started = time.monotonic()
            try:
                one.run(network, on_cells or (lambda _: None))
            except (BundleError, StoreUnavailableError) as error:  # the other passes classify other cells
                failure = error
            finally:  # a failed run also records what it has done
                seconds += time.monotonic() - started
                run.n_cells += one.n_cells
                n_calls += one.n_calls
                run.detail |= {"calls": n_calls, "seconds": round(seconds, 3)}
        if failure:
            raise failure
    return ClassifySummary(run.run_id, slides, run.n_cells, n_calls, seconds)


@lru_cache(maxsize=1)
def _network(bundles: tuple[Bundle, ...], batch_cells: int) -> MergedNetwork:
    # loading and tracing take as long as several hundred cells, so the shards of one process share the network
    return MergedNetwork(bundles, batch_cells=batch_cells)


class _Pass:
    """Runs some models over the cells that exactly these models have not called."""

    def __init__(
        self,
        shard: Shard,
        bundles: Sequence[Bundle],
        settings: Settings,
        database: Database,
        store: Store,
        run_id: UUID,
    ) -> None:
        self._shard, self.bundles, self._settings = shard, bundles, settings
        self._database, self._store, self._run_id = database, store, run_id
        self._partitions: set[date] = set()
        self._broken: dict[str, str] = {}
        self.n_cells = 0
        self.n_calls = 0

    def run(self, network: MergedNetwork, on_cells: Callable[[int], None]) -> None:
        skipped = Skipped(self._store.check)
        waiting: list[ModelCalls] = []
        n_waiting, flushed_at = 0, time.monotonic()
        writing: Future[int] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            for cells, outputs in predict(network, self._cells(), self._read, self._settings, skipped):
                waiting += self._called(cells, outputs)
                n_waiting += len(cells)
                on_cells(len(cells))
                if n_waiting >= _FLUSH_CELLS or time.monotonic() - flushed_at >= _FLUSH_S:
                    self._finish(writing)
                    writing = writer.submit(self._flush, waiting)
                    waiting, n_waiting, flushed_at = [], 0, time.monotonic()
                self.n_cells += len(cells)
            self._finish(writing)
            self.n_calls += self._flush(waiting)
        if self._broken:
            model_id, what = next(iter(self._broken.items()))
            folder = next(str(bundle.folder) for bundle in self.bundles if bundle.model_id == model_id)
            raise BundleError(what, folder=folder)
        if skipped.reasons:
            raise StoreUnavailableError(
                f"{len(skipped.reasons)} of {self.n_cells + len(skipped.reasons)} cells could not be read and were not "
                f"classified; their slides get no differential until they are. First: {skipped.reasons[0]}"
            )

    def _cells(self) -> Iterator[CellImage]:
        """Yields the cells, read from the database in pages, so that memory does not grow with the night."""
        models = [bundle.model_id for bundle in self.bundles]
        after = 0
        while True:
            page = self._database.transact(partial(page_of, shard=self._shard, models=models, after=after))
            if not page:
                return
            nights = {cell.night for cell in page} - self._partitions
            self._database.transact(partial(make_partitions, nights=nights))
            self._partitions |= nights
            yield from page
            after = page[-1].cell_id

    def _read(self, cell: CellImage) -> bytes:
        return self._store.read_image(cell.sha256)

    def _called(self, cells: Sequence[CellImage], outputs: Mapping[str, ModelOutput]) -> list[ModelCalls]:
        calls = []
        for bundle in self.bundles:
            output = outputs[bundle.model_id]
            if bundle.model_id in self._broken or self._is_broken(bundle, cells, output):
                continue
            decided = calls_of(bundle, output)
            calls.append(ModelCalls(bundle.model_id, tuple(cells), decided, output.novelty, output.probabilities))
        return calls

    def _is_broken(self, bundle: Bundle, cells: Sequence[CellImage], output: ModelOutput) -> bool:
        """Returns whether the model returned values that are not finite; its calls are discarded from then on."""
        broken = ~output.is_finite
        if broken.any():
            cell = cells[int(broken.argmax())]
            self._broken[bundle.model_id] = (
                f"Model {bundle.model_id[:12]} ({bundle.manifest.variant}) returns values that are not finite for "
                f"{int(broken.sum())} of {len(broken)} cells, first for cell {cell.cell_id} (image "
                f"{cell.sha256[:12]}). "
                "The other models' calls are kept. Next: if it is the champion, bloodcell models rollback --reason R; "
                "if a challenger, train or register another of its variant."
            )
        return bool(broken.any())

    def _flush(self, calls: Sequence[ModelCalls]) -> int:
        if not calls:
            return 0
        return self._database.transact(lambda c: write_calls(c, self._run_id, calls, redo=self._shard.redo))

    def _finish(self, writing: Future[int] | None) -> None:
        if writing is not None:
            self.n_calls += writing.result()
