"""`bloodcell exchange`: results that leave for other systems, and what their receivers answered."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Reason = Annotated[str, typer.Option(help="The reason, which is kept. Name no patient.", show_default=False)]
By = Annotated[str | None, typer.Option(help="The person; default: the login name.", show_default=False)]
To = Annotated[str, typer.Option("--receiver", help="Only messages for this receiver.", show_default=False)]
Slide = Annotated[str, typer.Option(metavar="SLIDE", help="Barcode: only messages of this slide.", show_default=False)]


@app.callback()
def exchange() -> None:
    """Results leave for other systems (BLOODCELL_EXCHANGE_FILE): what waits, what was rejected, sending again."""


@app.command()
def example() -> None:
    """Print a commented exchange file, to start from."""
    from bloodcell.exchange.exchange_file import EXAMPLE

    typer.echo(EXAMPLE.read_text(), nl=False)


@app.command()
def status(json: Json = False) -> None:
    """Show the receivers, and the messages that wait or were rejected, with what was answered.

    Exit status 1: a message was rejected, and waits for a person.
    """
    from bloodcell.cli.output import print_json
    from bloodcell.exchange.message_display import show_messages
    from bloodcell.exchange.message_list import read_messages
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_views

    found = read_messages(open_views(Settings()))
    if json:
        print_json(found)
    else:
        show_messages(found)
    if any(receiver.n_held for receiver in found.receivers):
        raise typer.Exit(1)


@app.command()
def send(
    receiver: Annotated[str | None, typer.Option(help="Only to this receiver.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Send what waits to the receivers of the exchange file. The Dag send_results does it every minute.

    Exit status 1: a receiver could not be reached, or rejected a message; 3: nothing waited.
    """
    from bloodcell.cli.output import NOTHING_TO_DO, print_json
    from bloodcell.exchange.sending import send_results
    from bloodcell.presentation.progress import step_bars
    from bloodcell.settings import Settings

    with step_bars() as tell:
        sent = send_results(Settings(), receiver=receiver, on_progress=tell)
    if json:
        print_json(sent)
    else:
        for each in sent:
            typer.echo(str(each))
        if not sent:
            typer.echo("No receiver is configured. Next: bloodcell exchange example", err=True)
    if any(each.trouble or each.n_held for each in sent):
        raise typer.Exit(1)
    if not any(each.n_delivered for each in sent):
        raise typer.Exit(NOTHING_TO_DO)


@app.command()
def listen() -> None:
    """Receive orders (OML^O21 over MLLP) where section [orders] of the exchange file says, until it is stopped."""
    import logging

    from bloodcell.exchange.exchange_file import read_exchange_file
    from bloodcell.exchange.order_listener import listen as receive
    from bloodcell.settings import Settings

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    settings = Settings()
    exchange = read_exchange_file(settings.exchange_file)
    receive(settings, exchange, lambda port: typer.echo(f"Orders are received at port {port}. Ctrl-C stops it."))


@app.command(no_args_is_help=True)
def replay(
    reason: Reason,
    slide: Slide = "",
    receiver: To = "",
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
            help="Instead, send a receiver every result signed since then that it has no message of (UTC).",
            show_default=False,
        ),
    ] = None,
    by: By = None,
) -> None:
    """Send messages again: those that were rejected, or, with --slide, the newest of a slide.

    They keep their control ids, so that a receiver recognises what it has.
    """
    from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages, send_from
    from bloodcell.presentation.numbers import counted
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    database = open_database(Settings())
    if since is not None:
        if not receiver or slide:
            raise typer.BadParameter("--since needs --receiver, and no --slide")
        n = send_from(
            database, receiver, since.replace(tzinfo=UTC), reason=reason, requested_by=by or getpass.getuser()
        )
    else:
        decision = MessageDecision("replay", reason, by or getpass.getuser(), receiver, slide)
        n = decide_on_messages(database, decision)
    typer.echo(f"{counted(n, 'message')} will be sent. Next: bloodcell exchange send")


@app.command(no_args_is_help=True)
def skip(reason: Reason, slide: Slide = "", receiver: To = "", by: By = None) -> None:
    """Never send messages that were rejected, or that wait (with --slide): newer versions are then sent."""
    from bloodcell.exchange.message_actions import MessageDecision, decide_on_messages
    from bloodcell.presentation.numbers import counted
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    decision = MessageDecision("skip", reason, by or getpass.getuser(), receiver, slide)
    n = decide_on_messages(open_database(Settings()), decision)
    typer.echo(f"{counted(n, 'message')} will not be sent.")


@app.command(no_args_is_help=True)
def remove(receiver: Annotated[str, typer.Argument(help="Its name.", show_default=False)]) -> None:
    """End that a receiver gets new results. Remove it from the exchange file first."""
    from bloodcell.exchange.exchange_file import read_exchange_file
    from bloodcell.exchange.receiver_rows import remove_receiver
    from bloodcell.settings import Settings
    from bloodcell.storage.database import open_database

    settings = Settings()
    if receiver in read_exchange_file(settings.exchange_file).receivers:
        raise typer.BadParameter(f"{settings.exchange_file} still names {receiver}")
    remove_receiver(open_database(settings), receiver)
    typer.echo(f"{receiver} gets no new results. Messages that wait for it stay: bloodcell exchange skip")
