"""The page of the command line: every command with its arguments and options, from the Typer application."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from docs.generator.markdown import GeneratedPage, code, fenced, name_cell, prose, table

PATH = "reference/cli.md"
_INTRODUCTION = """\
# Command line

Every command has `--help`. Commands that take long show a progress bar. Commands that report results take `--json`:
they then write one JSON document and nothing else to standard output, while logs and bars go to standard error.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | the work failed, was refused, or found data that it could not accept |
| 2 | the command line was wrong |
| 3 | there was nothing to do |
"""


def commands_page() -> GeneratedPage:
    """Returns the page of all commands, in the order of `bloodcell --help`."""
    from bloodcell.cli import app

    root = typer.main.get_command(app)
    panels: dict[str, list[str]] = {}
    for name, command in _subcommands(root):
        panels.setdefault(str(command.rich_help_panel), []).extend(_sections(command, f"bloodcell {name}"))
    sections = (part for panel, parts in panels.items() for part in (f"## {prose(panel)}", *parts))
    return GeneratedPage(PATH, "\n\n".join([_INTRODUCTION, *sections]))


def _sections(command: Any, name: str) -> Iterator[str]:
    """Yields the section of a command, or of a group and each of its commands."""
    yield f"### {name}"
    yield _paragraphs(command.help or "")
    if isinstance(command, TyperGroup):
        for sub_name, sub_command in _subcommands(command):
            section = list(_sections(sub_command, f"{name} {sub_name}"))
            yield from (f"#{part}" if part.startswith("### ") else part for part in section)
        return
    context = command.context_class(command, info_name=name)
    usage = [part for part in command.collect_usage_pieces(context) if part != "[OPTIONS]"]
    options = [parameter for parameter in command.params if isinstance(parameter, TyperOption) and not parameter.hidden]
    yield fenced(" ".join([name, *(["[OPTIONS]"] if options else []), *usage]), "text")
    if arguments := [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]:
        rows = [(code(argument.display_name_raw), _meaning(argument, context)) for argument in arguments]
        yield table(("argument", "meaning"), rows)
    if options:
        yield table(("option", "meaning"), [_option_row(option, context) for option in options])


def _option_row(option: TyperOption, context: Any) -> tuple[str, str]:
    names = ", ".join(map(code, [*option.opts, *option.secondary_opts]))
    return name_cell(names, "" if option.is_flag else _value(option, context)), _meaning(option, context)


def _value(option: TyperOption, context: Any) -> str:
    kind = (option.display_type_rich(context) or "").strip("<>").removesuffix(" range")
    bounds = [
        f"{word} {bound}" for word, bound in (("at least", option.min), ("at most", option.max)) if bound is not None
    ]
    return ", ".join([code({"int": "N", "float": "X", "str": "TEXT"}.get(kind, kind)), *bounds])


def _meaning(parameter: TyperArgument | TyperOption, context: Any) -> str:
    meaning = [prose(_plain(parameter.help or ""))]
    if parameter.required:
        meaning.append("Required.")
    default = parameter.get_default(context, call=False)
    if not (default is None or default is False or callable(default) or default in ("", [], ())):
        shown = parameter.opts[0] if default is True else str(getattr(default, "value", default))
        meaning.append(f"Default: {code(shown)}.")
    return " ".join(filter(None, meaning))


def _subcommands(group: Any) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    yield from ((name, command) for name, command in group.commands.items() if not command.hidden)


def _paragraphs(text: str) -> str:
    return "\n\n".join(prose(_plain(" ".join(part.split()))) for part in inspect.cleandoc(text).split("\n\n"))


def _plain(text: str) -> str:
    """Text without the markup of rich."""
    return re.sub(r"\[/?(?:bold|italic|dim|cyan|green|red|yellow)\]", "", text)
