"""The public names are pinned, and the docstring of each is complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import bloodcell
from bloodcell.errors import BloodcellError

ROOT = Path(__file__).resolve().parents[1]

PUBLIC: dict[str, list[str]] = {
    "bloodcell": [
        "BloodcellError",
        "Settings",
        "Store",
        "check_champion",
        "classify_shard",
        "evaluate_bundles",
        "export_labels",
        "import_inbox",
        "import_labels",
        "ingest_night",
        "night_summary",
        "open_bundle",
        "open_database",
        "plan_shards",
        "read_result",
        "send_results",
        "sign_result",
        "train",
        "verify_store",
        "write_due_results",
        "write_report",
    ],
    "bloodcell.cells": [
        "CELL_CLASSES",
        "LEUCOCYTE_CLASSES",
        "UNCLASSIFIED",
        "VARIANTS",
        "CellImage",
        "LabelledImage",
        "TrainingSet",
        "Variant",
        "class_of_code",
    ],
    "bloodcell.classify": ["ClassifySummary", "Shard", "classify_shard", "plan_shards"],
    "bloodcell.cli": ["app", "main"],
    "bloodcell.demo": ["DemoError", "run_demo", "run_retraining_demo"],
    "bloodcell.appearance": ["compared", "looks_of", "read_looks"],
    "bloodcell.differential": ["Differential", "LaboratoryRules", "count_differential", "read_rules"],
    "bloodcell.drawing": ["DrawnDrop", "DrawnSlide", "draw_cell", "draw_folder", "make_drop"],
    "bloodcell.exchange": ["send_results"],
    "bloodcell.quality": ["NightControl", "control_night", "control_nights"],
    "bloodcell.site": ["calibrate", "read_site_images", "report_site", "site_page"],
    "bloodcell.evaluation": [
        "BundleEvaluation",
        "Comparison",
        "Evaluation",
        "Holdout",
        "Predictions",
        "compare",
        "evaluate_bundles",
        "evaluate_calls",
        "mcnemar_exact",
    ],
    "bloodcell.inbox": [
        "COMPLETE_MARKER",
        "DropsFolder",
        "ListedFile",
        "ListedFolder",
        "StillWrittenError",
        "completed_state",
        "ignore_reason",
        "is_settled",
        "is_unfinished",
        "list_folder",
        "night_of",
        "pending_nights",
        "read_drops",
        "read_unchanged",
    ],
    "bloodcell.inference": [
        "MergedNetwork",
        "ModelOutput",
        "Skipped",
        "calls_of",
        "load_model",
        "predict",
        "predict_all",
    ],
    "bloodcell.ingest": ["IngestSummary", "ingest_night", "pending_nights"],
    "bloodcell.labels": [
        "InboxFile",
        "InboxResult",
        "LabelExport",
        "LabelImport",
        "SampleForReading",
        "export_labels",
        "import_inbox",
        "import_labels",
        "write_sample",
    ],
    "bloodcell.monitoring": [
        "Alarm",
        "ChampionCheck",
        "Check",
        "check_champion",
        "post_alarm",
        "read_check",
        "reason_of",
    ],
    "bloodcell.presentation": [
        "Estimate",
        "Markdown",
        "bold",
        "boxed_table",
        "changing_bar",
        "code",
        "count",
        "counted",
        "counting_bar",
        "escaped",
        "interval",
        "json_text",
        "markdown_table",
        "moment",
        "number",
        "number_with_interval",
        "p_value",
        "percent",
        "percent_with_interval",
        "plain_table",
        "points",
        "points_with_interval",
        "probability",
        "proportion_json",
        "render_page",
        "step_bars",
        "visible",
        "visible_line",
    ],
    "bloodcell.registry": [
        "Bundle",
        "BundleManifest",
        "Recipe",
        "default_recipe",
        "find_model",
        "install_shipped",
        "open_bundle",
        "promote",
        "register",
        "rollback",
        "serving_models",
        "shipped_bundles",
    ],
    "bloodcell.removal": [
        "Erasure",
        "Removal",
        "erase",
        "erased_images",
        "finish_interrupted",
        "preview_erasure",
        "remove_old",
    ],
    "bloodcell.report": ["NightSummary", "night_markdown", "night_summary", "write_night_page", "write_report"],
    "bloodcell.results": ["SlideResult", "read_result", "sign_result", "write_due_results"],
    "bloodcell.retraining": [
        "ENDED_WELL",
        "Request",
        "TrainingRun",
        "TrainingState",
        "Validated",
        "ask_for_approval",
        "begin_training_run",
        "compare_models",
        "end_training_run",
        "promote_by_hand",
        "promote_candidate",
        "record_answer",
        "train_candidate",
        "train_on_labels",
        "training_run_of",
        "validate_candidates",
        "validate_model",
    ],
    "bloodcell.review": [],
    "bloodcell.service": [
        "AirflowApi",
        "DueNights",
        "Figure",
        "Finding",
        "examine",
        "ingest_due_nights",
        "pushed_metrics",
        "read_figures",
        "running_stack",
        "watch_drops",
    ],
    "bloodcell.storage": ["Database", "Store", "open_database", "upgrade"],
    "bloodcell.training": ["read_image_folders", "train"],
    "bloodcell.verification": [
        "Damage",
        "StoreVerification",
        "VerificationRecord",
        "last_verification",
        "verify_store",
    ],
    "bloodcell.withdrawal": ["SlideChange", "Withdrawal", "WithdrawalRequest", "plan_withdrawal", "withdraw_slide"],
}
"""Package -> its public names. A name may be removed only after a release in which it was deprecated."""


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yields every public function and class once, by the name of the package that has it first."""
    seen: set[int] = set()
    for package, names in PUBLIC.items():
        for name in names:
            value = getattr(importlib.import_module(package), name)
            if isinstance(value, (type, FunctionType)) and id(value) not in seen:
                seen.add(id(value))
                yield f"{package}.{name}", value


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields the public functions, and the public methods of public classes."""
    for name, value in public_objects():
        if isinstance(value, FunctionType):
            yield name, value
        elif value.__module__.startswith("bloodcell."):
            for method_name, method in vars(value).items():
                function = getattr(method, "__func__", method)
                if isinstance(function, FunctionType) and not method_name.startswith("_") and function.__doc__:
                    yield f"{name}.{method_name}", function


OBJECTS = dict(public_objects())
FUNCTIONS = dict(functions())
RECORDS = {name: value for name, value in OBJECTS.items() if dataclasses.is_dataclass(value)}


def section(text: str, title: str) -> dict[str, str]:
    """Returns the entries of a section of a docstring in Google's form: name -> text."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", inspect.cleandoc(text) + "\n", re.M)
    if found is None:
        return {}
    entries = re.findall(r"^([\w*]+):((?:.*\n)(?:    .*\n)*)", textwrap.dedent(found[1]), re.M)
    return {name: " ".join(entry.split()) for name, entry in entries}


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]


