"""`bloodcell rules`: the laboratory's reference ranges, review rules, rules of withholding and LOINC codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.callback()
def rules() -> None:
    """The laboratory's rules: reference ranges, what is withheld, what a person should review, and LOINC codes."""


@app.command()
def show(json: Json = False) -> None:
    """Print the rules file in use (BLOODCELL_RULES_FILE), or the one that comes with bloodcell, to start from."""
    from bloodcell.cli.output import print_json
    from bloodcell.differential.laboratory_rules import DEFAULT_RULES, read_rules
    from bloodcell.settings import Settings

    path = Settings().rules_file
    found = read_rules(path)
    if json:
        print_json({"digest": found.digest, **found.document})
    else:
        typer.echo((path or DEFAULT_RULES).read_text(), nl=False)


@app.command(no_args_is_help=True)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rules file, in TOML.", show_default=False)],
    json: Json = False,
) -> None:
    """Check a rules file before it is used. Exit status 1 if it is not valid."""
    from bloodcell.cli.output import print_json
    from bloodcell.differential.laboratory_rules import read_rules

    found = read_rules(file)
    if json:
        print_json({"digest": found.digest, **found.document})
    else:
        _show(file)


def _show(file: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from bloodcell.cells.classes import CLASS_NAMES
    from bloodcell.differential.laboratory_rules import read_rules
    from bloodcell.differential.loinc import LOINC_LINES
    from bloodcell.presentation.tables import plain_table
    from bloodcell.results.result_display import line_name
    from bloodcell.visible_text import visible_lines

    found = read_rules(file)
    table = plain_table("class", "for", "range", "source", right=("range",))
    for each in found.ranges:
        table.add_row(CLASS_NAMES[each.cell_class], each.ages, each.text, Text(each.source))
    codes = plain_table(f"LOINC, {found.loinc.method}", "code")
    for line in LOINC_LINES:
        codes.add_row(line_name(line), found.loinc.code_of(line) or "none")
    console = Console()
    console.print(table)
    for key, source in found.sources.items():
        console.print(Text(visible_lines(f"{key}: {source}")), soft_wrap=True)
    console.print("", codes, "", highlight=False)
    console.print(
        f"{file} is valid: version {found.version!r}, digest {found.digest[:12]}.\n"
        f"Next: BLOODCELL_RULES_FILE={file.resolve()}",
        highlight=False,
        soft_wrap=True,
    )
