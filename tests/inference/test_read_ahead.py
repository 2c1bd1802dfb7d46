"""Batches come in order, at most two are read ahead, and a failure is raised or skipped as the caller chooses."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bloodcell.errors import StoreUnavailableError, UnusableFileError
from bloodcell.inference.read_ahead import Skipped, read_ahead


def in_twos(n_items: int) -> Iterator[list[int]]:
    yield from ([start, start + 1] for start in range(0, n_items, 2))


def halved(number: int) -> float:
    if number in (4, 5, 9):
        raise UnusableFileError("damaged", "no image")
    return number / 2


def no_check() -> None:
    raise AssertionError("the store was checked")


def test_batches_come_in_order_whichever_is_read_first() -> None:
    later_was_read = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert later_was_read.wait(10)
        if number == 5:
            later_was_read.set()
        return -number

    assert list(read_ahead(in_twos(6), work, 4)) == [([0, 1], [0, -1]), ([2, 3], [-2, -3]), ([4, 5], [-4, -5])]


def test_two_batches_are_read_ahead_and_no_more() -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[int]]:
        for batch in in_twos(100):
            taken.append(batch[0])
            yield batch

    results = read_ahead(batches(), abs, 2)
    next(results)
    assert taken == [0, 2, 4]
    next(results)
    assert taken == [0, 2, 4, 6]
    results.close()  # type: ignore[attr-defined]


def test_a_failure_is_raised_if_nothing_is_skipped() -> None:
    results = read_ahead(in_twos(12), halved, 2)
    assert next(results) == ([0, 1], [0.0, 0.5])
    assert next(results) == ([2, 3], [1.0, 1.5])
    with pytest.raises(UnusableFileError, match="no image"):
        next(results)


def test_skipped_items_are_missing_and_a_batch_without_items_is_not_yielded() -> None:
    skipped = Skipped(no_check)
    found = list(read_ahead(in_twos(12), halved, 2, skipped))
    assert [items for items, _ in found] == [[0, 1], [2, 3], [6, 7], [8], [10, 11]]
    assert skipped.reasons == ["4: damaged: no image", "5: damaged: no image", "9: damaged: no image"]


def test_another_error_is_never_skipped() -> None:
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(in_twos(4), lambda number: 1 / number, 2, Skipped(no_check)))


@pytest.mark.parametrize(("n_lost", "is_checked"), [(20, False), (22, True)])
def test_the_store_is_checked_after_more_than_twenty_failures_in_a_row(n_lost: int, is_checked: bool) -> None:
    def lost(number: int) -> int:
        if number < n_lost:
            raise StoreUnavailableError("missing")
        return number

    checked: list[bool] = []
    skipped = Skipped(lambda: checked.append(True))
    found = list(read_ahead(in_twos(30), lost, 2, skipped))
    assert bool(checked) is is_checked
    assert len(skipped.reasons) == n_lost
    assert [item for items, _ in found for item in items] == list(range(n_lost, 30))


def test_an_unavailable_store_ends_the_reading() -> None:
    def away(number: int) -> int:
        raise StoreUnavailableError(f"{number} is missing")

    def check() -> None:
        raise StoreUnavailableError("the store is unavailable")

    with pytest.raises(StoreUnavailableError, match="the store is unavailable"):
        list(read_ahead(in_twos(100), away, 2, Skipped(check)))
