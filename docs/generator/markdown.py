"""Pages of the site, and the Markdown they are made of.

The text is our own and may use backticks. `bloodcell.presentation.markdown` is for text from outside, none of
which may act as Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GeneratedPage:
    """A page of the site that is in no file.

    Attributes:
        path: Path within the docs folder, with slashes.
        text: The page in Markdown.
    """

    path: str
    text: str


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table; the cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_table_cell, line))} |" for line in lines)


def code(text: str) -> str:
    """Returns text as inline code, even if it contains backticks."""
    fence = "``" if "`" in text else "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str) -> str:
    """Returns ordinary text as Markdown.

    What Markdown would read as HTML or emphasis is escaped. Code between backticks stays as it is; the names of
    settings and options become code.
    """
    parts = re.split(r"(`[^`]+`|\bBLOODCELL_[A-Z_]*[A-Z]\b|(?<!\w)--[a-z][a-z-]*)", text)
    return "".join(_escape(part) if index % 2 == 0 else code(part.strip("`")) for index, part in enumerate(parts))


def name_cell(names: str, *details: str) -> str:
    """Returns the first cell of a row: the names, and below them the values that they take."""
    return "<br>".join(filter(None, [names, ", ".join(filter(None, details))]))


def fenced(text: str, language: str) -> str:
    """Returns a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def _escape(text: str) -> str:
    return re.sub(r"([*_\[\]\\])", r"\\\1", text).replace("<", "&lt;")


def _table_cell(text: str) -> str:
    """A line of Markdown whose bars do not end the cell; those in code never do."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)
