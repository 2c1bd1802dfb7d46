"""Sentinels: stored cells that each worker calls again, to see that its models compute what they computed before.

Another precision, a library or a driver that was changed, or a device that computes wrongly shows here before it
shows in a patient's differential. The difference holds the results of the calls that the worker made in the same run.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.inference.model_output import joined
from bloodcell.inference.predicting import predict
from bloodcell.inference.read_ahead import Skipped
from bloodcell.storage import tables
from bloodcell.storage.locks import wait_for
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence
    from datetime import date

    from bloodcell.inference.merged_network import MergedNetwork
    from bloodcell.inference.model_output import ModelOutput
    from bloodcell.quality_rules import SentinelRules
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store

_SQL: Final = load_statements("classify/sentinels.sql")


@dataclass(frozen=True, slots=True)
class _Computed:
    """What a model computed for a sentinel.

    Attributes:
        probabilities: Eight, in the order of `CELL_CLASSES`.
        novelty: The novelty.
        host: The machine on which it did.
    """

    probabilities: tuple[float, ...]
    novelty: float
    host: str


def check_sentinels(
    network: MergedNetwork,
    rules: SentinelRules,
    settings: Settings,
    database: Database,
    store: Store,
    *,
    run_id: uuid.UUID,
    night: date | None,
) -> None:
    """Calls the sentinels and records, for each model, whether it computes what it computed when it first saw them.

    A sentinel that a model sees for the first time becomes its reference.

    Args:
        network: The models of this worker.
        rules: Differences that are too large.
        settings: Batch size, reader threads and image bounds.
        database: Where references are, and where the check is recorded.
        store: Where the images are.
        run_id: The run whose calls a difference holds.
        night: Night of the run, if it works on one.

    Raises:
        StoreUnavailableError: The store is unavailable.
    """
    if not rules.enabled:
        return
    references = database.transact(partial(_references, models=network.model_ids))
    if not references:
        return
    skipped = Skipped(store.check)
    images: list[str] = []
    parts: list[Mapping[str, ModelOutput]] = []
    for batch, outputs in predict(network, references, store.read_image, settings, skipped):
        images += batch
        parts.append(outputs)
    host = socket.gethostname()
    rows, made = [], []
    for model_id in network.model_ids:
        known = {image: computed[model_id] for image, computed in references.items() if model_id in computed}
        output = joined([part[model_id] for part in parts]) if parts else None
        found = {} if output is None else _computed(images, output, host)
        made += [_reference(image, model_id, run_id, found[image]) for image in found if image not in known]
        shared = [image for image in found if image in known]
        outcome = _compared([known[image] for image in shared], [found[image] for image in shared], rules)
        if skipped.reasons:
            what = f"{len(skipped.reasons)} of {len(references)} sentinels could not be read: {skipped.reasons[0]}"
            outcome["reason"] = f"{outcome['reason']} {what}"
            outcome["passed"] = outcome["passed"] and 2 * len(skipped.reasons) <= len(references)
        rows.append(
            {"kind": "sentinel", "subject": host, "night": night, "whole_night": False, "model_id": model_id,
             "called_by": run_id, "run_id": run_id, **outcome}
        )  # fmt: skip
    database.transact(partial(_write, made=made, rows=rows))


def choose_sentinels(connection: sa.Connection, night: date, rules: SentinelRules, run_id: uuid.UUID) -> int:
    """Chooses sentinels among the cells of a night until there are enough, and returns how many are new.

    Args:
        connection: Where to write; the transaction has waited for `check`.
        night: The night.
        rules: How many there should be.
        run_id: The run that chooses.
    """
    if not rules.enabled:
        return 0
    return int(connection.execute(_SQL["choose"], {"night": night, "n": rules.cells, "run_id": run_id}).rowcount)


def _references(connection: sa.Connection, models: Sequence[str]) -> dict[str, dict[str, _Computed]]:
    """Returns sentinel -> model id -> what the model computed when it first saw it."""
    found: dict[str, dict[str, _Computed]] = {}
    for row in connection.execute(_SQL["references"], {"models": list(models)}):
        of_models = found.setdefault(row.sha256, {})
        if row.model_id is not None:
            of_models[row.model_id] = _Computed(tuple(row.probabilities), row.novelty, row.host)
    return found


def _computed(images: Sequence[str], output: ModelOutput, host: str) -> dict[str, _Computed]:
    rows = zip(images, output.probabilities.tolist(), output.novelty.tolist(), strict=True)
    return {image: _Computed(tuple(probabilities), novelty, host) for image, probabilities, novelty in rows}


def _reference(image: str, model_id: str, run_id: uuid.UUID, computed: _Computed) -> dict[str, Any]:
    return {
        "sha256": image,
        "model_id": model_id,
        "probabilities": list(computed.probabilities),
        "novelty": computed.novelty,
        "host": computed.host,
        "run_id": run_id,
    }


def _compared(known: Sequence[_Computed], found: Sequence[_Computed], rules: SentinelRules) -> dict[str, Any]:
    """Returns the outcome of the comparison of what was computed for the same sentinels."""
    threshold = rules.probability_difference_above
    if not known:
        reason = "The model sees the sentinels for the first time; what it computes is its reference."
        return {"passed": True, "value": None, "upper": threshold, "reason": reason, "figures": {"n": 0}}
    before = np.array([each.probabilities for each in known], np.float64).reshape(-1, len(CELL_CLASSES))
    now = np.array([each.probabilities for each in found], np.float64).reshape(-1, len(CELL_CLASSES))
    novelty_before, novelty_now = (np.array([each.novelty for each in some], np.float64) for some in (known, found))
    # what is not finite differs by more than anything
    largest = float(np.nan_to_num(np.abs(now - before), nan=1.0).max())
    scale = np.maximum(np.abs(novelty_before), float(np.median(np.abs(novelty_before))))
    relative = np.abs(novelty_now - novelty_before) / np.maximum(scale, np.finfo(np.float32).tiny)
    novelty = 100 * float(np.nan_to_num(relative, nan=np.inf, posinf=1e6).max())
    passed = largest <= threshold and novelty <= rules.novelty_difference_percent_above
    measured = (
        f"{len(known)} sentinels: probabilities differ by at most {largest:.2g} (threshold {threshold:g}), the novelty "
        f"by {novelty:.2g} % (threshold {rules.novelty_difference_percent_above:g} %), from what "
        f"{known[0].host} computed."
    )
    next_step = (
        " Next: look at what was changed on this worker (driver, libraries, precision), classify the slides again on "
        "another one, or reset the references: bloodcell quality restart --sentinels."
    )
    return {
        "passed": passed,
        "value": largest,
        "upper": threshold,
        "reason": measured if passed else measured + next_step,
        "figures": {"n": len(known), "probabilities": largest, "novelty_percent": novelty},
    }


def _write(connection: sa.Connection, made: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    if made:
        wait_for(connection, "check")
        known = _references(connection, sorted({row["model_id"] for row in made}))
        new = [row for row in made if row["sha256"] in known and row["model_id"] not in known[row["sha256"]]]
        if new:
            connection.execute(sa.insert(tables.sentinel_reference), new)
    if rows:
        connection.execute(sa.insert(tables.quality_check), list(rows))
