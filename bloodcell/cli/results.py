"""`bloodcell nights`, `slides`, `result` and `sign`: what is there, what waits, and a person's signature."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bloodcell.cli.differential import Slide
from bloodcell.presentation.numbers import counted, moment
from bloodcell.storage.result_states import ResultState

if TYPE_CHECKING:
    from bloodcell.results.slide_list import ListedNight, ListedSlide
    from bloodcell.storage.result_states import SignedState

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]

_MOMENTS: Final = ["%Y-%m-%d", *(f"%Y-%m-%dT%H:%M{end}" for end in ("", "%z", ":%S", ":%S%z", ":%S.%f", ":%S.%f%z"))]


def nights(
    most: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the N newest nights; default: all.")
    ] = None,
    json: Json = False,
) -> None:
    """List the nights, the newest first, with how many of their slides are reported, withheld and signed.

    A signed slide with a newer version that waits for a signature differs. It is also withheld if that version is.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.results.slide_list import list_nights
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    found = list_nights(open_views(Settings()), most=most)
    if json:
        print_json(found)
    elif found:
        _show_nights(found)
    else:
        typer.echo("No night has been read yet. Next: bloodcell ingest NIGHT_FOLDER, or bloodcell demo")
    raise typer.Exit(0 if found else NOTHING_TO_DO)


def slides(
    night: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Only slides of this night."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            help="Slides of this night and later; default: the 30 days before the newest night.",
        ),
    ] = None,
    state: Annotated[
        ResultState | None, typer.Option(help="Only slides whose result has this state; default: all.")
    ] = None,
    most: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the N most urgent; default: all.")] = None,
    json: Json = False,
) -> None:
    """List slides with the state of their results, the most urgent first: withheld, then for review, signed last."""
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.results.slide_list import first_listed_night, list_slides
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    if night is not None and since is not None:
        raise typer.BadParameter("say which nights: --night or --since, not both")
    database = open_views(Settings())
    first = since.date() if since else None if night else first_listed_night(database)
    found = list_slides(database, night=night.date() if night else None, since=first, state=state, most=most)
    if first and not since:
        typer.echo(f"Slides of nights since {first}; --since lists earlier ones.", err=True)
    if json:
        print_json(found)
    elif found:
        _show_slides(found)
    else:
        typer.echo("There is no such slide. Next: bloodcell nights")
    raise typer.Exit(0 if found else NOTHING_TO_DO)


def result(
    slide: Slide,
    version: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="This version; default: the one that counts.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=_MOMENTS,
            metavar="TIME",
            help="The version that counted then, 2026-11-07T06:30; in UTC, or with an offset.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show a slide's result with its state, and all of its versions with the reason for each."""
    from datetime import UTC

    from bloodcell.cli.output import print_json
    from bloodcell.results.result_display import result_json, result_table, version_json, versions_table
    from bloodcell.results.stored_result import read_result
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    if version is not None and as_of is not None:
        raise typer.BadParameter("say which version: --version or --as-of, not both")
    at = as_of.replace(tzinfo=UTC) if as_of is not None and as_of.tzinfo is None else as_of
    read = read_result(open_views(Settings()), slide, version=version, as_of=at)
    if json:
        print_json({**result_json(read), "versions": [version_json(each) for each in read.versions]})
        return
    from rich.console import Console

    console = Console()
    console.print(result_table(read, console.width))
    console.print()
    console.print(versions_table(read))


def sign(
    slide: Slide,
    version: Annotated[
        int, typer.Option(metavar="K", min=1, help="The version that you have seen; it has to be the newest.")
    ],
    amended: Annotated[
        str | None, typer.Option(metavar="REASON", help="Sign again because something was added; say what.")
    ] = None,
    corrected: Annotated[
        str | None, typer.Option(metavar="REASON", help="Sign again because something was wrong; say what.")
    ] = None,
    json: Json = False,
) -> None:
    """Sign a slide's result with your own login, after looking at it (bloodcell result SLIDE).

    Signing is refused while an unclassified cell or a blast code has no label, while people disagree on a cell, and
    if a newer version exists. After the first signature, every further one needs --amended or --corrected.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.errors import ConfigurationError, DatabaseUnavailableError
    from bloodcell.report.night_page import rewrite_pages_of_slide
    from bloodcell.results.signing import sign_result
    from bloodcell.settings import Settings

    if amended is not None and corrected is not None:
        raise typer.BadParameter("a result is amended or corrected, not both")
    state: SignedState = "final"
    if amended is not None or corrected is not None:
        state = "amended" if corrected is None else "corrected"
    settings = Settings()
    signed = sign_result(settings, slide, version, state=state, reason=amended or corrected)
    try:
        rewrite_pages_of_slide(settings, slide)
    except (ConfigurationError, DatabaseUnavailableError) as error:  # the signature does not depend on it
        typer.echo(f"The page of the night is brought up to date by the next import of labels: {error}", err=True)
    if json:
        print_json({"slide": slide, "signed_version": version, "version": signed, "state": state})
    else:
        typer.echo(f"Slide {slide}: version {signed} is {state}. Next: bloodcell slides")


def _show_nights(found: list[ListedNight]) -> None:
    from rich.console import Console

    from bloodcell.presentation.tables import plain_table

    figures = ("slides", "reported", "withheld", "signed", "differ", "withdrawn", "quarantined")
    notes = {each.night: "slides are still being written" for each in found if not each.completed_at}
    table = plain_table("night", *figures, *[""][: len(notes)], right=figures, wrapped=("",))
    for each in found:
        numbers = (
            each.n_slides, each.n_slides_reported, each.n_slides_withheld + each.n_slides_differing_withheld,
            each.n_slides_signed, each.n_slides_differing, each.n_slides_withdrawn, each.n_quarantined,
        )  # fmt: skip
        table.add_row(str(each.night), *(f"{n:,}" for n in numbers), *[notes.get(each.night, "")][: len(notes)])
    Console().print(table)


def _show_slides(found: list[ListedSlide]) -> None:
    from rich.console import Console
    from rich.text import Text

    from bloodcell.presentation.tables import plain_table

    figures = ("version", "leucocytes")
    table = plain_table("slide", "night", "state", *figures, "why", right=figures, wrapped=("why",))
    for each in found:
        differs = f", {each.newest_state} now" if each.newest_state and each.newest_version != each.version else ""
        table.add_row(
            Text(each.barcode),
            str(each.night),
            Text((each.state or "none") + differs, style="bold red" if each.newest_state == "withheld" else ""),
            "" if each.version is None else str(each.version),
            "" if each.n_leucocytes is None else f"{each.n_leucocytes:,}",
            Text(each.why),
        )
    console = Console()
    console.print(table)
    n_withheld = sum(each.state == "withheld" for each in found)
    newest = max((each.reported_at for each in found if each.reported_at), default=None)
    counted_at = f", the last counted {moment(newest)}" if newest else ""
    console.print(f"{counted(len(found), 'slide')}, {n_withheld:,} withheld{counted_at}.", highlight=False)
