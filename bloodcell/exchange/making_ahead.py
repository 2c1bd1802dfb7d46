"""Messages are made ahead: the next one while the receiver works on the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bloodcell.exchange.delivery import MadeMessage
    from bloodcell.exchange.outgoing_result import OutgoingResult


class MadeAhead:
    """Messages in their order, of which one at most is made before it is asked for."""

    def __init__(self, results: Iterator[OutgoingResult], make: Callable[[OutgoingResult], MadeMessage]) -> None:
        self._results = results
        self._make = make
        self._next: MadeMessage | None = None
        self._failure: Exception | None = None

    def make_next(self) -> None:
        """Makes the next message, unless it is made already. A failure is raised when the message is asked for."""
        if self._next is not None or self._failure is not None:
            return
        try:
            result = next(self._results, None)
            self._next = None if result is None else self._make(result)
        except Exception as error:  # another message is on its way, and its answer matters
            self._failure = error

    def __iter__(self) -> Iterator[MadeMessage]:
        while True:
            self.make_next()
            if self._failure is not None:
                raise self._failure
            if self._next is None:
                return
            made, self._next = self._next, None
            yield made
