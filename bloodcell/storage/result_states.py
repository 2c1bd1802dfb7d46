"""The states of a slide's result; docs/how-to/results.md says what each means."""

from __future__ import annotations

from typing import Final, Literal, get_args

SignedState = Literal["final", "amended", "corrected"]
ResultState = Literal["machine", "withheld", SignedState]

RESULT_STATES: Final[tuple[ResultState, ...]] = get_args(ResultState)
