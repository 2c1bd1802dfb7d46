"""Tables on a terminal; rich is loaded only when one is shown.

In every cell and title that is given as text, invisible characters are spelt out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from bloodcell.visible_text import visible_lines

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import RenderableType
    from rich.style import StyleType
    from rich.table import Table


def plain_table(*columns: str, right: Collection[str] = (), wrapped: Collection[str] = (), title: str = "") -> Table:
    """Returns an empty table without lines, for figures that are read down a column.

    Args:
        columns: Headings.
        right: Headings of the columns that are aligned to the right.
        wrapped: Headings of the columns whose text may take several lines.
        title: Title above the table.
    """
    from rich.table import Column

    made = (Column(name, justify="right" if name in right else "left", no_wrap=name not in wrapped) for name in columns)
    return _table()(*made, title=visible_lines(title) or None, box=None, pad_edge=False, header_style="dim")


def boxed_table(*columns: str, right: Collection[str] = (), title: str = "") -> Table:
    """Returns an empty table with lines around its cells.

    Args:
        columns: Headings.
        right: Headings of the columns that are aligned to the right.
        title: Title above the table.
    """
    from rich.table import Column

    made = (Column(name, justify="right" if name in right else "left") for name in columns)
    return _table()(*made, title=visible_lines(title) or None)


@cache
def _table() -> type[Table]:
    from rich.table import Table

    class VisibleTable(Table):
        def add_row(
            self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False
        ) -> None:
            shown = (visible_lines(cell) if isinstance(cell, str) else cell for cell in cells)
            super().add_row(*shown, style=style, end_section=end_section)

    return VisibleTable
