"""The page of queries: every file of sql/queries, from the comment at its head."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from docs.generator.markdown import GeneratedPage, fenced, prose

PATH = "reference/queries.md"
_INTRODUCTION = """\
# Queries

Each file of `sql/queries` answers one question of a laboratory. All of them read views only, so a login with the role
`bloodcell_reader` can run them. Every parameter has a default that works; `-v` sets another value:

```sh
bloodcell db psql -f sql/queries/01_slide_differential.sql -v barcode=2611210042
bloodcell db psql -f sql/queries/03_cells_to_review.sql -v night=2026-11-21 --csv > review.csv
```

[Read results with SQL](../how-to/sql.md) explains how to reach the database and who may.
"""


@dataclass(frozen=True, slots=True)
class QueryFile:
    """A query, as the comment at its head describes it.

    Attributes:
        name: File name.
        question: First sentence of the head.
        notes: Labelled notes in their order, such as ("Who asks", "the haematologist on duty").
        sql: The query without its head.
    """

    name: str
    question: str
    notes: tuple[tuple[str, str], ...]
    sql: str


def queries_page(folder: Path) -> GeneratedPage:
    """Returns the page of all queries in a folder."""
    queries = [read_query(path) for path in sorted(folder.glob("*.sql"))]
    return GeneratedPage(PATH, "\n\n".join([_INTRODUCTION, *map(_section, queries)]))


def read_query(path: Path) -> QueryFile:
    """Returns a query with its head split into question and notes.

    Raises:
        ValueError: The file does not begin with a comment.
    """
    lines = path.read_text().splitlines()
    head = []
    for line in lines:
        if not line.startswith("--"):
            break
        head.append(line.removeprefix("--").strip())
    if not head:
        raise ValueError(f"{path} does not begin with a comment that says what it answers.")
    question, _, rest = "\n".join(head).partition("\n\n")
    notes = re.findall(r"^([A-Z][\w ]{0,20}): (.*?)(?=^[A-Z][\w ]{0,20}: |\Z)", rest, re.M | re.S)
    return QueryFile(
        name=path.name,
        question=" ".join(question.split()),
        notes=tuple((label, " ".join(text.split())) for label, text in notes),
        sql="\n".join(lines[len(head) :]).strip(),
    )


def _section(query: QueryFile) -> str:
    number, _, name = query.name.removesuffix(".sql").partition("_")
    notes = [f"**{label}:** {prose(text)}" for label, text in query.notes]
    source = "\n".join(f"    {line}" for line in fenced(query.sql, "sql").splitlines())
    return "\n\n".join(
        [f"## {number}. {name.replace('_', ' ').capitalize()}", prose(query.question), *notes,
         f"`sql/queries/{query.name}`", f'??? note "The query"\n\n{source}']
    )  # fmt: skip
