"""Makes a version of a slide's result where its count differs from what the newest version reports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.results.judging import CountedSlide, judge
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from bloodcell.differential.laboratory_rules import LaboratoryRules

_SQL: Final = load_statements("results/versions.sql")
_COUNTED: Final = ("n_cells", "n_leucocytes", "n_unclassified", "n_blasts", "n_contested", "n_labelled")
_FACTS: Final = ("age_months", "sex", "wbc_received", "wbc_is_corrected")


def add_versions(connection: sa.Connection, slides: Sequence[int], *, run_id: uuid.UUID, rules: LaboratoryRules) -> int:
    """Makes the versions of these slides, which the transaction has locked, and returns how many are new.

    A slide gets a version if its cells, labels, calls, model, facts or rules differ from those of its newest version.
    What a person has signed stays in force: a later version waits for a signature.

    Args:
        connection: Where to write.
        slides: Slide ids.
        run_id: The run that makes the versions.
        rules: The rules with which the slides were counted.
    """
    newest = {row.slide_id: row for row in connection.execute(_SQL["newest_versions"], {"slides": slides})}
    counts = list(connection.execute(_SQL["reportable_counts"], {"slides": slides}))
    changed = [row for row in counts if row.slide_id not in newest or _differs(row, newest[row.slide_id])]
    if not changed:
        return 0
    of_changed = {"slides": [row.slide_id for row in changed], "days": rules.review.delta.within_days}
    before = {row[0]: row for row in connection.execute(_SQL["last_signed"], of_changed)}
    leucocytes = _leucocytes(connection, [row.report_id for row in (*changed, *before.values())])
    versions = []
    for row in changed:
        last, previous = before.get(row.slide_id), newest.get(row.slide_id)
        judgement = judge(
            _counted(row, leucocytes[row.report_id]),
            rules,
            None if last is None else _counted(last, leucocytes[last.report_id]),
        )
        versions.append(
            {
                "slide_id": row.slide_id,
                "number": 1 if previous is None else previous.number + 1,
                "state": "withheld" if judgement.withheld_for else "machine",
                "report_id": row.report_id,
                "causes": _causes(previous, row),
                "withheld_for": list(judgement.withheld_for),
                "review_for": list(judgement.review_for),
                "digest": _digest(row),
                "run_id": run_id,
            }
        )
    connection.execute(sa.insert(tables.result), versions)
    return len(versions)


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
    return _digest(row) != newest.digest or any(row._mapping[name] != newest._mapping[name] for name in _COUNTED)


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
    }
    return [cause for cause, holds in differs.items() if holds]


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
    )
