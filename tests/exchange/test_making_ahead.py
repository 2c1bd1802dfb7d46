"""One message at most is made ahead, and one that cannot be made disturbs none before it."""

from __future__ import annotations

import pytest

from bloodcell.exchange.delivery import MadeMessage
from bloodcell.exchange.making_ahead import MadeAhead


class Maker:
    """Makes messages out of numbers, and remembers which; 3 cannot be made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int) -> MadeMessage:
        if number == 3:
            raise LookupError("three")
        self.made.append(number)
        return MadeMessage(None, b"%d" % number)  # type: ignore[arg-type]


def made_ahead(make: Maker, *numbers: int) -> MadeAhead:
    return MadeAhead(iter(numbers), make)  # type: ignore[arg-type]


def test_the_next_message_is_made_once_and_none_after_it() -> None:
    make = Maker()
    ahead = made_ahead(make, 0, 1, 2)
    messages = iter(ahead)
    assert next(messages).body == b"0"
    ahead.make_next()
    ahead.make_next()
    assert make.made == [0, 1]
    assert [message.body for message in messages] == [b"1", b"2"]
    ahead.make_next()
    assert list(ahead) == []


def test_a_message_that_cannot_be_made_is_told_when_it_is_asked_for() -> None:
    make = Maker()
    ahead = made_ahead(make, 2, 3, 4)
    messages = iter(ahead)
    assert next(messages).body == b"2"
    ahead.make_next()
    with pytest.raises(LookupError, match="three"):
        next(messages)
    assert make.made == [2]
