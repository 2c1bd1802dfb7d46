"""One check of the quality control, and how it is recorded: once for what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import date

_SQL: Final = load_statements("quality/quality_check.sql")
_DERIVED: Final = ("score", "warned")
_KEY: Final = ("kind", "subject", "night", "analyser", "model_id")


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """What was measured, and whether it holds the results.

    Attributes:
        kind: control or figure; the workers themselves record those of sentinels.
        subject: The control slide, or the figure.
        night: The night.
        analyser: The analyser; None: unknown, or none alone.
        passed: False: the results are held until a person overrides.
        reason: The outcome in a sentence.
        whole_night: Whether a failure holds the slides of all analysers.
        judged: False: there was too little to judge, so it replaces no failure.
        model_id: The model whose calls were checked; None: the images themselves were.
        value: What was measured.
        center: What was expected.
        lower: Lower control limit.
        upper: Upper control limit.
        figures: What the outcome rests on.
    """

    kind: Literal["control", "figure"]
    subject: str
    night: date
    analyser: str | None
    passed: bool
    reason: str
    whole_night: bool = False
    judged: bool = True
    model_id: str | None = None
    value: float | None = None
    center: float | None = None
    lower: float | None = None
    upper: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


def record_checks(connection: sa.Connection, checks: Sequence[QualityCheck], run_id: uuid.UUID) -> int:
    """Records checks, and returns how many are new.

    A check that measured what the newest of the same kind, subject, night, analyser and model measured, with the same
    outcome, is not recorded again: what a person has overridden stays overridden until the night itself differs.

    Args:
        connection: Where to write; the transaction waited for `check` before it read the night.
        checks: The checks of a night.
        run_id: The run that made them.
    """
    n_new = 0
    for check in checks:
        row = {name: getattr(check, name) for name in check.__slots__}
        newest = connection.execute(_SQL["newest"], {name: row[name] for name in _KEY}).one_or_none()
        if newest is not None and (newest.passed, newest.judged, _measured(newest.figures)) == (
            check.passed,
            check.judged,
            _measured(check.figures),
        ):
            continue
        connection.execute(sa.insert(tables.quality_check), [row | {"run_id": run_id}])
        n_new += 1
    return n_new


def _measured(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what was measured of the night itself, without what other nights lead to."""
    return {name: value for name, value in figures.items() if name not in _DERIVED}
