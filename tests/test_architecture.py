"""The structure that CONTRIBUTING.md promises, checked against the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloodcell.errors import BloodcellError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "bloodcell").rglob("*.py"))

# every room and single module; each imports only itself and those that stand before it, so there are no cycles
ROOMS = (
    "lazy_names", "visible_text", "errors", "login_limit", "cells", "environment", "setting_types", "toml_file",
    "evidence_settings", "exchange_settings", "retention_settings", "desk_settings", "served_address", "settings",
    "quality_rules", "resources", "presentation", "storage", "registry", "appearance", "inference", "training",
    "drawing", "inbox", "ingest", "classify", "differential", "quality", "results", "report", "labels", "exchange",
    "evaluation", "site", "retraining", "monitoring", "withdrawal", "removal", "verification", "review", "service",
    "demo", "cli",
)  # fmt: skip

# modules that start other processes, or set what TensorFlow reads only from the environment
READS_ENVIRONMENT = {"environment.py", "cli/database.py", "inference/keras_backend.py", "service/airflow_home.py"}


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
def test_only_the_plugin_that_airflow_loads_imports_airflow(path: Path) -> None:
    if path == ROOT / "bloodcell" / "service" / "airflow_plugin.py":
        return
    assert not [name for name in imports(path) if name.split(".")[0] == "airflow"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_settings_and_processes_look_at_the_environment(path: Path) -> None:
    # a process that is started gets an environment; no module reads a setting from it
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


# the room that each table belongs to; retraining writes `dataset` and `validation`, but promotion reads them, because
# they record what a model was trained on and how it was validated; labels are written in a later room than the one that
# counts them
TABLES = {
    "storage": {"run", "lock"},
    "inbox": {"drop", "drop_file", "lab_order"},
    "ingest": {
        *("slide", "slide_withdrawal", "image", "cell", "drop_file_history", "sampled_cell"),
        *("control_slide", "eqa_round"),  # known before the random sample is drawn
    },
    "registry": {"model", "promotion", "dataset", "validation", "lockbox_opening"},
    "classify": {
        *("cell_call", "former_call", "look_check", "sentinel", "sentinel_reference"),
        *("quality_check", "quality_override", "quality_restart"),  # workers record and honour them
    },
    "quality": {"eqa_reading", "eqa_target"},  # the desk writes readings through a function of the database
    "differential": {"slide_report", "differential", "laboratory_rules", "label", "cell_code", "slide_opening"},
    "results": {"result"},
    # what people write at the desk; an erasure removes it, so it cannot belong to the later room of the desk itself
    "labels": {"label_file", "desk_session", "slide_comment", "slide_lease"},
    "exchange": {"receiver", "outgoing_message", "message_attempt", "message_action", "omop_concept"},
    "retraining": {
        *("data_split", "dataset_image", "training_run", "candidate", "evaluation"),
        *("approval_question", "approval_answer"),
    },
    "monitoring": {"model_check", "checked_cell"},
    "removal": {
        *("erasure", "erasure_removal", "erasure_dataset"),
        *("erased_slide", "erasure_pending", "erasure_secret"),
    },
}
IN_SQL = re.compile(r'\bbloodcell\."?(\w+)"?')
STATEMENT = re.compile(r"\b(FROM|JOIN|INTO|UPDATE|COPY|TABLE|VIEW)\b")
VIEW = re.compile(r"CREATE VIEW bloodcell\.(\w+) AS(.*?);\n", re.DOTALL)


def views() -> dict[str, set[str]]:
    """Returns view -> the tables and views that it reads."""
    scripts = "".join(path.read_text() for path in sorted((ROOT / "sql" / "views").glob("*.sql")))
    return {name: set(IN_SQL.findall(body)) for name, body in VIEW.findall(scripts)}


def tables_of(name: str, read_by: dict[str, set[str]]) -> set[str]:
    """Returns the tables behind a table or view; nothing for any other name."""
    if name in read_by:
        return set[str]().union(*(tables_of(each, read_by) for each in read_by[name]))
    return {name} & set[str]().union(*TABLES.values())


def names_in_sql(path: Path) -> set[str]:
    """Returns the names of schema `bloodcell` that a module, or a file of SQL beside it, uses."""
    if path.suffix == ".sql":
        return set(IN_SQL.findall(path.read_text()))
    nodes = list(ast.walk(ast.parse(path.read_text())))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    # a string without a statement names a module, not a table: "bloodcell.differential"
    statements = [text for text in strings if STATEMENT.search(text)]
    columns = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tables"}
    declared = {
        name.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bloodcell.storage.")
        for name in node.names
        if str(node.module).endswith("tables")
    }
    return columns.union(declared, *(IN_SQL.findall(text) for text in statements))


def test_every_table_belongs_to_a_room() -> None:
    from bloodcell.storage.tables import metadata

    assert {table.name for table in metadata.sorted_tables} == set[str]().union(*TABLES.values())


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted((ROOT / "bloodcell").rglob("*.sql"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_sql_reads_a_later_rooms_tables(path: Path) -> None:
    if path.parent == ROOT / "bloodcell" or path == ROOT / "bloodcell" / "storage" / "tables.py":
        return  # tables.py lists the tables of every room
    read_by = views()
    place = {table: ROOMS.index(owner) for owner, owned in TABLES.items() for table in owned}
    later = {
        (name, table)
        for name in names_in_sql(path)
        for table in tables_of(name, read_by)
        if place[table] > ROOMS.index(room(path))
    }
    assert not later


def test_views_read_only_views_of_earlier_files_or_lines() -> None:
    made: set[str] = set()
    for name, read in views().items():
        assert not (read & set(views())) - made, name
        made.add(name)
