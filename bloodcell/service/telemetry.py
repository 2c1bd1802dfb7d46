"""Figures of the running system, pushed by OpenTelemetry to whoever collects them: no port is opened.

Most are rows of the view `operating_figure`, read from Postgres by the watcher: a task that is killed loses none of
them, and none is about a person. Two are the watcher's own: what lies unread in the drops folder, and when it looked.
They go once a minute; OpenTelemetry's own OTEL_METRIC_EXPORT_INTERVAL (milliseconds) says otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.errors import BloodcellError
from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.storage.database import open_database

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

    from bloodcell.settings import Settings

log = logging.getLogger(__name__)

_SAME_LOOK_S: Final = 2.0
ALIVE: Final = "watcher.alive"
"""File of the data folder that the watcher touches when it could look into the drops folder."""
NAMES: Final = {
    "nights.unread": ("{night}", "Nights of the drops folder that are new or grew, and were not read since."),
    "watcher.age": ("s", "Since the watcher could last look into the drops folder."),
    "slides.waiting": ("{slide}", "Slides of the last 30 nights with cells that no report counts yet."),
    "cells.waiting": ("{cell}", "Cells of these slides that no report counts yet."),
    "queue.age": ("s", "Since the oldest of these slides' nights was first seen."),
    "night.age": ("s", "Since the newest night was first seen."),
    "night.cells": ("{cell}", "Usable cells of the newest night."),
    "night.slides": ("{slide}", "Slides of the newest night."),
    "night.quarantined": ("1", "Share of the newest night's files that could not be used."),
    "night.unclassified": ("1", "Share of the newest night's reported cells that the champion left unclassified."),
    "night.duration": ("s", "From the newest night's first run to the end of its last."),
    "stage.speed": ("{cell}/s", "Cells a second of a stage's runs over the newest night."),
    "stage.failed": ("{run}", "Failed runs of a stage in the last 7 days, since it last succeeded."),
    "stage.since_success": ("s", "Since a stage last succeeded."),
    "retraining.failed": ("1", "1 where the newest retraining ended by an error, otherwise 0."),
    "champion.failed_checks": (
        "{check}",
        "Checks that the champion did not pass when there last were enough cells to tell.",
    ),
}
"""Every figure, without the prefix `bloodcell.`: its unit in UCUM, and what it says."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        name: One of `NAMES`.
        part: The stage or kind of check it is of; empty where there is but one.
        value: Measured.
    """

    name: str
    part: str
    value: float


def read_figures(settings: Settings) -> list[Figure]:
    """Returns the figures as they are now, on the machine that watches; without a drops folder those that need none.

    Raises:
        DatabaseUnavailableError: Postgres is away; it is not waited for.
    """
    impatient = settings.model_copy(update={"database_patience_s": 0})
    database = open_database(impatient)
    statement = sa.text("SELECT name, part, value FROM bloodcell.operating_figure")
    rows = database.transact(lambda connection: list(connection.execute(statement)))
    figures = [Figure(row.name, row.part, row.value) for row in rows]
    try:
        figures.append(Figure("nights.unread", "", len(pending_nights(impatient, database))))
    except OSError as error:
        log.warning("The drops folder cannot be read: %s", error)
    alive = settings.data_dir / ALIVE
    if alive.exists():
        figures.append(Figure("watcher.age", "", max(0.0, time.time() - alive.stat().st_mtime)))
    return figures


@contextmanager
def pushed_metrics(settings: Settings) -> Iterator[None]:
    """Pushes the figures to `settings.metrics_url` while the context lasts; does nothing where that is not set.

    A collector or a database that is away is a line in the log and never an error.
    """
    if settings.metrics_url is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    reader = PeriodicExportingMetricReader(OTLPMetricExporter(settings.metrics_url.get_secret_value()))
    provider = MeterProvider([reader], Resource.create({"service.name": "bloodcell"}), shutdown_on_exit=False)
    try:
        _register(provider, settings)
        yield
    finally:
        provider.shutdown()


def _register(provider: MeterProvider, settings: Settings) -> None:
    look, meter = _Look(settings), provider.get_meter("bloodcell")
    for name, (unit, about) in NAMES.items():
        meter.create_observable_gauge(f"bloodcell.{name}", [look.of(name)], unit, about)


class _Look:
    """One look at the database for all figures that are asked for at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._figures: list[Figure] = []
        self._looked_at = float("-inf")

    def of(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(each.value, {"part": each.part} if each.part else {})
                for each in self._now()
                if each.name == name
            ]

        return observe

    def _now(self) -> list[Figure]:
        if time.monotonic() - self._looked_at > _SAME_LOOK_S:
            try:
                self._figures = read_figures(self._settings)
            except BloodcellError as error:
                log.warning("No figures to push: %s", error)
                self._figures = []
            self._looked_at = time.monotonic()
        return self._figures
