"""The structure that design.md and style.md promise, read off the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloodcell.errors import BloodcellError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "bloodcell").rglob("*.py"))

# every room and lone module, each of which imports only itself and what stands before it: no circle, no arrow up
ROOMS = (
    "errors", "cells", "settings", "resources", "presentation", "storage", "registry", "inference", "training",
    "drawing", "inbox", "ingest", "classify", "differential", "report", "labels", "evaluation", "retraining",
    "monitoring", "service", "demo", "cli",
)  # fmt: skip

# modules that start other processes, or tell TensorFlow what it reads from the environment alone
READS_ENVIRONMENT = {"cli/database.py", "registry/__init__.py", "service/airflow_home.py"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "bloodcell":
            yield from (f"bloodcell.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "bloodcell").parts
    return parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("bloodcell.")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_imports_a_later_one(path: Path) -> None:
    if path.parent == ROOT / "bloodcell" and path.stem in {"__init__", "__main__"}:
        return
    assert imported_rooms(path) <= set(ROOMS[: ROOMS.index(room(path)) + 1])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_never_imports_airflow(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] == "airflow"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_settings_and_processes_look_at_the_environment(path: Path) -> None:
    # processes that are started are given an environment; no module reads a setting from it
    if "os.environ" in path.read_text():
        assert str(path.relative_to(ROOT / "bloodcell")) in READS_ENVIRONMENT, path


def test_nothing_imports_what_may_be_left_out() -> None:
    """Benchmarks may import tests, tests never import benchmarks, and the product imports neither."""
    allowed = {"benchmarks": {"tests", "benchmarks"}, "tests": {"tests"}, "bloodcell": set(), "dags": set()}
    for folder, names in allowed.items():
        for path in (ROOT / folder).rglob("*.py"):
            found = {name.split(".")[0] for name in imports(path)} & {"tests", "benchmarks"}
            assert found <= names, path


def test_no_junk_drawer() -> None:
    names = {path.stem for path in SOURCES}
    assert not names & {"utils", "util", "helpers", "common", "misc", "tools"}


def test_every_error_has_a_place_in_the_tree() -> None:
    import bloodcell.errors as errors

    known = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BloodcellError)}
    classes = [
        node for path in SOURCES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    while more := {c.name for c in classes for b in c.bases if isinstance(b, ast.Name) and b.id in known} - known:
        known |= more
    assert {"AirflowUnavailableError", "DemoError"} <= known
    assert {name for name in known if name not in (errors.__doc__ or "")} == set()


def test_nothing_of_this_machine_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    here = "/" + "work/"
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".sql", ".yaml", ".yml", ".j2", ""}:
            assert here not in path.read_text(errors="ignore"), name


def test_command_line_starts_without_anything_heavy() -> None:
    code = (
        "import sys, bloodcell.cli;"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'numpy', 'PIL', 'sqlalchemy', 'airflow', 'matplotlib', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
