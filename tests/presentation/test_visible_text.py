"""Characters that nobody sees are spelt out wherever text is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bloodcell.errors import ConfigurationError, UnusableFileError
from bloodcell.presentation import boxed_table, code, escaped, json_text, plain_table, render_page
from bloodcell.visible_text import has_invisible, visible, visible_lines

NAMES = {
    "change of direction": ("S1\u202egpj", r"S1\u202egpj"),
    "isolate": ("S1\u2066x", r"S1\u2066x"),
    "zero-width space": ("S\u200b1", r"S\u200b1"),
    "zero-width joiner": ("S\u200d1", r"S\u200d1"),
    "byte order mark": ("\ufeffS1", r"\ufeffS1"),
    "soft hyphen": ("S\u00ad1", r"S\u00ad1"),
    "escape": ("S1\x1b[31m", r"S1\u001b[31m"),
    "C1 control": ("S1\x9b2J", r"S1\u009b2J"),
    "Hangul filler": ("S1\u3164", r"S1\u3164"),
    "variation selector": ("S1\ufe0f", r"S1\ufe0f"),
    "tag": ("S1\U000e0041", r"S1\U000e0041"),
    "line separator": ("S1\u2028x", r"S1\u2028x"),
    "no byte of UTF-8": ("S1\udcff", r"S1\udcff"),
}


@pytest.mark.parametrize(("name", "shown"), NAMES.values(), ids=NAMES)
def test_invisible_characters_are_spelt_out_everywhere(name: str, shown: str, tmp_path: Path) -> None:
    assert has_invisible(name)
    assert visible(name) == visible_lines(name) == shown
    assert str(ConfigurationError(f"no slide {name}")) == f"no slide {shown}"
    error = UnusableFileError("damaged", name)
    assert (error.detail, str(error)) == (shown, f"damaged: {shown}")
    for table in (plain_table("slide", title=name), boxed_table("slide", title=name)):
        table.add_row(name.replace("[", r"\["))
        terminal = io.StringIO()
        Console(file=terminal, width=60).print(table)
        assert not has_invisible(terminal.getvalue().replace("\n", ""))
    (tmp_path / "page.html.j2").write_text("<p>{{ name }}</p>")
    assert render_page(tmp_path / "page.html.j2", name=name) == f"<p>{shown}</p>"
    document = json_text({"slide": name})
    assert not has_invisible(document.replace("\n", "")) and json.loads(document) == {"slide": name}
    assert not has_invisible(escaped(name)) and not has_invisible(code(name))


@pytest.mark.parametrize("name", ["S-1 é", "Łoś", "李", "علي", "µ-1", "S_1.jpg"])
def test_ordinary_names_are_shown_as_they_are(name: str) -> None:
    assert not has_invisible(name)
    assert visible(name) == str(ConfigurationError(name)) == name
    assert name in json_text([name])


def test_lines_and_columns_of_a_long_text_stay() -> None:
    assert visible_lines("one\n\ttwo") == "one\n\ttwo"
    assert visible("one\ntwo") == r"one\u000atwo"
