"""A laboratory whose results go to a receiver of HL7."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.exchange import outbox
from bloodcell.exchange.exchange_file import read_exchange_file
from bloodcell.exchange.receiver_rows import keep_receivers
from bloodcell.exchange.sending import Sent, send_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.exchange.hl7_receiver import Receiver, receiving
from tests.laboratory import Laboratory


def exchange_file(folder: Path, port: int, *more: str) -> Path:
    """Writes an exchange file with the receiver `lis`; `more` are further lines of it."""
    path = folder / "exchange.toml"
    lines = {"protocol": '"hl7"', "host": '"127.0.0.1"', "port": str(port), "tls": "false", "application": '"LIS"',
             "facility": '"HOSPITAL"', "answer_s": "1"}  # fmt: skip
    lines |= dict(line.split(" = ") for line in more)
    path.write_text("\n".join(["[receivers.lis]", *(f"{name} = {value}" for name, value in lines.items())]))
    return path


@dataclass
class Exchange:
    """A laboratory, its settings and the receiver of its results."""

    laboratory: Laboratory
    settings: Settings
    receiver: Receiver

    def wait_until_asked_again(self) -> None:
        """Waits until the sender asks the database anew whether its messages may be sent."""
        time.sleep(2 * outbox._ANSWER_HOLDS_S)

    def slide(self, barcode: str = "S-1", n: int = 120, **columns: object) -> list[int]:
        """Adds a slide of neutrophils that was counted; returns its cells."""
        slide = self.laboratory.slide(barcode, **columns)
        cells = self.laboratory.cells(slide, ["SNE"] * n)
        self.laboratory.call(cells, ["neutrophil"] * n)
        self.laboratory.count(slide)
        return cells

    def correct(self, cells: list[int], version: int, how: str = "corrected") -> int:
        """Labels one more cell of slide S-1 otherwise and signs again; returns the number of the signed version."""
        self.laboratory.label(cells[version : version + 1], ["lymphocyte"])
        self.laboratory.count()
        return self.laboratory.sign("S-1", version + 1, how, "one cell was wrong")

    def withdraw(self, action: str) -> None:
        """Withdraws (`withdraw`) or restores (`restore`) all slides."""
        with self.laboratory.database.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
                    "SELECT slide_id, :action, 'wrong tube', 'anna', run_id FROM bloodcell.slide ORDER BY slide_id"
                ),
                {"action": action},
            )

    def send(self) -> Sent:
        (sent,) = send_results(self.settings)
        return sent

    def messages(self, *columns: str) -> list[tuple[object, ...]]:
        """Returns columns of the view `message`, in the order in which the messages were made."""
        return self.laboratory.rows(f"SELECT {', '.join(columns)} FROM bloodcell.message ORDER BY message_id")

    def at_once(self) -> None:
        """Makes messages that wait for their next attempt due now."""
        with self.laboratory.database.begin() as connection:
            connection.exec_driver_sql("UPDATE bloodcell.outgoing_message SET next_attempt_at = NULL")

    def configure(self, *more: str) -> None:
        """Writes the exchange file again and makes the receiver known."""
        path = exchange_file(self.settings.data_dir, self.receiver.port, *more)
        self.settings = self.settings.model_copy(update={"exchange_file": path})
        found = read_exchange_file(path)
        with self.laboratory.database.begin() as connection:
            keep_receivers(connection, found)


@pytest.fixture
def exchange(database: Database, settings: Settings) -> Iterator[Exchange]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with receiving() as receiver:
        laboratory = Laboratory(database)
        laboratory.model()
        made = Exchange(laboratory, settings, receiver)
        made.configure()
        yield made
