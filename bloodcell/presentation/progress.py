"""Progress bars on standard error; rich is loaded only when one is shown."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID


class ShowStep(Protocol):
    """Shows how much of a step's total is done; a total of 0 means that it is not known."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


class Advance(Protocol):
    """Moves a bar forward."""

    def __call__(self, n: int = 1) -> None: ...


@contextmanager
def step_bars(console: Console | None = None) -> Iterator[ShowStep]:
    """Yields a function that shows a bar for each step of a long task; the bars stay when the task has ended.

    Args:
        console: Where the bars are shown; None for standard error.
    """
    bars: dict[str, TaskID] = {}
    with _progress(console, transient=False) as progress:

        def show(step: str, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total or None)
            progress.update(bars[step], completed=done, total=total or None)

        yield show


@contextmanager
def changing_bar(step: str) -> Iterator[ShowStep]:
    """Yields a function that shows one bar, whose text names the present step; the bar disappears at the end.

    Args:
        step: The first step.
    """
    with _progress(None, transient=True) as progress:
        bar = progress.add_task(step, total=None)
        yield lambda step, done, total: progress.update(bar, description=step, completed=done, total=total or None)


@contextmanager
def counting_bar(what: str, total: int | None = None) -> Iterator[Advance]:
    """Yields a function that advances one bar that counts things; the bar disappears at the end.

    Args:
        what: Name of the things that are counted.
        total: How many there are; None if that is not known.
    """
    with _progress(None, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda n=1: progress.advance(bar, n)


def _progress(console: Console | None, *, transient: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # a step's name can contain text that rich would take for markup, such as a file's name
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console or Console(stderr=True), transient=transient)
