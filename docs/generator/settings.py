"""The page of settings: every field of Settings with its environment variable, type, default and meaning."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from bloodcell.settings import GROUPS
from docs.generator.markdown import GeneratedPage, code, name_cell, prose, table

PATH = "reference/settings.md"
_INTRODUCTION = """\
# Settings

Settings are environment variables, read once when a program starts. In containers a secret may also be a file: where
the variable is not set, bloodcell reads the file of the same name in lower case from `/run/secrets`. A variable
`BLOODCELL_...` that is none of these is refused, and the error names the nearest one.
"""
_TYPES: Final[dict[Any, str]] = {
    bool: "true or false",
    float: "number",
    int: "whole number",
    Path: "path",
    SecretStr: "text, secret",
    str: "text",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def settings_page() -> GeneratedPage:
    """Returns the page of all settings, with a section for each group."""
    sections = [f"{_INTRODUCTION}\n"]
    for group in GROUPS:
        title = inspect.cleandoc(group.__doc__ or "").rstrip(".")
        sections.append(f"## {title}\n\n{table(('variable', 'meaning'), _rows(group))}\n")
    return GeneratedPage(PATH, "\n".join(sections))


def _rows(group: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name in group.__annotations__:
        field = group.model_fields[name]
        name_and_values = name_cell(f"`BLOODCELL_{name.upper()}`", _type(field), f"default {_default(field)}")
        yield name_and_values, prose(field.description or "")


def _type(field: FieldInfo) -> str:
    kinds: list[Any] = [field.annotation]
    if isinstance(field.annotation, types.UnionType) or typing.get_origin(field.annotation) is typing.Union:
        kinds = [kind for kind in typing.get_args(field.annotation) if kind is not types.NoneType]
    shown = " or ".join(str(_TYPES.get(kind, getattr(kind, "__name__", kind))) for kind in kinds)
    bounds = [
        f"{word} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, word in _BOUNDS.items()
        if hasattr(bound, name)
    ]
    return ", ".join([shown, *bounds])


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
        if not isinstance(value, Path):
            return "computed"
        return code(f"~/{value.relative_to(Path.home())}" if value.is_relative_to(Path.home()) else str(value))
    value = field.default
    return (
        "none" if value is None or value == "" else code(str(value).lower() if isinstance(value, bool) else str(value))
    )
