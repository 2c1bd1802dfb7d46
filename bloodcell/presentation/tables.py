"""Tables on a terminal; rich is loaded only when one is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.table import Table


def plain_table(*columns: str, right: Collection[str] = (), wrapped: Collection[str] = (), title: str = "") -> Table:
    """Returns an empty table without lines, for figures that are read down a column.

    Args:
        columns: Headings.
        right: Headings of the columns that are aligned to the right.
        wrapped: Headings of the columns whose text may take several lines.
        title: Title above the table.
    """
    from rich.table import Column, Table

    made = (Column(name, justify="right" if name in right else "left", no_wrap=name not in wrapped) for name in columns)
    return Table(*made, title=title or None, box=None, pad_edge=False, header_style="dim")


def boxed_table(*columns: str, right: Collection[str] = (), title: str = "") -> Table:
    """Returns an empty table with lines around its cells.

    Args:
        columns: Headings.
        right: Headings of the columns that are aligned to the right.
        title: Title above the table.
    """
    from rich.table import Column, Table

    made = (Column(name, justify="right" if name in right else "left") for name in columns)
    return Table(*made, title=title or None)
