"""Figures of the running system, pushed to a collector by OpenTelemetry without opening a port.

Most are rows of the view `operating_figure`, which the watcher reads from Postgres, so none is lost when a task is
killed. No figure is about a person. Two come from the watcher itself: the number of unread nights in the drops folder,
and the time since it last read the folder. The figures are pushed once a minute, or at the interval in OpenTelemetry's
OTEL_METRIC_EXPORT_INTERVAL (milliseconds).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.errors import BloodcellError, ConfigurationError
from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.storage.database import open_database

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider

    from bloodcell.settings import Settings

log = logging.getLogger(__name__)

_RECENT_S: Final = 2.0
ALIVE: Final = "watcher.alive"
"""File in the data folder that the watcher touches whenever it was able to read the drops folder."""
NAMES: Final = {
    "nights.unread": ("{night}", "Nights of the drops folder that are new or have grown since they were last read."),
    "watcher.age": ("s", "Time since the watcher was last able to read the drops folder."),
    "slides.waiting": ("{slide}", "Slides of the last 30 nights with cells that no report counts yet."),
    "cells.waiting": ("{cell}", "Cells of these slides that no report counts yet."),
    "queue.age": ("s", "Time since the oldest of these slides' nights was first seen."),
    "night.age": ("s", "Time since the newest night was first seen."),
    "night.cells": ("{cell}", "Usable cells of the newest night."),
    "night.slides": ("{slide}", "Slides of the newest night."),
    "night.quarantined": ("1", "Share of the newest night's files that could not be used."),
    "night.unclassified": ("1", "Share of the newest night's reported cells that the champion left unclassified."),
    "night.duration": ("s", "Time from the start of the newest night's first run to the end of its last."),
    "stage.speed": ("{cell}/s", "Cells per second of a stage's runs for the newest night."),
    "stage.failed": ("{run}", "Failed runs of a stage in the last 7 days, since it last succeeded."),
    "stage.since_success": ("s", "Time since a stage last succeeded."),
    "retraining.failed": ("1", "1 if the newest retraining ended with an error, otherwise 0."),
    "champion.failed_checks": (
        "{check}",
        "Checks that the champion failed when there were last enough cells to check it.",
    ),
}
"""Every figure without the prefix `bloodcell.`: its unit in UCUM and its meaning."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        name: One of `NAMES`.
        part: The stage or kind of check that it belongs to; empty if there is only one.
        value: The measured value, in the unit of `NAMES`.
    """

    name: str
    part: str
    value: float


def read_figures(settings: Settings) -> list[Figure]:
    """Returns the present figures; those of the drops folder are left out if it cannot be read.

    Args:
        settings: The settings of the machine on which the watcher runs.

    Raises:
        DatabaseUnavailableError: Postgres is unavailable; there is no waiting for it.
    """
    impatient = settings.model_copy(update={"database_patience_s": 0})
    database = open_database(impatient)
    statement = sa.text("SELECT name, part, value FROM bloodcell.operating_figure")
    rows = database.transact(lambda connection: list(connection.execute(statement)))
    figures = [Figure(row.name, row.part, row.value) for row in rows]
    try:
        figures.append(Figure("nights.unread", "", len(pending_nights(impatient, database))))
    except (OSError, ConfigurationError) as error:
        log.warning("%s", error)
    alive = settings.data_dir / ALIVE
    if alive.exists():
        figures.append(Figure("watcher.age", "", max(0.0, time.time() - alive.stat().st_mtime)))
    return figures


@contextmanager
def pushed_metrics(settings: Settings) -> Iterator[None]:
    """Pushes the figures to `settings.metrics_url` until the block ends; does nothing if that setting is not set.

    If the collector or the database is unavailable, this is logged and no error is raised.
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
    recent, meter = _RecentFigures(settings), provider.get_meter("bloodcell")
    for name, (unit, about) in NAMES.items():
        meter.create_observable_gauge(f"bloodcell.{name}", [recent.of(name)], unit, about)


class _RecentFigures:
    """Reads the figures once for all gauges that are observed at the same time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._figures: list[Figure] = []
        self._read_at = float("-inf")

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
        if time.monotonic() - self._read_at > _RECENT_S:
            try:
                self._figures = read_figures(self._settings)
            except BloodcellError as error:
                log.warning("The figures cannot be read: %s", error)
                self._figures = []
            self._read_at = time.monotonic()
        return self._figures
