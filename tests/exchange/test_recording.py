"""Attempts are recorded in their order, none is forgotten, and a sender hears when they cannot be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bloodcell.exchange.delivery import Attempt, NoAnswerError, Outcome
from bloodcell.exchange.recording import Recorded, Recorder
from tests.exchange.conftest import Exchange


def recorded(exchange: Exchange, answer: str, outcome: Outcome = "no_answer") -> Recorded:
    ((message,),) = exchange.messages("message_id")
    now = datetime.now(UTC)
    return Recorded(int(str(message)), now, now, Attempt(outcome, answer, None))


def answers(exchange: Exchange) -> list[str]:
    rows = exchange.laboratory.rows("SELECT answer FROM bloodcell.message_attempts ORDER BY attempt_id")
    return [str(answer) for (answer,) in rows]


@pytest.fixture
def signed(exchange: Exchange) -> Exchange:
    exchange.slide()
    exchange.laboratory.sign("S-1", 1)
    return exchange


def test_what_was_put_is_recorded_in_its_order_before_flush_returns(signed: Exchange) -> None:
    expected = [str(number) for number in range(250)]
    with Recorder(signed.laboratory.database) as recorder:
        recorder.flush()  # nothing yet
        for each in expected:
            recorder.put(recorded(signed, each))
        recorder.flush()
        assert answers(signed) == expected
        recorder.put(recorded(signed, "last", "delivered"))
    assert answers(signed) == [*expected, "last"]
    assert signed.messages("state") == [("delivered",)]


def test_what_was_put_before_the_receiver_went_away_is_recorded_all_the_same(signed: Exchange) -> None:
    with pytest.raises(NoAnswerError), Recorder(signed.laboratory.database) as recorder:
        recorder.put(recorded(signed, "it went away"))
        raise NoAnswerError("it went away")
    assert answers(signed) == ["it went away"]


def test_attempts_that_cannot_be_recorded_stop_the_sender(signed: Exchange) -> None:
    with pytest.raises(ValueError, match="NUL"), Recorder(signed.laboratory.database) as recorder:
        recorder.put(recorded(signed, "\x00"))  # no text of Postgres
        recorder.flush()
    with pytest.raises(ValueError, match="NUL"), Recorder(signed.laboratory.database) as recorder:
        for _ in range(300):  # more than may be open: one of them waits, and hears of it
            recorder.put(recorded(signed, "\x00"))
    assert answers(signed) == []
