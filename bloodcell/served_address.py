"""The address at which `bloodcell up` serves a data folder's Airflow, for every other command on that folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT: Final = "http://127.0.0.1:8080"


def airflow_address(values: Mapping[str, Any]) -> str:
    """Returns the address that `bloodcell up` serves for a data folder, or the one that it serves by default.

    Args:
        values: Settings that are known to be valid, by name; `data_dir` is missing if it is not.
    """
    return ("data_dir" in values and served_address(values["data_dir"])) or _DEFAULT


def up_lock(data_dir: Path) -> Path:
    """Returns the file that `bloodcell up` locks while it runs; it holds the process id and the address."""
    return data_dir / "up.lock"


def served_address(data_dir: Path) -> str | None:
    """Returns the address of the Airflow that `bloodcell up` runs on a data folder; None if it does not run.

    Args:
        data_dir: The data folder (BLOODCELL_DATA_DIR).
    """
    try:
        process_id, address = up_lock(data_dir).read_text().split()
        os.kill(int(process_id), 0)  # after a kill the file is left behind
    except (OSError, ValueError, OverflowError):
        return None
    return address
