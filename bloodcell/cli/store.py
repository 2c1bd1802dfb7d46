"""`bloodcell store`: whether the image and model store is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bloodcell.presentation.numbers import counted
from bloodcell.presentation.progress import changing_bar

if TYPE_CHECKING:
    from bloodcell.verification import Damage, StoreVerification

app = typer.Typer(no_args_is_help=True)


@app.callback()
def store() -> None:
    """The content-addressed store of images, models and reports (BLOODCELL_STORE_URL)."""


@app.command()
def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Replace what is damaged by a good copy, and remove unfinished files older than a day."
        ),
    ] = False,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FOLDER_OR_STORE",
            help="With --repair: also look for good copies in this folder of nights or other store; may be repeated.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Read every object that the database refers to, and find what is missing, truncated or altered.

    Good copies come from the drops folder, the models that come with bloodcell, and whatever --from names; a copy
    counts only if its digest is right. What cannot be healed stays as it is. Objects that no row refers to are listed
    and stay, too. Exit status 1 if something is still damaged at the end. The Dag verify_store does the same, with
    --repair, every week.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.settings import Settings
    from bloodcell.verification import verify_store

    if others and not repair:
        raise typer.BadParameter("--from says where good copies are, and so needs --repair")
    with changing_bar("objects") as on_progress:
        found = verify_store(Settings(), repair=repair, others=others or (), on_progress=on_progress)
    if json:
        print_json(found)
    else:
        _show(found)
    raise typer.Exit(1 if found.n_left else 0)


def _show(found: StoreVerification) -> None:
    """Shows each damaged object with its slides and cells, then the counts and the next step."""
    from rich.console import Console

    from bloodcell.visible_text import visible

    console = Console(highlight=False, soft_wrap=True)

    def show(line: str) -> None:
        console.print(visible(line), markup=False)

    for damage in found.damaged:
        show(_damage_line(damage))
    for place in found.orphans:
        show(f"orphan     {place}")
    show(
        f"{counted(found.n_objects, 'object')} of {found.store} verified ({found.n_bytes / 1e9:,.1f} GB): "
        f"{found.n_damaged:,} damaged, {found.n_healed:,} healed, {counted(found.n_orphans, 'orphan')}, "
        f"{counted(found.n_stale_parts, 'unfinished file')}."
    )
    if found.n_left:
        show("Next: bloodcell store verify --repair --from BACKUP, where BACKUP is a folder of nights or a store.")


def _damage_line(damage: Damage) -> str:
    cells = "; ".join(f"night {each.night}, slide {each.slide}, cell {each.file_name}" for each in damage.used_by)
    outcome = f"healed from {damage.healed_from}" if damage.healed_from else damage.not_healed
    return f"{damage.problem:<10} {damage.place}  {' '.join(filter(None, [damage.belongs_to or cells, outcome]))}"
