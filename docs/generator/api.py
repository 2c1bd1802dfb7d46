"""The pages of the Python API: one for each room with public names, which mkdocstrings describes."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

from docs.generator.markdown import GeneratedPage, fenced, prose, table

FOLDER = "reference/api"
_INTRODUCTION = """\
# Python API

The public API consists of the names in `bloodcell.__all__` and in the `__all__` of each room; everything else may
change with any release. [Contributing](../../contributing.md#public-api-and-deprecation) states the deprecation policy.
"""


def api_pages(package: Path) -> list[GeneratedPage]:
    """Returns the page of each room with public names, and before them the page of the package itself."""
    rooms = {path.parent.name: path for path in sorted(package.glob("*/__init__.py")) if public_names(path)}
    rows = [
        (f"[`bloodcell.{room}`]({room}.md)", ", ".join(f"`{name}`" for name in public_names(path)))
        for room, path in rooms.items()
    ]
    defined = {
        f"bloodcell.{room}.{name}": path
        for room, module in rooms.items()
        for name, path in public_names(module).items()
    }
    top = ", ".join(
        f"[`{name}`][{defined[path]}]" if path in defined else f"[`{name}`](../{path.split('.')[1]}.md)"
        for name, path in public_names(package / "__init__.py").items()
    )
    parts = [_INTRODUCTION, *_docstring(package / "__init__.py")]
    if top:
        parts.append(f"`import bloodcell` gives {top}.")
    index = GeneratedPage(f"{FOLDER}/index.md", "\n\n".join([*parts, table(("room", "public names"), rows)]))
    return [index, *(_room_page(room, path) for room, path in rooms.items())]


def public_names(module: Path) -> dict[str, str]:
    """Returns the names in a module's `__all__`, each with the path where it is defined; the module is not imported."""
    tree = ast.parse(module.read_text())
    sources = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return {
                name: sources.get(name, f"bloodcell.{module.parent.name}.{name}")
                for name in ast.literal_eval(node.value)
            }
    return {}


def _room_page(room: str, module: Path) -> GeneratedPage:
    names = [f"::: {path}" for path in public_names(module).values()]
    return GeneratedPage(f"{FOLDER}/{room}.md", "\n\n".join([f"# bloodcell.{room}", *_docstring(module), *names]))


def _docstring(module: Path) -> list[str]:
    paragraphs = (ast.get_docstring(ast.parse(module.read_text())) or "").split("\n\n")
    # columns and arrows have to stay where they are
    return [fenced(dedent(part), "text") if "->" in part or "   " in part else prose(part) for part in paragraphs]
