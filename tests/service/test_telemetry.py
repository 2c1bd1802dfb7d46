"""Figures are read from a night in a real database and pushed to a collector by the real protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bloodcell.ingest import ingest_night
from bloodcell.results import write_due_results
from bloodcell.service.telemetry import ALIVE, NAMES, pushed_metrics, read_figures
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.ingest.night import NIGHT, NightFolder
from tests.monitoring.conftest import settings

__all__ = ["settings"]  # a fixture
from tests.classified_nights import classified_night, rows
from tests.serving import serving


class Collector(ThreadingHTTPServer):
    """Receives metrics by OpenTelemetry's protocol over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.newest: dict[str, dict[str, float]] = {}
        self.received = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/metrics"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        request = ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.newest = {
            metric.name: {
                "".join(each.value.string_value for each in point.attributes): point.as_double or float(point.as_int)
                for point in metric.gauge.data_points
            }
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        self.server.received.release()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    server = Collector()
    with serving(server):
        yield server


def test_the_figures_of_a_waiting_night_change_when_it_is_reported(
    settings: Settings, database: Database, champion: str
) -> None:
    classified_night(settings, slides=2)
    waiting = {(each.name, each.part): each.value for each in read_figures(settings)}
    assert waiting["slides.waiting", ""] == 2
    assert waiting["cells.waiting", ""] == 20
    assert 0 < waiting["queue.age", ""] < 600
    assert 0 < waiting["night.age", ""] < 600
    assert waiting["night.cells", ""] == 20
    assert waiting["night.quarantined", ""] == 0
    assert ("night.unclassified", "") not in waiting

    write_due_results(settings, night=NIGHT)
    folder = settings.drops / NIGHT.isoformat()
    (folder / f"{NIGHT:%d}-0" / "LY_99999999.png").write_bytes(b"no image")
    ingest_night(folder, settings)
    found = {(each.name, each.part): each.value for each in read_figures(settings)}
    assert found["slides.waiting", ""] == found["queue.age", ""] == 0
    assert found["night.quarantined", ""] == 1 / 21
    unclassified = rows(database, "SELECT sum(n_unclassified)::int FROM bloodcell.slide_report WHERE n_cells > 0")
    assert found["night.unclassified", ""] == int(str(unclassified[0][0])) / 20
    ran = "SELECT extract(epoch FROM max(ended_at) - min(started_at)) FROM bloodcell.run"
    assert found["night.duration", ""] == pytest.approx(float(str(rows(database, ran)[0][0])))
    speed = "SELECT n_cells / extract(epoch FROM ended_at - started_at) FROM bloodcell.run WHERE stage = 'classify'"
    assert found["stage.speed", "classify"] == pytest.approx(float(str(rows(database, speed)[0][0])))
    assert found["stage.failed", "ingest"] == 0
    assert found["stage.since_success", "differential"] < 600


def test_every_figure_is_described(settings: Settings, database: Database) -> None:
    definition = str(rows(database, "SELECT pg_get_viewdef('bloodcell.operating_figure'::regclass)")[0][0])
    of_watcher = {"nights.unread", "watcher.age"}
    assert {name for name in NAMES if f"'{name}'" in definition} == NAMES.keys() - of_watcher
    assert {each.name for each in read_figures(settings)} <= set(NAMES)


def test_an_unread_night_and_the_time_since_the_watcher_last_looked_are_figures(
    settings: Settings, database: Database
) -> None:
    night = NightFolder(settings.drops)
    night.cell("S1", 1)
    night.complete()
    (settings.data_dir / ALIVE).touch()
    found = {each.name: each.value for each in read_figures(settings)}
    assert found["nights.unread"] == 1
    assert 0 <= found["watcher.age"] < 60
    ingest_night(night.path, settings)
    assert {each.name: each.value for each in read_figures(settings)}["nights.unread"] == 0


