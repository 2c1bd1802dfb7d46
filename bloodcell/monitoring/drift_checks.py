"""Drift of a model's nights, judged: class mix, confidence, novelty and embedding against the bundle's reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.monitoring.called_nights import CalledNights, read_nights, sample_cells, tally_value
from bloodcell.monitoring.check_records import Check, Kind, not_judged
from bloodcell.monitoring.drift import MIN_SLIDE_BUCKETS, Drift, class_weights, decile_edges, mix_drift, value_drift
from bloodcell.monitoring.embedding_drift import embedding_drift
from bloodcell.monitoring.rerun import embed
from bloodcell.presentation.numbers import counted, interval, number
from bloodcell.registry.training_reference import MAX_CELLS, REFERENCE, read_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.monitoring.rerun import Embedded
    from bloodcell.registry.bundle import Bundle
    from bloodcell.registry.training_reference import TrainingReference
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store

    OnProgress = Callable[[str, int, int], None]

_NEXT: Final[dict[Kind, str]] = {
    "class_mix": "The patients or the calls are different: look at query 22 (class shares by night) and some slides.",
    "confidence": "Confidence is lower or higher than in validation: look at query 15 (unclassified by night) and some "
    "slides.",
    "novelty": "Cells are unlike those the model was trained on: look at query 3 (cells to review).",
    "embedding": "Cells look different: check staining, focus, light and camera of the analyser.",
}


@dataclass(frozen=True, slots=True)
class _Watch:
    """What the four drift checks share within one check of the champion."""

    database: Database
    store: Store
    bundle: Bundle
    settings: Settings
    on_progress: OnProgress
    reference: TrainingReference
    nights: CalledNights


def drift_checks(
    database: Database, store: Store, bundle: Bundle, settings: Settings, on_progress: OnProgress
) -> tuple[Check, ...]:
    """Returns how far the nights since the last judged night have drifted from the model's validation images.

    A distance crosses its threshold if the lower end of its 95 % interval does.

    Raises:
        BundleError: The reference or the model is altered or broken.
        RetryLaterError: Postgres or the store is unavailable.
    """
    if REFERENCE not in bundle.manifest.files:
        return _all_waiting(
            0, f"the bundle has no {REFERENCE}, because it is older than these checks; a retrained model has one"
        )
    reference = read_reference(bundle.read(REFERENCE), bundle.folder)
    nights = database.transact(partial(read_nights, model_id=bundle.model_id))
    if nights.n_cells < settings.check_min_cells or len(nights.mix) < MIN_SLIDE_BUCKETS:
        return _all_waiting(
            nights.n_cells,
            f"{nights.n_cells:,} cells of {len(nights.mix)} slides were called since the last check, and "
            f"{settings.check_min_cells:,} (BLOODCELL_CHECK_MIN_CELLS) of {MIN_SLIDE_BUCKETS} slides are needed; they "
            "count at the next check",
        )
    watch = _Watch(database, store, bundle, settings, on_progress, reference, nights)
    return (_mix(watch), *_values(watch), *_embedding(watch))


def _all_waiting(n_cells: int, why: str) -> tuple[Check, ...]:
    return tuple(not_judged(kind, n_cells, f"Not judged ({_name(kind)}): {why}.") for kind in _NEXT)


def _mix(watch: _Watch) -> Check:
    if not watch.reference.follows_mix:
        why = "the model was trained on images sorted by class, whose mix is not that of a laboratory"
        return _unjudged(watch, "class_mix", why)
    drift = mix_drift(watch.reference.class_counts, watch.nights.mix)
    return _judged(watch, "class_mix", drift, watch.nights.n_cells, watch.settings.check_max_psi)


def _values(watch: _Watch) -> list[Check]:
    weights = class_weights(watch.reference.top, watch.nights.mix.sum(axis=0))
    classes = sorted({CELL_CLASSES[top] for top in watch.reference.top[weights > 0].tolist()})
    checks = []
    kinds: tuple[Kind, Kind] = ("confidence", "novelty")
    for kind in kinds:
        if not classes:
            checks.append(_unjudged(watch, kind, "no class has enough cells in both the nights and the reference"))
            continue
        if kind == "confidence" and watch.bundle.manifest.turns > 1:
            checks.append(_unjudged(watch, kind, "the model averages over turns, and its reference does not"))
            continue
        of_reference = watch.reference.confidence if kind == "confidence" else watch.reference.novelty
        edges = decile_edges(of_reference, weights)
        tally = partial(
            tally_value,
            model_id=watch.bundle.model_id, nights=watch.nights.nights, value=kind, classes=classes, edges=edges,
        )  # fmt: skip
        counts = watch.database.transact(tally)
        drift = value_drift(of_reference, weights, edges, counts)
        checks.append(_judged(watch, kind, drift, int(counts.sum()), watch.settings.check_max_psi))
    return checks


def _embedding(watch: _Watch) -> list[Check]:
    nights = watch.nights.nights
    sample = partial(sample_cells, model_id=watch.bundle.model_id, nights=nights, n_cells=MAX_CELLS)
    cells = watch.database.transact(sample)
    found = embed(
        watch.bundle, cells, watch.store, watch.settings, lambda done, total: watch.on_progress("embed", done, total)
    )
    drift, by_class = embedding_drift(
        watch.reference.embedding, watch.reference.top, found.embedding, found.top, found.slide_buckets
    )
    if drift is None:
        return [_unjudged(watch, "embedding", "no class has enough cells in both the sample and the reference")]
    n_unread = counted(len(found.failures), "sampled cell")
    unread = f" {n_unread} could not be read: {found.failures[0]}" if found.failures else ""
    overall = _judged(watch, "embedding", drift, len(found.top), watch.settings.check_max_mmd, unread)
    return [overall, *(_of_class(watch, cell_class, found, measured) for cell_class, measured in by_class.items())]


def _of_class(watch: _Watch, cell_class: str, found: Embedded, measured: float) -> Check:
    nights = watch.nights.nights
    n_cells = int((found.top == CELL_CLASSES.index(cell_class)).sum())
    reason = f"Cells classified as {cell_class} differ from those of validation by {number(measured, 3)}."
    return Check("embedding", cell_class, n_cells, measured, None, None, None, True, reason, nights[0], nights[-1])


def _judged(watch: _Watch, kind: Kind, drift: Drift, n_cells: int, threshold: float, more: str = "") -> Check:
    nights = watch.nights.nights
    passed = drift.lower <= threshold
    distance = "squared maximum mean discrepancy" if kind == "embedding" else "population stability index"
    setting = "BLOODCELL_CHECK_MAX_MMD" if kind == "embedding" else "BLOODCELL_CHECK_MAX_PSI"
    verdict = (
        f"the threshold is {threshold:g}."
        if passed
        else f"even the lower end of the interval is above the threshold of {threshold:g} ({setting}). "
        f"Next: {_NEXT[kind]}"
    )
    reason = (
        f"The {_name(kind)} of the nights {nights[0]} to {nights[-1]} differs from validation by "
        f"{number(drift.measured, 3)} ({interval((drift.lower, drift.upper), 3)}, {distance}); {verdict}{more}"
    )
    return Check(
        kind, None, n_cells, drift.measured, drift.lower, drift.upper, threshold, passed, reason, nights[0], nights[-1]
    )


def _unjudged(watch: _Watch, kind: Kind, why: str) -> Check:
    nights = watch.nights.nights
    check = not_judged(kind, watch.nights.n_cells, f"Not judged ({_name(kind)}): {why}.")
    return replace(check, since_night=nights[0], until_night=nights[-1])


def _name(kind: Kind) -> str:
    return kind.replace("_", " ")
