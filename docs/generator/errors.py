"""The page of errors: the tree of every error that bloodcell raises on purpose."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import bloodcell
from bloodcell.errors import BloodcellError
from docs.generator.markdown import GeneratedPage, fenced, prose

PATH = "reference/errors.md"
_INTRODUCTION = """\
# Errors

Every error that bloodcell raises on purpose is a `BloodcellError`. Its class says what to do next, and its message says
what is wrong with which thing, what was expected and received, and the next step. The command line prints the message
and ends with exit status 1.
"""


def errors_page() -> GeneratedPage:
    """Returns the page of all errors, children below their parents."""
    for module in pkgutil.walk_packages(bloodcell.__path__, "bloodcell."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sections = [_INTRODUCTION, fenced("\n".join(_tree(BloodcellError)), "text")]
    sections.extend(_section(error) for error in _all(BloodcellError))
    return GeneratedPage(PATH, "\n\n".join(sections))


def _children(error: type[BloodcellError]) -> list[type[BloodcellError]]:
    return sorted(error.__subclasses__(), key=lambda child: child.__name__)


def _all(error: type[BloodcellError]) -> Iterator[type[BloodcellError]]:
    yield error
    for child in _children(error):
        yield from _all(child)


def _tree(error: type[BloodcellError], branch: str = "", below: str = "") -> Iterator[str]:
    yield f"{branch}{error.__name__}"
    children = _children(error)
    for child in children:
        is_last = child is children[-1]
        yield from _tree(child, f"{below}{'└── ' if is_last else '├── '}", f"{below}{'    ' if is_last else '│   '}")


def _section(error: type[BloodcellError]) -> str:
    summary, _, attributes = inspect.cleandoc(error.__doc__ or "").partition("\n\nAttributes:\n")
    fields = [
        "- `{}`: {}".format(*map(str.strip, entry.split(":", 1)))
        for entry in inspect.cleandoc("\n" + attributes).replace("\n    ", " ").splitlines()
        if ":" in entry
    ]
    parent = error.__bases__[0].__name__
    origin = f"`{error.__module__}.{error.__name__}`"
    if issubclass(error, BloodcellError) and error is not BloodcellError:
        origin += f", a [{parent}](#{parent.lower()})"
    return "\n\n".join(
        filter(None, [f"## {error.__name__}", prose(" ".join(summary.split())), "\n".join(fields), origin])
    )
