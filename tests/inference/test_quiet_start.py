"""TensorFlow is silent about a CUDA that a machine cannot have, and about nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.inference.quiet_start import has_nvidia_gpu, without_messages_about_cuda

CUDA = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:17 19712 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
E0000 00:00:1795907824.248030   19712 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call \
to cuInit: UNKNOWN ERROR (303)
"""
OTHER = """\
E0000 00:00:1795907824.248030   19712 memory.cc:1] Out of memory
F0000 00:00:1795907824.248030   19712 cpu.cc:2] compiled to use AVX instructions, but these aren't available
"""


def test_only_the_lines_about_cuda_are_left_out_and_the_last_words_of_a_crash_are_kept() -> None:
    code = (
        "import os, signal\n"
        "from bloodcell.inference.quiet_start import without_messages_about_cuda\n"
        "with without_messages_about_cuda():\n"
        f"    os.write(2, {(CUDA + OTHER).encode()!r})\n"
        "    os.write(2, b'bar 50 %')\n"
        "    os.kill(os.getpid(), signal.SIGABRT)\n"
    )
    crashed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert crashed.returncode == -6
    assert crashed.stderr == f"{OTHER}bar 50 %"


def test_standard_error_is_as_before_after_the_block_even_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="full"), without_messages_about_cuda():
        os.write(2, CUDA.encode())
        raise OSError("full")
    os.write(2, f"{CUDA}after".encode())
    assert capfd.readouterr().err == f"{CUDA}after"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"dev/nvidia0": "", "dev/nvidiactl": ""}, True),
        ({"dev/dxg": ""}, True),
        ({"sys/bus/pci/devices/0/vendor": "0x10de\n", "sys/bus/pci/devices/0/class": "0x030200\n"}, True),
        ({"sys/bus/pci/devices/0/vendor": "0x10de\n", "sys/bus/pci/devices/0/class": "0x020000\n"}, False),
        ({"sys/bus/pci/devices/0/vendor": "0x8086\n", "sys/bus/pci/devices/0/class": "0x030000\n"}, False),
    ],
)
def test_a_gpu_without_a_driver_counts_so_that_its_failure_is_shown(
    tmp_path: Path, files: dict[str, str], expected: bool
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert has_nvidia_gpu(tmp_path) is expected
