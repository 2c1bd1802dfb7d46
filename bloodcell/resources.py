"""Finds the files of this release that are not modules of the package: Dags, migrations, views and queries.

In a checkout they are top-level folders; a wheel carries them inside the package (pyproject.toml, force-include).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bloodcell.errors import ConfigurationError

_PACKAGE: Final = Path(__file__).resolve().parent


def dags_folder() -> Path:
    """Returns the folder of the Dags."""
    return _folder("dags")


def dag_ids() -> tuple[str, ...]:
    """Returns the names of this release's Dags, sorted; each is defined by the file of its name in `dags_folder()`."""
    return tuple(sorted(path.stem for path in dags_folder().glob("*.py") if "@dag(" in path.read_text()))


def sql_folder() -> Path:
    """Returns the folder of migrations (`versions/`), views (`views/`) and queries (`queries/`)."""
    return _folder("sql")


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigurationError(
        f"The folder {name}/ of this release is missing: expected {_PACKAGE / f'_{name}'} (installed) or "
        f"{_PACKAGE.parent / name} (checkout). Install bloodcell again."
    )
