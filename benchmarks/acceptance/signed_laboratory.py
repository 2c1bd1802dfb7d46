"""A laboratory with one shipped model whose people label and sign with logins of their own, by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bloodcell.registry.bundle import open_bundle
from bloodcell.registry.shipped import FOLDER, MODEL_IDS
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from tests.laboratory import make_champion

VARIANT: Final = "inception_v3_svm"
"""The fastest of the shipped models (benchmarks/speed/RESULTS.md)."""
MODEL_ID: Final = MODEL_IDS[VARIANT]
NOTHING_TO_DO: Final = 3
_LABEL: Final = "INSERT INTO bloodcell.cell_label (barcode, file_name, label) VALUES (:barcode, :file, :label)"
_UNCLASSIFIED: Final = (
    "SELECT file_name FROM bloodcell.cell_result WHERE barcode = :barcode AND is_reported AND withdrawn_at IS NULL "
    "AND called_class = 'unclassified'"
)


@dataclass
class SignedLaboratory:
    """An installation of its own with the embedded Postgres.

    Attributes:
        settings: Its settings.
        server: Its Postgres.
        log: File that gets everything that the commands print.
    """

    settings: Settings
    server: EmbeddedPostgres
    log: Path

    def run(self, *arguments: str, status: Sequence[int] = (0,), **variables: str) -> str:
        """Runs a command of bloodcell and returns what it prints.

        Args:
            arguments: The command.
            status: Exit statuses that are expected.
            variables: Further variables of its environment.

        Raises:
            RuntimeError: It ends with another status.
        """
        return self.start(*arguments, **variables).wait(status)

    def start(self, *arguments: str, **variables: str) -> Started:
        """Starts a command of bloodcell."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BLOODCELL_")}
        environment |= {**self.settings.as_variables(), "COLUMNS": "150", **variables}
        command = [sys.executable, "-m", "bloodcell", *arguments]
        return Started(self.log, arguments, environment, command)

    def rows(self, statement: str, **values: object) -> list[dict[str, Any]]:
        """Returns rows, read as a superuser."""
        with connect(self.server.url()).begin() as connection:
            return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]

    def write(self, *statements: str) -> None:
        """Changes the database as a superuser."""
        with connect(self.server.url()).begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def login(self, person: str) -> str:
        """Returns the URL of the database with the login of a person who may label and sign; makes it if need be."""
        if not self.rows("SELECT FROM pg_roles WHERE rolname = :name", name=person):
            self.write(f'CREATE ROLE "{person}" LOGIN IN ROLE bloodcell_reviewer')
        return sa.make_url(self.server.url()).set(username=person).render_as_string(hide_password=False)

    def label(self, person: str, barcode: str, labels: Mapping[str, str]) -> None:
        """Labels cells of a slide as a person.

        Args:
            person: Whose labels they are.
            barcode: The slide.
            labels: File name -> class or analyser code.
        """
        with connect(self.login(person)).begin() as connection:
            for name, label in labels.items():
                connection.execute(sa.text(_LABEL), {"barcode": barcode, "file": name, "label": label})

    def label_unclassified(self, person: str, barcode: str, truth: Mapping[str, str]) -> int:
        """Gives each unclassified cell of a slide the class that it has; returns how many there were.

        Args:
            person: Whose labels they are.
            barcode: The slide.
            truth: File name -> class.
        """
        names = [row["file_name"] for row in self.rows(_UNCLASSIFIED, barcode=barcode)]
        self.label(person, barcode, {name: truth[name] for name in names})
        return len(names)

    def count_labels(self) -> None:
        """Counts what has new labels, as the Dag import_labels does."""
        self.run("labels", "inbox", status=(0, NOTHING_TO_DO))

    def newest(self, barcode: str) -> dict[str, Any]:
        """Returns the newest version of a slide's result."""
        return self.rows(
            "SELECT * FROM bloodcell.result_version WHERE barcode = :barcode ORDER BY version DESC LIMIT 1",
            barcode=barcode,
        )[0]

    def sign(self, person: str, barcode: str, *how: str) -> None:
        """Signs the newest version of a slide with a person's login."""
        version = str(self.newest(barcode)["version"])
        self.run("sign", barcode, "--version", version, *how, BLOODCELL_SIGNING_URL=self.login(person))


@dataclass
class Started:
    """A command of bloodcell that runs."""

    log: Path
    arguments: Sequence[str]
    environment: Mapping[str, str]
    command: Sequence[str]
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self, status: Sequence[int] = (0,)) -> str:
        """Returns what it printed, once it has ended.

        Raises:
            RuntimeError: It ended with another exit status.
        """
        printed, _ = self.process.communicate()
        with self.log.open("a") as log:
            log.write(f"$ bloodcell {' '.join(self.arguments)}\n{printed}\n")
        if self.process.returncode not in status:
            raise RuntimeError(f"bloodcell {' '.join(self.arguments)}: {self.process.returncode}\n{printed}")
        return printed


@contextmanager
def signed_laboratory(settings: Settings, log: Path) -> Iterator[SignedLaboratory]:
    """Yields an installation whose schema is current and whose only model is the fastest shipped one.

    Args:
        settings: Its settings, without a database: the embedded one is used.
        log: File for what commands print.
    """
    made = SignedLaboratory(settings, embedded_database(settings), log)
    try:
        made.run("db", "upgrade")
        if not made.rows("SELECT FROM bloodcell.model"):
            make_champion(settings, open_bundle(FOLDER / VARIANT), by="lead", reason="the fastest one")
        yield made
    finally:
        made.server.stop()
