"""The code and the libraries that made a model."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

_LIBRARIES: Final = ("keras", "numpy", "pillow", "scikit-learn", "tensorflow")


def code_version() -> str:
    """Returns bloodcell's version."""
    return importlib.metadata.version("bloodcell")


def git_commit() -> str:
    """Returns the commit of the checkout that this code runs from; empty for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return ""
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() if git.returncode == 0 else ""


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a model's numbers depend on, and Keras' backend."""
    import keras

    versions = {"python": platform.python_version(), "keras backend": keras.backend.backend()}
    return versions | {name: importlib.metadata.version(name) for name in _LIBRARIES}
