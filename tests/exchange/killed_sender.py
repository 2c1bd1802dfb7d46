"""A sender in a process of its own, which ends without a word after an answer or after it has recorded one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bloodcell.exchange import recording, sending
from bloodcell.settings import Settings

When = Literal["answered", "recorded"]

_EXIT = 9


def send_and_die(settings: Settings, at: int, when: When) -> None:
    """Sends until a message was answered (and its answer not recorded), or recorded.

    Args:
        settings: Those of the sender.
        at: 1: after the first such moment, 2: after the second.
        when: answered or recorded.
    """
    command = [sys.executable, "-m", __name__, str(at), when]
    environment = {"PATH": os.environ["PATH"], **settings.as_variables()}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == _EXIT


def _main() -> None:
    at, when = int(sys.argv[1]), sys.argv[2]
    n = 0

    def dies(work: Callable[..., None], *, is_before: bool) -> Callable[..., None]:
        def dying(*arguments: object) -> None:
            nonlocal n
            n += 1
            if is_before and n == at:
                os._exit(_EXIT)
            work(*arguments)
            if n == at:
                os._exit(_EXIT)

        return dying

    if when == "answered":
        recording.record = dies(recording.record, is_before=True)
    else:
        deliver = sending._deliver

        def recorded(recorder: recording.Recorder, *arguments: object) -> None:
            deliver(recorder, *arguments)  # type: ignore[arg-type]
            recorder.flush()

        sending._deliver = dies(recorded, is_before=False)
    sending.send_results(Settings())


if __name__ == "__main__":
    _main()
