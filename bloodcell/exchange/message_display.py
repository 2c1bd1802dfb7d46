"""Shows receivers and their open messages on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bloodcell.presentation.numbers import counted, moment
from bloodcell.presentation.tables import boxed_table, plain_table

if TYPE_CHECKING:
    from bloodcell.exchange.message_list import MessageList


def show_messages(found: MessageList) -> None:
    """Prints the receivers, then what waits or was rejected, with the next step."""
    console = Console()
    if not found.receivers:
        console.print("No receiver is known. Next: bloodcell exchange example, BLOODCELL_EXCHANGE_FILE")
        return
    counts = ("waiting", "rejected", "delivered")
    table = boxed_table("receiver", "protocol", *counts, "last delivered", right=counts)
    for each in found.receivers:
        table.add_row(
            each.receiver + (", unsigned results, too" if each.gets_unsigned else ""),
            each.protocol,
            f"{each.n_waiting:,}",
            Text(f"{each.n_held:,}", style="bold red" if each.n_held else ""),
            f"{each.n_delivered:,}",
            moment(each.last_delivered_at) if each.last_delivered_at else "never",
        )
    console.print(table)
    if found.messages:
        listed = plain_table("slide", "version", "receiver", "state", "sent", "next attempt", "last answer")
        for message in found.messages:
            is_held = message.state == "held"
            listed.add_row(
                Text(message.barcode),
                f"{message.version} {message.result_state}" if message.kind == "result" else "withdrawal",
                message.receiver,
                Text("rejected" if is_held else "waiting", style="bold red" if is_held else ""),
                "" if not message.n_attempts else counted(message.n_attempts, "time"),
                "" if is_held else moment(message.next_attempt_at) if message.next_attempt_at else "now",
                Text("held by the quality control" if message.waits_for_quality else message.last_answer or ""),
            )
        console.print(listed)
    if n_held := sum(each.n_held for each in found.receivers):
        console.print(
            f"{counted(n_held, 'message')} rejected; newer versions of these slides wait, too. Next: "
            "bloodcell exchange replay --reason R, or skip --reason R",
            highlight=False,
        )
