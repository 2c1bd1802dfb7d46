"""`bloodcell users`: the people who log in to the review desk with a password of bloodcell's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from bloodcell.desk_settings import Role
    from bloodcell.settings import Settings

app = typer.Typer(no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The name under which the person labels and signs; case does not count.",
        show_default=False,
    ),
]
Roles = Annotated[
    list[str],
    typer.Option(
        "--role",
        metavar="ROLE",
        help="viewer (sees), reader (also labels and signs), senior (also adjudicates and reads a second time) or "
        "administrator (sees, and ends other people's sessions). Give it again for another role.",
        show_default=False,
    ),
]
Link = Annotated[bool, typer.Option("--link", help="Print a link with which the person sets the password, once.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, up to the end of the line.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.callback()
def users() -> None:
    """People who log in to the review desk with a password of bloodcell's own (BLOODCELL_DESK_LOGIN=local).

    Where the site has a directory (ldap) or an OpenID provider (oidc), people and roles come from there.
    """


@app.command(no_args_is_help=True)
def add(
    name: Name,
    role: Roles,
    link: Link = False,
    password_stdin: FromStdin = False,
    same_person: Annotated[
        bool, typer.Option("--same-person", help="Bring back the person of this name who was removed.")
    ] = False,
) -> None:
    """Add a person. Asks for the password twice, or prints a link with which the person sets it.

    A password has at least 15 characters, of any kind: a few words that do not belong together.
    """
    from bloodcell.review.local_users import add_user

    roles = _known(role)
    settings = _settings()
    _refuse_bad_name(name)
    password = _new_password(link, password_stdin)
    person = add_user(settings.users_file, name, roles, password, same_person=same_person)
    if link:
        _print_link(settings, person.name)
    else:
        typer.echo(f"Added {person.name}: {', '.join(sorted(person.roles))}. Next: log in at {settings.desk_origin}")


@app.command("list")
def list_people(json: Json = False) -> None:
    """List the people with their roles, and whether they have set a password. Exit status 3 if there is nobody."""
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.review.local_users import list_users

    found = list_users(_settings().users_file)
    if json:
        print_json(found)
    elif found:
        _show(_settings().users_file)
    else:
        typer.echo("There is nobody yet. Next: bloodcell users add NAME --role reader")
    raise typer.Exit(0 if found else NOTHING_TO_DO)


@app.command(no_args_is_help=True)
def password(name: Name, link: Link = False, password_stdin: FromStdin = False) -> None:
    """Set a person's password, or print a link with which the person sets it. The person's sessions end."""
    from bloodcell.review.local_users import require_user, set_password

    settings = _settings()
    require_user(settings.users_file, name)
    chosen = _new_password(link, password_stdin)
    if chosen is None:
        _print_link(settings, name)
        return
    set_password(settings.users_file, name, chosen)
    typer.echo(f"The password of {name} is set; earlier sessions have ended.")


@app.command(no_args_is_help=True)
def roles(name: Name, role: Roles) -> None:
    """Give a person other roles instead of theirs. The person's sessions end."""
    from bloodcell.review.local_users import set_roles

    known = _known(role)
    set_roles(_settings().users_file, name, known)
    typer.echo(f"{name} is now: {', '.join(known)}.")


@app.command(no_args_is_help=True)
def remove(name: Name) -> None:
    """Stop a person from logging in. The name stays, because it is under what the person signed."""
    from bloodcell.review.local_users import remove_user

    remove_user(_settings().users_file, name)
    typer.echo(f"{name} cannot log in any more; open sessions have ended.")


def _settings() -> Settings:
    from bloodcell.settings import Settings
    from bloodcell.storage.private_files import make_data_folder

    settings = Settings()
    if settings.desk_users_file is None:
        make_data_folder(settings.data_dir)
    if settings.desk_login != "local":
        typer.echo(
            f"These people cannot log in: BLOODCELL_DESK_LOGIN is {settings.desk_login}, so people come from there.",
            err=True,
        )
    return settings


def _known(names: list[str]) -> list[Role]:
    from bloodcell.desk_settings import ROLES

    found = [each for each in ROLES if each in names]
    if unknown := [name for name in names if name not in ROLES]:
        raise typer.BadParameter(f"there is no role {unknown[0]!r}: expected {', '.join(ROLES)}")
    return found


def _refuse_bad_name(name: str) -> None:
    from bloodcell.errors import NameRefusedError
    from bloodcell.review.people import person_name

    try:
        person_name(name)
    except NameRefusedError as error:
        raise typer.BadParameter(str(error)) from None


def _new_password(link: bool, from_stdin: bool) -> str | None:
    """Returns the password that was typed or piped; None with --link."""
    if link and from_stdin:
        raise typer.BadParameter("a link or a password: --link or --password-stdin, not both")
    if link:
        return None
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise typer.BadParameter("without a terminal, give --link or --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))


def _print_link(settings: Settings, name: str) -> None:
    from bloodcell.review.local_users import LINK_VALID_H, make_link

    token = make_link(settings.users_file, name)
    typer.echo(
        f"With this link, {name} sets the password. It works once, for {LINK_VALID_H:g} hours; give it to nobody else:",
        err=True,
    )
    typer.echo(f"{settings.desk_origin}/enter/{token}")


def _show(path: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from bloodcell.presentation.numbers import moment
    from bloodcell.presentation.tables import plain_table
    from bloodcell.review.local_users import list_users
    from bloodcell.visible_text import visible

    table = plain_table("name", "roles", "state", "link until", "changed")
    for each in list_users(path):
        until = moment(each.link_until) if each.link_until else ""
        table.add_row(Text(visible(each.name)), ", ".join(each.roles), each.state, until, moment(each.changed_at))
    Console().print(table)
