"""What a look at the champion found: one row a figure, as the table `model_check` keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from bloodcell.presentation.markdown import bold, code, escaped, markdown_table
from bloodcell.presentation.numbers import count, interval, number

Kind = Literal[
    "agreement", "blind_agreement", "unclassified", "out_of_scope", "class_mix", "confidence", "novelty", "embedding"
]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, judged or not.

    Attributes:
        kind: What was measured.
        cell_class: Class it is of, None where it is of all.
        n_cells: Cells it rests on.
        measured: Share in 0..1, population stability index, or squared maximum mean discrepancy; None where too little
            was there to measure.
        lower: Lower 95 % limit, None where there is none.
        upper: Upper 95 % limit.
        limit: What it is held against, None where it only informs.
        passed: False where the limit is crossed; what was not measured passes.
        reason: For a person: figure, limit, and what was left out.
        since_night: First night looked at, of the drift kinds.
        until_night: Last night looked at.
    """

    kind: Kind
    cell_class: str | None
    n_cells: int
    measured: float | None
    lower: float | None
    upper: float | None
    limit: float | None
    passed: bool
    reason: str
    since_night: date | None = None
    until_night: date | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper end of the 95 % interval, None where there is none."""
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """All figures of one look at the champion.

    Attributes:
        run_id: The run that made it.
        model_id: The champion then.
        variant: Its kind.
        checks: The figures, in the order they are shown.
    """

    run_id: UUID
    model_id: str
    variant: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Why the champion needs a person, a sentence each; empty where every limit was kept."""
        return tuple(check.reason for check in self.checks if not check.passed)

    def markdown(self) -> str:
        """Returns the figures as a Markdown table under a heading that says how it went."""
        kept = (
            "every limit kept" if any(check.measured is not None for check in self.checks) else "nothing to judge yet"
        )
        verdict = f"{len(self.failed)} limits crossed" if self.failed else kept
        table = markdown_table(
            ("check", "class", "cells", "measured", "95 % limits", "limit", "", "what it says"),
            [
                (
                    check.kind.replace("_", " "),
                    check.cell_class or "all",
                    count(check.n_cells),
                    "" if check.measured is None else number(check.measured, 3),
                    interval(check.interval, 3),
                    "" if check.limit is None else number(check.limit, 3),
                    "ok" if check.passed else bold("FAILED"),
                    check.reason,
                )
                for check in self.checks
            ],
            right=range(2, 6),
        )
        return f"### Champion {escaped(self.variant)} {code(self.model_id[:12])}: {verdict}\n\n{table}"
