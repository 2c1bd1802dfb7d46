"""Types of optional settings: an empty variable is refused, because it is a mistake more often than a wish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr


def _not_empty(value: object) -> object:
    if value == "":  # Path("") would be the current folder
        raise ValueError("expected a value, but the variable is empty")
    return value


RequiredPath = Annotated[Path, BeforeValidator(_not_empty)]
OptionalPath = Annotated[Path | None, BeforeValidator(_not_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_not_empty)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_not_empty)]
