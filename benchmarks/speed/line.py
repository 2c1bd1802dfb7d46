"""A line of the table: a figure, its target, and the raw figures that it comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.table import Table

from bloodcell.presentation import markdown
from bloodcell.storage.runs import code_version


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement; `value` is a ratio if it has no unit."""

    what: str
    against: str
    value: float
    raw: str
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}{self.unit}"
        return f"at most {self.at_most:g}{self.unit}" if self.at_most is not None else ""

    @property
    def is_met(self) -> bool | None:
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def cells(self) -> tuple[str, ...]:
        met = {True: "met", False: "**missed**", None: ""}[self.is_met]
        return self.what, self.against, f"{self.value:.2f}{self.unit}", self.target, met, self.raw


def alternately(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Returns the figures of every side, measured in turn: A B A B ..."""
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, of_side in zip(sides, figures, strict=True):
            of_side.append(side())
    return figures


def ratio(upper: Sequence[float], lower: Sequence[float]) -> float:
    return median(upper) / median(lower)


def shown(figures: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    return " / ".join(f"{figure * scale:,.{digits}f}" for figure in figures)


COLUMNS = ("what", "against", "figure", "target", "", "raw figures")


def as_table(lines: Sequence[Line]) -> Table:
    table = Table(*COLUMNS, title="Speed and memory", show_lines=True)
    for line in lines:
        table.add_row(*(cell.replace("**", "") for cell in line.cells))
    return table


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; the first row is its head, and the cells are Markdown already."""
    head, *others = ([markdown.Markdown(cell) for cell in row] for row in rows)
    return markdown.markdown_table(head, others)


def as_markdown(lines: Sequence[Line], facts: Sequence[str]) -> str:
    table = markdown_table([COLUMNS, *(line.cells for line in lines)])
    listed = "\n".join(f"- {fact}" for fact in facts)
    return f"# Speed and memory\n\nWritten by `make bench`. {HOW}\n\n{listed}\n\n{table}\n"


HOW = (
    "Figures without a unit are ratios of medians, raw figures in the order measured; see "
    "`benchmarks/speed/__init__.py`. On a GPU: GPU.md."
)


def machine() -> list[str]:
    """Returns what a reader of the figures has to know about the machine."""
    libraries = ("tensorflow", "keras", "scikit-learn", "pillow", "sqlalchemy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, bloodcell {code_version()}",
        f"{os.cpu_count()} cores, {_processor()}; load average at the start {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, {versions}",
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return named[0] if named else platform.processor()
