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
    "task_defaults": "a module beside the Dags",
    "jax": "another backend of Keras, chosen and installed by a site",
}
PROVIDED = {"airflow/sdk": "apache-airflow"}
"""Imported module -> the declared package that pins, to its own release, the package that the module is part of."""


def imported() -> dict[str, Path]:
    """Returns each third-party module that bloodcell and dags import, anywhere in a file -> a file that does."""
    found: dict[str, Path] = {}
    for path in sorted([*(ROOT / "bloodcell").rglob("*.py"), *(ROOT / "dags").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            else:
                names = []
            found |= {n: path for n in names if n.split(".")[0] not in {*sys.stdlib_module_names, *NOT_DECLARED}}
    return found


def providers() -> dict[str, set[str]]:
    """Returns the path of each module's file or folder -> the installed packages that contain it."""
    brought = defaultdict(set)
    for package in distributions():
        found: set[str] = set()
        # read as text: `package.files` makes an object of each of 150,000 lines, which takes minutes
        for line in (package.read_text("RECORD") or "").splitlines():
            file = line.split(",")[0]
            if file.endswith((".py", ".so")):
                module = re.sub(r"(\.cpython[^/]*|\.abi3)?\.(py|so)$", "", file)
                while module and module not in found:
                    found.add(module)
                    module = module.rpartition("/")[0]
        for module in found:
            brought[module].add(package.name.lower())
    return brought


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=!~]", entry)[0].lower() for entry in project["dependencies"]}
    brought = providers()
    for module, path in imported().items():
        name = module.replace(".", "/")
        by = {package for key, package in PROVIDED.items() if name.startswith(key)} or brought[name]
        assert by & declared, f"{path.relative_to(ROOT)} imports {module} of {sorted(by)}, which is not declared"
