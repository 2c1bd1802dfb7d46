"""Cells of a night that are worth a label for training: a third uncertain, a third novel, a third random.

The uncertain ones have the smallest margin between the two most probable classes. The novel ones are chosen among the
cells that are most unlike the training cells, one after another, each as far as possible from those chosen before
(k-centre greedy). Embeddings of called cells are not stored, so the distance is that of the log-odds of the eight
probabilities; for embeddings the champion would have to run again (`bloodcell.monitoring.rerun`), at six cells a second
on two cores. The random third is the night's random sample: it is read blind, and only it can judge models.

Sources: Scheffer, Decomain and Wrobel, Active hidden Markov models for information extraction, IDA 2001 (the margin);
Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, ICLR 2018 (k-centre greedy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.review.slide_page import probabilities
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import sqlalchemy as sa
    from numpy.typing import NDArray

_SQL: Final = load_statements("review/training_queue.sql")
_POOL: Final = 10
"""Most novel cells for each novel cell that is chosen, so that there is something to choose from."""
_SMALLEST: Final = 1e-3
"""Smaller probabilities count as this, so that the last digits of confident calls make no distance."""

Why = Literal["uncertain", "novel"]


@dataclass(frozen=True, slots=True)
class QueuedCell:
    """A cell of the queue.

    Attributes:
        cell_id: Key of the cell.
        slide_id: Key of its slide.
        barcode: Barcode of its slide.
        file_name: Its file.
        why: uncertain or novel.
        called: What the model called it.
        unclassified_reason: low_confidence or novel, if it was not classified.
        choices: The two most probable classes with their probabilities.
        novelty: How unlike the training cells it is, and the model's threshold for it.
        seen: Newest label of the cell; a change names it.
        is_labelled: Whether somebody has labelled it by now.
    """

    cell_id: int
    slide_id: int
    barcode: str
    file_name: str
    why: Why
    called: str
    unclassified_reason: str | None
    choices: tuple[tuple[str, float], ...]
    novelty: tuple[float, float]
    seen: int | None
    is_labelled: bool


@dataclass(frozen=True, slots=True)
class TrainingQueue:
    """A night's cells for training.

    Attributes:
        night: The night; None if there is none.
        nights: Nights that can be chosen, the newest first.
        cells: The chosen cells, uncertain and novel ones in turn.
        n_sample: Cells of the night's random sample.
        n_sample_read: Of these, those that are read blind.
    """

    night: date | None
    nights: tuple[date, ...]
    cells: tuple[QueuedCell, ...]
    n_sample: int
    n_sample_read: int


def read_queue(connection: sa.Connection, night: date | None, n_cells: int) -> TrainingQueue:
    """Returns the cells of a night to label for training; the same while people label them.

    Args:
        connection: The database.
        night: The night; None: the newest.
        n_cells: At most this many cells, a third of them random.
    """
    nights = tuple(connection.scalars(_SQL["nights"]))
    chosen = night or (nights[0] if nights else None)
    n = n_cells // 3
    if chosen is None:
        return TrainingQueue(None, (), (), 0, 0)
    asked = {"night": chosen, "n": n, "n_pool": n * _POOL}
    why = choose_cells(connection.execute(_SQL["candidates"], asked).all(), n) if n else {}
    rows = {row.cell_id: row for row in connection.execute(_SQL["cells"], {"night": chosen, "cells": list(why)})}
    sample = connection.execute(_SQL["sample"], {"night": chosen}).one()
    return TrainingQueue(
        night=chosen,
        nights=nights,
        cells=tuple(_queued(rows[cell_id], reason) for cell_id, reason in why.items() if cell_id in rows),
        n_sample=sample.n_cells,
        n_sample_read=sample.n_read,
    )


def choose_cells(candidates: Sequence[Any], n: int) -> dict[int, Why]:
    """Returns the chosen cells, uncertain and novel ones in turn, with the reason for each.

    Args:
        candidates: Rows with cell_id, by_margin, by_novelty (ranks from 1) and the eight probabilities.
        n: Cells of each kind.
    """
    uncertain = sorted((row for row in candidates if row.by_margin <= n), key=lambda row: row.by_margin)
    taken = {row.cell_id for row in uncertain}
    pool = sorted((row for row in candidates if row.cell_id not in taken), key=lambda row: row.by_novelty)
    pool = [row for row in pool if row.by_novelty <= n * _POOL]
    novel = [pool[place] for place in farthest_points(_log_odds(pool), _log_odds(uncertain), n)]
    found: dict[int, Why] = {}
    for place in range(n):
        if place < len(uncertain):
            found[uncertain[place].cell_id] = "uncertain"
        if place < len(novel):
            found[novel[place].cell_id] = "novel"
    return found


def farthest_points(points: NDArray[np.float64], centres: NDArray[np.float64], n: int) -> list[int]:
    """Returns indices of up to `n` points, each the farthest from the centres and from the points chosen before.

    Args:
        points: float64 (m, d); without centres the first is chosen first.
        centres: float64 (k, d), k may be 0.
        n: How many.
    """
    distance = np.full(len(points), np.inf)
    for centre in centres:
        distance = np.minimum(distance, np.linalg.norm(points - centre, axis=1))
    chosen: list[int] = []
    while len(chosen) < min(n, len(points)):
        place = int(np.argmax(distance))
        chosen.append(place)
        distance = np.minimum(distance, np.linalg.norm(points - points[place], axis=1))
        distance[chosen] = -1.0
    return chosen


def _log_odds(rows: Sequence[Any]) -> NDArray[np.float64]:
    named = [f"p_{name}" for name in CELL_CLASSES]
    given = np.array([[getattr(row, name) for name in named] for row in rows], np.float64).reshape(-1, len(named))
    given = np.clip(given, _SMALLEST, 1 - _SMALLEST)
    return np.log(given / (1 - given))


def _queued(row: sa.Row[Any], why: Why) -> QueuedCell:
    return QueuedCell(
        cell_id=row.cell_id,
        slide_id=row.slide_id,
        barcode=row.barcode,
        file_name=row.file_name,
        why=why,
        called=row.called_class,
        unclassified_reason=row.unclassified_reason,
        choices=tuple(probabilities(row)[:2]),
        novelty=(row.novelty, row.novelty_threshold),
        seen=row.seen,
        is_labelled=row.is_labelled,
    )
