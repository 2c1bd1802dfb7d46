"""Drift of a model's nights, judged: class mix, confidence, novelty and embedding against the bundle's reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.monitoring.called_nights import Nights, read_nights, sample_cells, tally_value
from bloodcell.monitoring.check_records import Check, Kind
from bloodcell.monitoring.drift import MIN_GROUPS, Drift, class_weights, decile_edges, mix_drift, value_drift
from bloodcell.monitoring.embedding_drift import embedding_drift
from bloodcell.monitoring.rerun import embed
from bloodcell.presentation.numbers import interval, number
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
    "class_mix": "Other patients, or other calls: see query 22 (class shares by night) and some slides.",
    "confidence": "Less or more sure than in validation: see query 15 (unclassified by night) and some slides.",
    "novelty": "Cells unlike those it was trained on: see query 3 (cells to review).",
    "embedding": "Cells look otherwise: check staining, focus, light and camera of the analyser.",
}


@dataclass(frozen=True, slots=True)
class _Watch:
    """What every drift check of one look shares."""

    database: Database
    store: Store
    bundle: Bundle
    settings: Settings
    on_progress: OnProgress
    reference: TrainingReference
    nights: Nights


def drift_checks(
    database: Database, store: Store, bundle: Bundle, settings: Settings, on_progress: OnProgress
) -> tuple[Check, ...]:
    """Returns how far the nights since the last judged ones have moved from the model's validation images.

    A distance crosses its limit when even its lower 95 % limit does.

    Raises:
        BundleError: The reference or the model is altered or broken.
        RetryLaterError: Postgres or the store is away.
    """
    if REFERENCE not in bundle.manifest.files:
        return _all_waiting(
            0, f"the bundle has no {REFERENCE}: it is older than these checks; a retrained model has one"
        )
    reference = read_reference(bundle.folder / REFERENCE)
    nights = database.transact(partial(read_nights, model_id=bundle.model_id))
    if nights.n_cells < settings.check_min_cells or len(nights.mix) < MIN_GROUPS:
        return _all_waiting(
            nights.n_cells,
            f"{nights.n_cells:,} cells of {len(nights.mix)} slides were called since the last check; it needs "
            f"{settings.check_min_cells:,} (BLOODCELL_CHECK_MIN_CELLS) of {MIN_GROUPS} slides; they count next time",
        )
    watch = _Watch(database, store, bundle, settings, on_progress, reference, nights)
    return (_mix(watch), *_values(watch), *_embedding(watch))


def _all_waiting(n_cells: int, why: str) -> tuple[Check, ...]:
    return tuple(
        Check(kind, None, n_cells, None, None, None, None, True, f"Not judged ({_name(kind)}): {why}.")
        for kind in _NEXT
    )


def _mix(watch: _Watch) -> Check:
    if not watch.reference.follows_mix:
        why = "the model was made from images sorted by class, which are mixed as no laboratory's"
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
            checks.append(_unjudged(watch, kind, "no class has cells enough in the nights and in the reference"))
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
        watch.reference.embedding, watch.reference.top, found.embedding, found.top, found.groups
    )
    if drift is None:
        return [_unjudged(watch, "embedding", "no class has cells enough in the sample and in the reference")]
    unread = f" {len(found.failures)} sampled cells could not be read: {found.failures[0]}" if found.failures else ""
    overall = _judged(watch, "embedding", drift, len(found.top), watch.settings.check_max_mmd, unread)
    return [overall, *(_of_class(watch, group, found, measured) for group, measured in by_class.items())]


def _of_class(watch: _Watch, group: str, found: Embedded, measured: float) -> Check:
    nights = watch.nights.nights
    n_cells = int((found.top == CELL_CLASSES.index(group)).sum())
    reason = f"Cells called {group} are {number(measured, 3)} from those of validation."
    return Check("embedding", group, n_cells, measured, None, None, None, True, reason, nights[0], nights[-1])


def _judged(watch: _Watch, kind: Kind, drift: Drift, n_cells: int, limit: float, more: str = "") -> Check:
    nights = watch.nights.nights
    passed = drift.lower <= limit
    distance = "squared maximum mean discrepancy" if kind == "embedding" else "population stability index"
    setting = "BLOODCELL_CHECK_MAX_MMD" if kind == "embedding" else "BLOODCELL_CHECK_MAX_PSI"
    verdict = (
        f"at most {limit:g} is let pass."
        if passed
        else f"even the lower limit is above the {limit:g} let pass ({setting}). Next: {_NEXT[kind]}"
    )
    reason = (
        f"The {_name(kind)} of the nights {nights[0]} to {nights[-1]} is {number(drift.measured, 3)} "
        f"({interval((drift.lower, drift.upper), 3)}) from validation, as {distance}; {verdict}{more}"
    )
    return Check(
        kind, None, n_cells, drift.measured, drift.lower, drift.upper, limit, passed, reason, nights[0], nights[-1]
    )


def _unjudged(watch: _Watch, kind: Kind, why: str) -> Check:
    nights, n_cells = watch.nights.nights, watch.nights.n_cells
    reason = f"Not judged ({_name(kind)}): {why}."
    return Check(kind, None, n_cells, None, None, None, None, True, reason, nights[0], nights[-1])


def _name(kind: Kind) -> str:
    return kind.replace("_", " ")
