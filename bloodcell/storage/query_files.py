"""The queries that come with this release, as the comments at their heads describe them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bloodcell.resources import sql_folder


@dataclass(frozen=True, slots=True)
class QueryFile:
    """A query that comes with this release.

    Attributes:
        path: The file.
        question: First sentence of its head: what the query answers.
        variables: Names of the values that `-v` sets.
    """

    path: Path
    question: str
    variables: tuple[str, ...]


def query_files() -> tuple[QueryFile, ...]:
    """Returns the queries of `sql/queries`, in the order of their numbers."""
    return tuple(_read(path) for path in sorted((sql_folder() / "queries").glob("*.sql")))


def _read(path: Path) -> QueryFile:
    text = path.read_text(encoding="utf-8")
    head = re.match(r"(?:--.*\n)+", text)
    first = re.sub(r"\n?^-- ?", " ", head[0] if head else "", flags=re.MULTILINE).strip()
    question = re.match(r".*?[.](?=\s|$)", first)
    variables = dict.fromkeys(re.findall(r":\{\?(\w+)\}", text))
    return QueryFile(path, question[0] if question else path.stem, tuple(variables))
