"""Runs programs as other users of this machine, which only root can do."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

_NAMESPACE = """
set -e
if [ -n "$CLOSED" ]; then
    mount --bind "$PYTHON" "$BIND"
    mount -t tmpfs -o mode=755 none "$CLOSED"
    mkdir -p "$PYTHON"
    mount --bind "$BIND" "$PYTHON"
fi
exec "$@"
"""
"""Shows a Python that is in a home folder to other users, who cannot enter that folder; nobody else sees the mounts."""


def as_user(uid: int, command: Sequence[str], environment: Mapping[str, str], bind: Path) -> subprocess.Popen[str]:
    """Returns a started `python COMMAND` of another user, without any right of root.

    Args:
        uid: The user.
        command: Arguments for Python.
        environment: Its whole environment, apart from PATH.
        bind: An empty folder for the mounts.
    """
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs root, unshare and setpriv to run a program as another user")
    python = Path(sys.base_prefix)
    closed = next((each for each in reversed(python.parents) if not each.stat().st_mode & 0o001), None)
    if any(not each.stat().st_mode & 0o001 for each in ROOT.parents):
        pytest.skip("the checkout is in a folder that other users cannot enter")
    bind.mkdir(exist_ok=True)
    setpriv = [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _NAMESPACE, "sh", *setpriv, sys.executable, *command],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"], "CLOSED": str(closed or ""), "PYTHON": str(python), "BIND": str(bind),
            "PYTHONDONTWRITEBYTECODE": "1", **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def two_users() -> tuple[int, int]:
    """Returns the ids of two users who are neither root nor the embedded server's."""
    try:
        return pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("daemon").pw_uid
    except KeyError:
        pytest.skip("needs the users nobody and daemon")
