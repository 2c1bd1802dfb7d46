"""Markdown for Airflow's pages and the terminal: text from outside is shown as it is and never becomes markup.

Text of type `Markdown` is Markdown already. Everything else that goes into a table is escaped, so that a forgotten call
shows a backslash and not a link.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bloodcell.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


class Markdown(str):
    """Text that is Markdown already and must not be escaped."""

    __slots__ = ()


_LINK: Final = re.compile(r"(?:(?:[a-z][a-z0-9+.-]*://|www\.)[^\s`|\\<>&]*|[-.\w+]+@[-.\w]+)+", re.IGNORECASE)
"""A web or e-mail address, which GitHub's dialect, and so Airflow's pages, turn into a link without any brackets.

It is shown as code, since a backslash does not prevent the link: links are searched for after escapes are resolved.
Source: mdast-util-gfm-autolink-literal 2.0, lib/index.js.
"""

_MEANINGFUL: Final = re.compile(r"([\\`*{}\[\]()#+!|~&]|(?<![^\W_])_|_(?![^\W_]))")
"""Characters that are markup; an underscore within a word is not, so that inception_v3 stays readable in a log.

Source: CommonMark 0.31.2, sections 2.4 and 6.2, and GitHub Flavored Markdown 0.29 for | and ~.
"""

_STARTS_BLOCK: Final = re.compile(r"^(?:(\d{1,9})(?=\.(?: |$))|(?=-(?:[- ]|$))|(?==+ *$))")
"""The place for a backslash in a line that would otherwise become a list, a heading or a rule.

Source: CommonMark 0.31.2, sections 4.1, 4.3 and 5.2.
"""


def escaped(value: object, *, longest: int | None = None) -> Markdown:
    """Returns text as one line of Markdown in which nothing is markup, HTML or a link.

    Args:
        value: The text, or a value that `str` turns into text.
        longest: Characters to show; the rest is cut off and marked with an ellipsis. None shows all of them.
    """
    text = str(value)
    if longest is not None and len(text) > longest:
        text = f"{text[:longest]} …"
    text = visible_line(text)
    parts, end = [], 0
    for link in _LINK.finditer(text):
        parts += [_escaped(text[end : link.start()]), f"`{link.group()}`"]
        end = link.end()
    parts.append(_escaped(text[end:]))
    return Markdown(_STARTS_BLOCK.sub(r"\1\\", "".join(parts)))


def code(value: object) -> Markdown:
    """Returns an id or a name in the font of code, or as escaped text if code in a table cannot hold it."""
    text = visible_line(value)
    return escaped(text) if not text or set(text) & set("`|\\<>&") else Markdown(f"`{text}`")


def bold(value: object) -> Markdown:
    """Returns text in bold."""
    return Markdown(f"**{value if isinstance(value, Markdown) else escaped(value)}**")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> Markdown:
    """Returns a table; cells that are not `Markdown` are escaped.

    Args:
        header: A name for each column.
        rows: Cells, as many in each row as the header has.
        right: Numbers of the columns that are aligned to the right, from 0.
    """
    rule = [Markdown("---:" if column in right else "---") for column in range(len(header))]
    return Markdown("\n".join(_line(cells, len(header)) for cells in (header, rule, *rows)))


def _line(cells: Sequence[str], n_columns: int) -> str:
    if len(cells) != n_columns:
        raise ValueError(f"Expected {n_columns} cells in each row, received {len(cells)}: {cells!r}.")
    return f"| {' | '.join(cell if isinstance(cell, Markdown) else escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    # angle brackets become entities, so that a program that takes Markdown for HTML finds no tag either
    return _MEANINGFUL.sub(r"\\\1", text).replace("<", "&lt;").replace(">", "&gt;")
