"""Pages from templates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from bloodcell.cells.intervals import proportion
from bloodcell.presentation.templates import render_page


def page(tmp_path: Path, template: str, **values: object) -> str:
    path = tmp_path / "page.html.j2"
    path.write_text(template)
    return render_page(path, **values)


def test_text_from_outside_is_escaped_and_visible(tmp_path: Path) -> None:
    shown = page(tmp_path, "<p>{{ name|visible }}</p>", name="<script>\u202e")
    assert shown == "<p>&lt;script&gt;\\u202e</p>"


def test_figures_look_as_they_do_everywhere(tmp_path: Path) -> None:
    template = (
        "{{ n|count }}, {{ share|percent_with_interval }}, {{ share.percentage_interval|interval }}, {{ at|moment }}"
    )
    shown = page(tmp_path, template, n=9_000, share=proportion(92, 100), at=datetime(2026, 3, 14, tzinfo=UTC))
    assert shown == "9,000, 92.0 % (84.8–96.5), 84.8–96.5, 2026-03-14 00:00 UTC"


def test_a_missing_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        page(tmp_path, "{{ name }}")
