"""Keeps TensorFlow from reporting, at every start, that a machine without a GPU has no CUDA.

TensorFlow 2.21 writes these lines before it reads TF_CPP_MIN_LOG_LEVEL. They are taken out of standard error by a
process of its own, which still writes the last words of a TensorFlow that aborts. This file is that program, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ABOUT_CUDA = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|[IWE]\d{4} .*\] (Could not find cuda drivers on your machine"
    rb"|failed call to cuInit"
    rb"|Unable to register cu(DNN|BLAS|FFT) factory"
    rb"|Cannot dlopen some GPU libraries)"
)
_MAY_BE_ABOUT_CUDA = re.compile(rb"W(A|$)|[IWE](\d|$)")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_WAIT_S = 5.0


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Returns whether the machine has an NVIDIA GPU, usable or not: one without a driver is on the PCI bus.

    Args:
        root: Folder in which `dev` and `sys` are looked for.
    """
    if any((root / "dev").glob("nvidia*")) or (root / "dev" / "dxg").exists():  # dxg: a GPU of Windows in WSL
        return True
    return any(
        _content(device / "vendor") == _NVIDIA and _content(device / "class").startswith(_DISPLAY)
        for device in (root / "sys" / "bus" / "pci" / "devices").glob("*")
    )


@contextmanager
def without_messages_about_cuda() -> Iterator[None]:
    """Drops the lines about a missing CUDA from standard error within the block; everything else is written at once."""
    reading, writing = os.pipe()
    program = (sys.executable, "-I", "-S", __file__)
    sieve = subprocess.Popen(program, stdin=reading, start_new_session=True)  # Ctrl-C is for this process only
    os.close(reading)
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        with suppress(subprocess.TimeoutExpired):  # a process started within the block still has standard error
            sieve.wait(_WAIT_S)


def main() -> None:
    """Copies standard input to standard error, except for the lines about a missing CUDA."""
    pending = b""
    while chunk := os.read(0, 65_536):
        *lines, pending = (pending + chunk).split(b"\n")
        kept = [line + b"\n" for line in lines if not _ABOUT_CUDA.match(line)]
        if not _MAY_BE_ABOUT_CUDA.match(pending):  # a progress bar is written without an end of line
            kept.append(pending)
            pending = b""
        os.write(2, b"".join(kept))
    os.write(2, pending)


def _content(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
