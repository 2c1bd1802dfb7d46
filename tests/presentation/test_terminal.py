"""Tables and progress bars, as a terminal shows them."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from bloodcell.presentation.progress import changing_bar, counting_bar, step_bars
from bloodcell.presentation.tables import boxed_table, plain_table


def console_and_stream() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=80, force_terminal=True), stream


def test_a_plain_table_keeps_numbers_whole_and_to_the_right() -> None:
    table = plain_table("", "cells", "note", right=["cells"], wrapped=["note"], title="Night")
    table.add_row("Neutrophils", "1,204", "several words that take more than one line of a narrow terminal")
    stream = io.StringIO()
    Console(file=stream, width=50).print(table)
    lines = stream.getvalue().splitlines()
    assert lines[0].strip() == "Night"
    assert lines[2].startswith("Neutrophils  1,204  several words")
    assert len(lines) > 3


def test_a_boxed_table_has_its_title_and_lines() -> None:
    table = boxed_table("model", "right", right=["right"], title="All models")
    table.add_row("vgg16", "92.0 %")
    stream = io.StringIO()
    Console(file=stream, width=50).print(table)
    assert "All models" in stream.getvalue()
    assert "│ vgg16 │ 92.0 % │" in stream.getvalue()


def test_each_step_has_a_bar_that_stays() -> None:
    console, stream = console_and_stream()
    with step_bars(console) as show:
        show("Read [a]", 0, 0)
        show("Read [a]", 7, 0)
        show("Match", 1, 2)
        show("Match", 2, 2)
    last = stream.getvalue()
    assert "Read [a]" in last
    assert "7/?" in last
    assert "2/2" in last


def test_bars_write_nothing_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with counting_bar("Cells", 3) as advance:
        advance()
        advance(2)
    with changing_bar("queued") as show:
        show("train", 1, 2)
    assert capfd.readouterr().out == ""


def test_presentation_loads_nothing_heavy_before_something_is_shown() -> None:
    code = (
        "import importlib, pkgutil, sys, bloodcell.presentation as room\n"
        "for each in pkgutil.iter_modules(room.__path__): importlib.import_module(f'{room.__name__}.{each.name}')\n"
        "print(sorted({'rich', 'jinja2', 'matplotlib', 'numpy', 'sqlalchemy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
