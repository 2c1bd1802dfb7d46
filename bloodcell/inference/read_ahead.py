"""Reads the next images while the device works on the present ones: a bounded number, and in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bloodcell.errors import StoreUnavailableError, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_AHEAD: Final = 2
"""Batches read ahead of the one in use: two make up for a slow read, and more would only take memory."""

_FAILURES_IN_A_ROW: Final = 20

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class Skipped:
    """Images that could not be read, for a caller that continues without them.

    Attributes:
        check_store: Called after more than 20 failures in a row; raises StoreUnavailableError if the store is gone.
        reasons: One reason for each image, beginning with the image's name.
    """

    check_store: Callable[[], None]
    reasons: list[str] = field(default_factory=list)
    _in_a_row: int = 0

    def result_of(self, item: object, reading: Future[Result]) -> list[Result]:
        """Returns a list of the one result, or an empty list if the image could not be read.

        Args:
            item: The image, to be named in the reason.
            reading: The image's result, as soon as there is one.
        """
        try:
            result = reading.result()
        except (StoreUnavailableError, UnusableFileError) as error:
            self.reasons.append(f"{item}: {error}")
            self._in_a_row += 1
            return []
        self._in_a_row = 0
        return [result]

    def end_batch(self) -> None:
        """Checks the store after too many failures in a row."""
        if self._in_a_row > _FAILURES_IN_A_ROW:
            self.check_store()
            self._in_a_row = 0


def read_ahead(
    batches: Iterable[Sequence[Item]],
    work: Callable[[Item], Result],
    n_threads: int,
    skipped: Skipped | None = None,
) -> Iterator[tuple[list[Item], list[Result]]]:
    """Yields the items of each batch and what `work` returned for them, while the next two batches are worked on.

    Args:
        batches: Any number of batches, iterated in the caller's thread.
        work: Called in threads.
        n_threads: Number of threads.
        skipped: Collects the items that `work` could not read, which are then missing from their batch; a batch
            without any item left is not yielded. If None, the first failure is raised.

    Raises:
        StoreUnavailableError: The store is unavailable; without `skipped`, also if an image cannot be read from it.
        UnusableFileError: Without `skipped`: a file is not a usable image.
    """
    ahead: deque[list[tuple[Item, Future[Result]]]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="read") as threads:
        try:
            for batch in batches:
                ahead.append([(item, threads.submit(work, item)) for item in batch])
                if len(ahead) > _AHEAD:
                    yield from _gathered(ahead.popleft(), skipped)
            while ahead:
                yield from _gathered(ahead.popleft(), skipped)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _gathered(
    readings: list[tuple[Any, Future[Result]]], skipped: Skipped | None
) -> Iterator[tuple[list[Any], list[Result]]]:
    items, results = [], []
    for item, reading in readings:
        for result in skipped.result_of(item, reading) if skipped else [reading.result()]:
            items.append(item)
            results.append(result)
    if skipped:
        skipped.end_batch()
    if items:
        yield items, results
