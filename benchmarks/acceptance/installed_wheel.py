"""Installs the wheel that `make release` built outside the checkout, and runs `bloodcell demo` with it.

    python -m benchmarks.acceptance.installed_wheel WORK

WORK is emptied and gets a virtual environment, an empty home and the demo's data. The packages are the ones in uv.lock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT


def main() -> int:
    """Returns the exit status of the first command of the installed wheel that fails, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    work: Path = parser.parse_args().work.resolve()
    (wheel,) = (ROOT / "dist").glob("*.whl")
    shutil.rmtree(work, ignore_errors=True)
    home = work / "home"
    home.mkdir(parents=True)
    uv, python, locked = ROOT / ".venv/bin/uv", work / "venv/bin/python", work / "locked.txt"
    export = [uv, "export", "--frozen", "--no-dev", "--no-group", "docs", "--no-emit-project", "--quiet"]
    for prepare in (
        [*export, "--output-file", locked],
        [sys.executable, "-m", "venv", work / "venv"],
        [uv, "pip", "install", "--quiet", "--python", python, "--requirement", locked],
        [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel],
    ):
        subprocess.run(
            [str(part) for part in prepare], cwd=ROOT, check=True, env={**os.environ, "UV_LINK_MODE": "copy"}
        )
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.0f} MB, installed into {work / 'venv'}", flush=True)
    environment = {"HOME": str(home), "PATH": f"{work / 'venv/bin'}:{os.defpath}", "LANG": "C.UTF-8"}
    for command in (["--version"], ["db", "queries"], ["demo"]):
        began = time.monotonic()
        print(f"\n$ bloodcell {' '.join(command)}", flush=True)
        ended = subprocess.run([work / "venv/bin/bloodcell", *command], cwd=home, env=environment, check=False)
        print(f"exit status {ended.returncode}, {time.monotonic() - began:.1f} s", flush=True)
        if ended.returncode:
            return ended.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
