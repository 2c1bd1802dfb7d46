"""Makes a version of a slide's result where its count differs from what the newest version reports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.differential.laboratory_rules import rules_of
from bloodcell.results.judging import CountedSlide, judge
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.results.judging import Judgement

_SQL: Final = load_statements("results/versions.sql")
_COUNTED: Final = ("n_cells", "n_leucocytes", "n_unclassified", "n_blasts", "n_contested", "n_labelled")
_FACTS: Final = ("age_months", "sex", "wbc_received", "wbc_is_corrected")


def add_versions(connection: sa.Connection, slides: Sequence[int], *, run_id: uuid.UUID, rules: LaboratoryRules) -> int:
    """Makes the versions of these slides, which the transaction has locked, and returns how many are new.

    A slide gets a version if its cells, labels, calls, model, facts or rules differ from those of its newest version,
    if it has since been found unlike what the model knows, if the quality control has since come to hold or to release
    it, or if the review rule delta names it otherwise since another slide of the patient was signed.
    What a person has signed stays in force: a later version waits for a signature.

    Args:
        connection: Where to write.
        slides: Slide ids.
        run_id: The run that makes the versions.
        rules: The rules with which the slides were counted.
    """
    newest = {row.slide_id: row for row in connection.execute(_SQL["newest_versions"], {"slides": slides})}
    counts = list(connection.execute(_SQL["reportable_counts"], {"slides": slides}))
    before = _last_signed(connection, [row.slide_id for row in counts], rules)
    differing = {row.slide_id for row in counts if row.slide_id not in newest or _differs(row, newest[row.slide_id])}
    compared = {
        slide_id
        for slide_id, last in before.items()
        if slide_id not in differing and _was_signed_since(last, newest[slide_id])
    }
    judged = _judged(connection, [row for row in counts if row.slide_id in differing | compared], before, rules)
    otherwise = {slide_id for slide_id in compared if judged[slide_id].review_for != tuple(newest[slide_id].review_for)}
    versions = []
    for row in counts:
        if row.slide_id not in differing | otherwise:
            continue
        previous, judgement = newest.get(row.slide_id), judged[row.slide_id]
        versions.append(
            {
                "slide_id": row.slide_id,
                "number": 1 if previous is None else previous.number + 1,
                "state": "withheld" if judgement.withheld_for else "machine",
                "report_id": row.report_id,
                "causes": ["patient"] if row.slide_id in otherwise else _causes(previous, row),
                "withheld_for": list(judgement.withheld_for),
                "review_for": list(judgement.review_for),
                "digest": _digest(row),
                "run_id": run_id,
            }
        )
    if versions:
        connection.execute(sa.insert(tables.result), versions)
    return len(versions)


def delta_since(connection: sa.Connection, barcode: str, number: int) -> str | None:
    """Returns which signed result of the patient the review rule delta names this version for, if it did not yet.

    Args:
        connection: Where to read; the login may be one that reads only views.
        barcode: The slide.
        number: The version.

    Returns:
        None if no other slide of the patient was signed since the version was made, if the rule named the version
        already, or if it does not name it now.
    """
    row = connection.execute(_SQL["version"], {"barcode": barcode, "version": number}).one_or_none()
    if row is None or "delta" in row.review_for:
        return None
    rules = rules_of(row.document)
    last = _last_signed(connection, [row.slide_id], rules).get(row.slide_id)
    if last is None or last.made_at <= row.made_at:
        return None
    judgement = _judged(connection, [row], {row.slide_id: last}, rules)[row.slide_id]
    return f"version {last.version} of slide {last.barcode}" if "delta" in judgement.review_for else None


def result_digest(
    *,
    model_id: str,
    calls_digest: str,
    labels_digest: str,
    rules_digest: str,
    age_months: int | None,
    sex: str | None,
    wbc_received: float | None,
    wbc_is_corrected: bool | None,
) -> str:
    """Returns the digest of a result: the sha256 over one line for each thing that it was made from.

    Each line is a name, a blank and a value, `-` for nothing. A leucocyte count has six decimals.
    """
    corrected = {True: "yes", False: "no", None: "-"}[wbc_is_corrected]
    lines = (
        f"model {model_id}",
        f"calls {calls_digest}",
        f"labels {labels_digest}",
        f"rules {rules_digest}",
        f"age_months {'-' if age_months is None else age_months}",
        f"sex {sex or '-'}",
        f"wbc_10e9_per_l {'-' if wbc_received is None else f'{wbc_received:.6f}'}",
        f"wbc_is_corrected {corrected}",
    )
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _differs(row: sa.Row[Any], newest: sa.Row[Any]) -> bool:
    """Returns whether a count was made from something else, or counts something else, than the newest version."""
    return (
        _digest(row) != newest.digest
        or any(row._mapping[name] != newest._mapping[name] for name in _COUNTED)
        or ((row.is_unlike, row.is_held) != (newest.is_unlike, newest.is_held) and newest.signed_by is None)
    )


def _was_signed_since(last: sa.Row[Any], newest: sa.Row[Any]) -> bool:
    """Returns whether another slide of the patient was signed since the newest version, which nobody has signed."""
    return newest.signed_by is None and last.made_at > newest.made_at


def _digest(row: sa.Row[Any]) -> str:
    named = ("model_id", "calls_digest", "labels_digest", "rules_digest", *_FACTS)
    return result_digest(**{name: row._mapping[name] for name in named})


def _causes(previous: sa.Row[Any] | None, row: sa.Row[Any]) -> list[str]:
    """Returns what differs from the version before, in the order in which people ask."""
    if previous is None:
        return ["first"]
    is_known = previous.calls_digest is not None  # empty before schema 0010
    has_more_cells, has_other_model = previous.n_cells != row.n_cells, previous.model_id != row.model_id
    differs: Mapping[str, bool] = {
        "cells": has_more_cells,
        "labels": previous.labels_digest != row.labels_digest if is_known else row.n_labelled > 0,
        "model": has_other_model,
        # other cells or another model have other calls anyway
        "calls": is_known and previous.calls_digest != row.calls_digest and not (has_more_cells or has_other_model),
        "facts": any(previous._mapping[name] != row._mapping[name] for name in _FACTS),
        "rules": previous.rules_digest != row.rules_digest,
        "night": previous.is_unlike != row.is_unlike,
        "quality": previous.is_held != row.is_held,
    }
    return [cause for cause, holds in differs.items() if holds]


def _last_signed(connection: sa.Connection, slides: Sequence[int], rules: LaboratoryRules) -> dict[int, sa.Row[Any]]:
    """Returns slide id -> the patient's last signed result of another slide, where there is one."""
    asked = {"slides": slides, "days": rules.review.delta.within_days}
    return {row.of_slide_id: row for row in connection.execute(_SQL["last_signed"], asked)}


