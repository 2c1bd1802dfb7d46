"""Statements over sets of rows are in `.sql` files, and every one of them is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.storage.statements import load_statements

PACKAGE = Path(__file__).resolve().parents[2] / "bloodcell"
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("*/*.sql"))
# until their room is restructured
NOT_MOVED = {"classify/shard_classification.py", "classify/shards.py"}


def test_a_file_has_statements_with_their_comments_and_values() -> None:
    statements = load_statements("differential/adding_up.sql")
    assert list(statements) == ["due_slides"]
    assert statements["due_slides"].compile().params.keys() == {"night", "slides"}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"differential/nothing\.sql of this release is missing"):
        load_statements("differential/nothing.sql")


@pytest.mark.parametrize("file", FILES)
def test_every_statement_is_used_beside_its_file(file: str) -> None:
    module = (PACKAGE / file).with_suffix(".py")
    text = module.read_text()
    assert f'load_statements("{file}")' in text
    unused = [name for name in load_statements(file) if f'"{name}"' not in text]
    assert unused == []


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_statement_over_sets_is_a_string_in_python(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in NOT_MOVED:
        return
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    statements = [text for text in strings if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE TEMP)\s", text)]
    assert [text for text in statements if re.search(r"\n|\bJOIN\b|\bGROUP BY\b", text.strip())] == []
