"""Progress bars on standard error; rich is loaded only when one is shown."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID


class ShowStep(Protocol):
    """Shows how much of a step is done, and of how much: 0 where that is not known."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


class Advance(Protocol):
    """Moves a bar forward."""

    def __call__(self, n: int = 1) -> None: ...


@contextmanager
def step_bars(console: Console | None = None) -> Iterator[ShowStep]:
    """A bar for each step of a long piece of work; the bars stay when it has ended.

    Args:
        console: Where they are shown; None: standard error.
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
    """One bar whose text changes with what is being done; it goes when the work has ended.

    Args:
        step: Its first text.
    """
    with _progress(None, transient=True) as progress:
        bar = progress.add_task(step, total=None)
        yield lambda step, done, total: progress.update(bar, description=step, completed=done, total=total or None)


@contextmanager
def counting_bar(what: str, total: int | None = None) -> Iterator[Advance]:
    """One bar that counts things; it goes when the work has ended.

    Args:
        what: Things that are counted.
        total: How many there are; None: not known.
    """
    with _progress(None, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda n=1: progress.advance(bar, n)


def _progress(console: Console | None, *, transient: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # a step's name can hold what rich would take for markup, a file's name for instance
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console or Console(stderr=True), transient=transient)
