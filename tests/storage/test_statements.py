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
# the columns of COPY and of its upsert follow from the table's declaration
BUILT_FROM_COLUMNS = {"classify/call_rows.py"}
# passes and pages select from the statement of uncalled_cells.sql
SELECT_FROM_A_STATEMENT = {"classify/uncalled_cells.py"}
OVER_SETS = {"group_by", "subquery", "over", "outerjoin", "having", "union", "union_all", "cte"}


def test_a_file_has_statements_with_their_comments_and_values() -> None:
    statements = load_statements("results/due_results.sql")
    assert list(statements) == ["due_slides", "outdated_slides", "newest_rules"]
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


def constants(path: Path) -> list[str]:
    """Returns the strings of a module; those of an f-string are joined, with {} for each value."""
    tree = ast.parse(path.read_text())
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    within = {id(part) for node in formatted for part in node.values}
    return [
        "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for node in formatted
    ] + [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_statement_over_sets_is_in_python(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    statements = [
        text
        for text in constants(path)
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE TEMP)\s", text)
        and re.search(r"\n|\bJOIN\b|\bGROUP BY\b|^(INSERT|CREATE)\b.*\bSELECT\b", text.strip())
    ]
    assert bool(statements) == (name in BUILT_FROM_COLUMNS)
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    has_tables = "sqlalchemy" in path.read_text()
    assert bool(called & OVER_SETS and has_tables) == (name in SELECT_FROM_A_STATEMENT)