def _judged(
    connection: sa.Connection, counts: Sequence[sa.Row[Any]], before: Mapping[int, sa.Row[Any]], rules: LaboratoryRules
) -> dict[int, Judgement]:
    """Returns slide id -> what the rules make of its count, beside the patient's last signed result."""
    if not counts:
        return {}
    last = {row.slide_id: before[row.slide_id] for row in counts if row.slide_id in before}
    leucocytes = _leucocytes(connection, [row.report_id for row in (*counts, *last.values())])
    counted = {row.report_id: _counted(row, leucocytes[row.report_id]) for row in (*counts, *last.values())}
    return {
        row.slide_id: judge(
            counted[row.report_id], rules, counted[last[row.slide_id].report_id] if row.slide_id in last else None
        )
        for row in counts
    }


def _leucocytes(connection: sa.Connection, reports: list[int]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {report_id: {} for report_id in reports}
    for report_id, name, n_cells in connection.execute(_SQL["leucocytes"], {"reports": reports}):
        counts[report_id][name] = n_cells
    return counts


def _counted(row: sa.Row[Any], leucocytes: Mapping[str, int]) -> CountedSlide:
    return CountedSlide(
        n_leucocytes=row.n_leucocytes,
        n_unclassified=row.n_unclassified,
        n_blasts=row.n_blasts,
        n_unverified=row.n_unverified,
        n_immature=leucocytes.get("ig", 0),
        nrbc_per_100_wbc=row.nrbc_per_100_wbc,
        n_compared=row.n_compared,
        n_agree=row.n_agree,
        leucocytes=leucocytes,
        is_unlike=bool(row._mapping.get("is_unlike")),
        is_held=bool(row._mapping.get("is_held")),
    )
