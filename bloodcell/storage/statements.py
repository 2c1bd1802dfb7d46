"""SQL statements that work on sets of rows, each in a `.sql` file beside the module that executes it.

A file holds named statements:

    -- name: due_slides
    -- Comments below the name explain the statement.
    SELECT ...

Values are bound as `:name`. The text is the same at every execution, so the driver and a reader see the same statement.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_statements(path: str) -> Mapping[str, sa.TextClause]:
    """Returns the statements of a file by name.

    Args:
        path: The file, relative to the package, such as `differential/due_slides.sql`.

    Raises:
        ConfigurationError: The installation lacks the file.
    """
    file = _PACKAGE / path
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} of this release is missing. Install bloodcell again.") from error
    _, *parts = _NAME.split(text)
    return MappingProxyType({name: sa.text(statement) for name, statement in zip(parts[::2], parts[1::2], strict=True)})
