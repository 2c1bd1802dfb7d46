"""Every package that the product imports is declared, so that none is there only because another one needs it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path

from tests.conftest import ROOT

NOT_DECLARED = {
    "bloodcell": "itself",
    "alarm_notifier": "a module beside the Dags",
    "run_note": "a module beside the Dags",
    "task_defaults": "a module beside the Dags",
    "jax": "another backend of Keras, chosen and installed by a site",
}
PROVIDED = {"airflow/sdk": "apache-airflow"}
"""Imported module -> the declared package that pins, to its own release, the package that the module is part of."""


def imported() -> dict[str, Path]:
    """Returns each third-party module that bloodcell and dags import, anywhere in a file -> a file that does."""
    found: dict[str, Path] = {}
    ours_or_pythons = {*sys.stdlib_module_names, *NOT_DECLARED}
    for path in sorted([*(ROOT / "bloodcell").rglob("*.py"), *(ROOT / "dags").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            else:
                names = []
            found |= {name: path for name in names if name.split(".")[0] not in ours_or_pythons}
    return found


def providers(tops: set[str]) -> dict[str, set[str]]:
    """Returns each module below `tops`, as the path of its file or folder, with the packages that bring it."""
    brought = defaultdict(set)
    for package in distributions():
        found: set[str] = set()
        # read as text: `package.files` makes an object of each of 150,000 lines, which takes minutes
        for line in (package.read_text("RECORD") or "").splitlines():
            file = line.split(",")[0]
            if re.split(r"[/.]", file, maxsplit=1)[0] in tops and file.endswith((".py", ".so")):
                module = re.sub(r"(\.cpython[^/]*|\.abi3)?\.(py|so)$", "", file)
                while module and module not in found:
                    found.add(module)
                    module = module.rpartition("/")[0]
        name = package.name.lower()  # reads the package's whole metadata
        for module in found:
            brought[module].add(name)
    return brought


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=!~]", entry)[0].lower() for entry in project["dependencies"]}
    modules = imported()
    brought = providers({module.split(".")[0] for module in modules})
    for module, path in modules.items():
        name = module.replace(".", "/")
        by = {package for key, package in PROVIDED.items() if name.startswith(key)} or brought[name]
        assert by & declared, f"{path.relative_to(ROOT)} imports {module} of {sorted(by)}, which is not declared"
