"""The records of a check of the champion: one for each figure, as the table `model_check` keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal
from uuid import UUID

from bloodcell.presentation.markdown import bold, code, escaped, markdown_table
from bloodcell.presentation.numbers import count, counted, interval, number

Kind = Literal[
    "agreement",
    "blind_agreement",
    "precision",
    "unclassified",
    "out_of_scope",
    "class_mix",
    "confidence",
    "novelty",
    "embedding",
]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of a check, judged or not.

    Attributes:
        kind: What was measured.
        cell_class: The cell class that it is about, None for all classes.
        n_cells: Number of cells that it is based on.
        measured: Share in 0..1, population stability index, or squared maximum mean discrepancy; None where there were
            too few cells or slides to measure.
        lower: Lower end of the 95 % interval, None where there is none.
        upper: Upper end.
        threshold: What it is compared with, None where the figure is only for information.
        passed: False if the threshold is crossed; a figure that was not measured passes.
        reason: For a person: the figure, its threshold, and what was left out.
        since_night: First night that the figure covers; only for drift.
        until_night: Last night that it covers.
    """

    kind: Kind
    cell_class: str | None
    n_cells: int
    measured: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    passed: bool
    reason: str
    since_night: date | None = None
    until_night: date | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper end of the 95 % interval, None where there is none."""
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)


def not_judged(kind: Kind, n_cells: int, reason: str, *, threshold: float | None = None) -> Check:
    """Returns a figure that could not be measured, which raises no alarm."""
    return Check(kind, None, n_cells, None, None, None, threshold, True, reason)


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """All figures of one check.

    Attributes:
        run_id: The run that made the check.
        model_id: The champion at the time.
        variant: Its variant.
        checks: The figures, in the order in which they are shown.
    """

    run_id: UUID
    model_id: str
    variant: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Why a person has to look at the champion, one sentence each; empty if no threshold was crossed."""
        return tuple(check.reason for check in self.checks if not check.passed)

    @property
    def is_judged(self) -> bool:
        """Whether any figure was measured; False if there was too little new data."""
        return any(check.measured is not None for check in self.checks)

    @property
    def result(self) -> str:
        """The result in a few words."""
        if self.failed:
            return f"{counted(len(self.failed), 'threshold')} crossed"
        return "no threshold crossed" if self.is_judged else "too little data to judge yet"

    def markdown(self) -> str:
        """Returns the figures as a Markdown table, under a heading with the result."""
        table = markdown_table(
            ("check", "class", "cells", "measured", "95 % interval", "threshold", "", "reason"),
            [
                (
                    check.kind.replace("_", " "),
                    check.cell_class or "all",
                    count(check.n_cells),
                    "" if check.measured is None else number(check.measured, 3),
                    interval(check.interval, 3),
                    "" if check.threshold is None else number(check.threshold, 3),
                    "ok" if check.passed else bold("FAILED"),
                    check.reason,
                )
                for check in self.checks
            ],
            right=range(2, 6),
        )
        return f"### Champion {escaped(self.variant)} {code(self.model_id[:12])}: {self.result}\n\n{table}"