def raised(function: Callable[..., Any]) -> set[str]:
    """Returns the names of bloodcell's errors that a function itself raises."""
    known = {error.__name__ for error in all_errors(BloodcellError)}
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            names.add(ast.unparse(node.exc.func))
    return names & known


def all_errors(error: type[BloodcellError]) -> Iterator[type[BloodcellError]]:
    yield error
    for child in error.__subclasses__():
        yield from all_errors(child)


def rooms() -> dict[str, ModuleType]:
    names = [
        "bloodcell",
        *sorted(f"bloodcell.{path.parent.name}" for path in (ROOT / "bloodcell").glob("*/__init__.py")),
    ]
    return {name: importlib.import_module(name) for name in names}


def test_the_public_names_are_these() -> None:
    assert {name: sorted(getattr(room, "__all__", [])) for name, room in rooms().items()} == {
        name: sorted(names) for name, names in PUBLIC.items()
    }


def test_every_public_name_can_be_imported_and_an_unknown_one_cannot() -> None:
    for package, names in PUBLIC.items():
        for name in names:
            assert hasattr(importlib.import_module(package), name), f"{package}.{name}"
    with pytest.raises(AttributeError, match="'bloodcell' has no attribute 'ingest_nights'"):
        bloodcell.ingest_nights  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_none_of_it() -> None:
    code = "import sys, bloodcell; print(sorted(name for name in sys.modules if name.startswith('bloodcell')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['bloodcell', 'bloodcell.lazy_names']"


@pytest.mark.parametrize("name", rooms())
def test_the_docstring_of_a_room_is_a_map_of_its_modules(name: str) -> None:
    text = rooms()[name].__doc__ or ""
    assert text.splitlines()[0].endswith(".")
    folder = ROOT / name.replace(".", "/")
    parts = folder.glob("*/__init__.py") if name == "bloodcell" else folder.glob("[!_]*.py")
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in parts}
    assert {part for part in names if not re.search(rf"\b{part}\b", text)} == set()


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_has_a_summary_of_one_sentence(name: str) -> None:
    summary = inspect.cleandoc(OBJECTS[name].__doc__ or "").split("\n\n")[0]
    assert summary.endswith((".", "`.")), summary
    assert "\n" not in summary, summary


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_are_described_unless_there_is_only_one(name: str) -> None:
    function = FUNCTIONS[name]
    described, names = section(function.__doc__ or "", "Args"), [each.name for each in parameters(function)]
    assert [each for each in names if each not in described and (described or len(names) > 1)] == []
    assert [each for each in described if each not in names] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_error_that_a_function_raises_itself_is_described(name: str) -> None:
    described = section(FUNCTIONS[name].__doc__ or "", "Raises")
    assert raised(FUNCTIONS[name]) <= described.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_have_their_type_and_shape_and_times_their_unit(name: str) -> None:
    function = FUNCTIONS[name]
    described = section(function.__doc__ or "", "Args")
    for each in parameters(function):
        if "NDArray" in str(each.annotation):
            assert re.search(r"(float|int|uint|bool)\d*\b.*\(n", described[each.name]), each.name
        if each.name.endswith("_s"):
            assert "second" in described[each.name].lower(), each.name


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_described(name: str) -> None:
    described = section(RECORDS[name].__doc__ or "", "Attributes")
    fields = [field.name for field in dataclasses.fields(RECORDS[name]) if not field.name.startswith("_")]
    assert [field for field in fields if field not in described] == []
