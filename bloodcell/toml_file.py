"""A TOML file of the laboratory that a setting names, read and checked against a pydantic model."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from bloodcell.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Content = TypeVar("Content", bound=BaseModel)

_MAX_FILE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class TomlFile(Generic[Content]):
    """A kind of TOML file.

    Attributes:
        name: What the file is called in messages, such as "rules file".
        content: The model of what it says. It is frozen, because a file that has not changed is parsed once.
        setting: The setting that names the file, as a variable.
        next_step: What to do about a file that is not valid, as a sentence.
        secret_keys: Keys whose values may be passwords or tokens, so that no message shows them. Where there are some,
            a message does not show the value of an unknown key either.
    """

    name: str
    content: type[Content]
    setting: str
    next_step: str
    secret_keys: frozenset[str] = frozenset()

    def read(self, path: Path) -> Content:
        """Returns what a file says.

        Raises:
            ConfigurationError: The file cannot be read or is not valid; the message names every problem.
        """
        try:
            with path.open("rb") as file:
                body = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"The {self.name} {path} cannot be read ({error.strerror}). Correct {self.setting}."
            ) from error
        return cast("Content", _parsed(self, body, path))


@lru_cache(maxsize=8)
def _parsed(kind: TomlFile[Any], body: bytes, path: Path) -> BaseModel:
    try:
        if len(body) > _MAX_FILE_BYTES:
            raise ValueError(f"expected at most {_MAX_FILE_BYTES:,} bytes, received more")
        content: type[BaseModel] = kind.content
        return content.model_validate(tomllib.loads(body.decode()))
    except ValidationError as error:
        problems = "; ".join(_problems(error, kind.secret_keys))
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        problems = str(error)
    raise ConfigurationError(f"The {kind.name} {path} is not valid: {problems}. Next: {kind.next_step}")


def _problems(error: ValidationError, secret_keys: frozenset[str]) -> Iterator[str]:
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"])
        is_secret = bool(secret_keys) and (each["type"] == "extra_forbidden" or not secret_keys.isdisjoint(each["loc"]))
        received = "" if is_secret or isinstance(each["input"], dict) else f" (received {each['input']!r})"
        yield f"{place + ': ' if place else ''}{each['msg'].removeprefix('Value error, ')}{received}"