def ran(database: Database, stage: str, state: str, *, ago: str) -> None:
    """Records a run of a stage."""
    columns, at = "run_id, stage, state, started_at, ended_at, code_version, host", f"now() - interval '{ago}'"
    values = f"gen_random_uuid(), '{stage}', '{state}', {at}, {at}, '0', 'h'"
    with database.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO bloodcell.run ({columns}) VALUES ({values})"))


def test_a_success_long_ago_is_still_known(settings: Settings, database: Database) -> None:
    ran(database, "ingest", "succeeded", ago="9 days")
    ran(database, "ingest", "failed", ago="0 days")
    found = {(each.name, each.part): each.value for each in read_figures(settings)}
    assert found["stage.failed", "ingest"] == 1
    assert found["stage.since_success", "ingest"] == pytest.approx(9 * 86400, rel=0.01)


def test_without_a_drops_folder_the_other_figures_are_still_read(settings: Settings, database: Database) -> None:
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / ALIVE).touch()
    unreadable = settings.data_dir / ("x" * 300)  # no file system accepts the name
    read = {each.name for each in read_figures(settings.model_copy(update={"drops_dir": unreadable}))}
    assert read == {each.name for each in read_figures(settings)} - {"nights.unread"}
    assert {"watcher.age", "slides.waiting"} <= read


def test_a_failure_before_a_success_is_not_counted(settings: Settings, database: Database) -> None:
    ran(database, "train", "failed", ago="3 hours")
    ran(database, "train", "succeeded", ago="2 hours")
    assert {(each.name, each.part): each.value for each in read_figures(settings)}["stage.failed", "train"] == 0


def test_a_check_with_too_few_cells_does_not_hide_a_failed_one(
    settings: Settings, database: Database, champion: str
) -> None:
    def checked(model_id: str, kind: str, passed: bool, measured: str, hours: int) -> str:
        return (
            "INSERT INTO bloodcell.model_check (model_id, kind, n_cells, measured, passed, reason, until_label_id, "
            "run_id, checked_at) SELECT "
            f"'{model_id}', '{kind}', 9, {measured}, {passed}, '', 0, run_id, now() - interval '{hours} hours' FROM run"
        )

    ran(database, "check", "succeeded", ago="0 days")
    with database.begin() as connection:
        connection.execute(sa.text("SET LOCAL search_path = bloodcell"))
        connection.execute(sa.text(checked(champion, "agreement", False, "0.5", 48)))
        connection.execute(sa.text(checked(champion, "agreement", True, "NULL", 24)))
        connection.execute(sa.text(checked(champion, "novelty", False, "9.5", 48)))
        connection.execute(sa.text(checked(champion, "novelty", True, "1.0", 24)))
    found = {each.part: each.value for each in read_figures(settings) if each.name == "champion.failed_checks"}
    assert found == {"agreement": 1, "novelty": 0}


def test_a_collector_receives_the_figures(settings: Settings, champion: str, collector: Collector) -> None:
    classified_night(settings, slides=2)
    with pushed_metrics(settings.model_copy(update={"metrics_url": collector.url})):
        assert collector.received.acquire(timeout=10)
    assert collector.newest["bloodcell.slides.waiting"] == {"": 2}
    assert collector.newest["bloodcell.stage.failed"] == {"check look": 0, "classify": 0, "ingest": 0}


def test_without_a_collector_nothing_is_pushed(settings: Settings, collector: Collector) -> None:
    with pushed_metrics(settings):
        assert not collector.received.acquire(timeout=1)


def test_an_unavailable_database_is_logged_and_no_old_figure_is_pushed(
    settings: Settings, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    away = {"database_url": "postgresql+psycopg2://nobody@127.0.0.1:1/none", "metrics_url": collector.url}
    with pushed_metrics(settings.model_copy(update=away)):
        pass
    assert "The figures cannot be read" in caplog.text
    assert not collector.newest.get("bloodcell.slides.waiting")


def test_an_unavailable_collector_stops_nothing_and_is_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    worked = False
    with pushed_metrics(settings.model_copy(update={"metrics_url": "http://127.0.0.1:1/v1/metrics"})):
        worked = True
    assert worked
    assert "Failed to export metrics" in caplog.text
