"""Grafana's dashboards are whole, and every query of the one on the marts runs with a reader's rights."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from itertools import combinations
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from bloodcell.exchange.exchange_file import read_exchange_file
from bloodcell.exchange.receiver_rows import keep_receivers
from bloodcell.exchange.sending import send_results
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.conftest import ROOT
from tests.docker.grafana import expanded
from tests.exchange.conftest import exchange_file
from tests.exchange.hl7_receiver import acknowledged, receiving
from tests.exchange.month import FIRST, N_CELLS, N_CLASSIFIED, fill_month

MONITORING = ROOT / "docker" / "monitoring"
DASHBOARDS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in (MONITORING / "dashboards").iterdir()}
SOURCES = {each["uid"]: each for each in yaml.safe_load((MONITORING / "datasource.yaml").read_text())["datasources"]}
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
RESULTS = DASHBOARDS["results"]
PANELS = {panel["title"]: panel for panel in RESULTS["panels"]}
VARIABLES = {each["name"]: each for each in RESULTS["templating"]["list"]}
LAST = date(2026, 3, 5)
N_NIGHTS = (LAST - FIRST).days + 1
ANALYSERS = ("DI-60", "DM96")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert len({each["uid"] for each in DASHBOARDS.values()}) == len(DASHBOARDS)
    assert dashboard["editable"] is False
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries", "table")
        source = SOURCES[panel["datasource"]["uid"]]
        assert panel["datasource"]["type"] == source["type"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)
        asked = "expr" if source["type"] == "prometheus" else "rawSql"
        assert all(target[asked] for target in panel["targets"])
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = any(a[at] + a[size] <= b[at] for a, b in ((one, other), (other, one)) for at, size in ("xw", "yh"))
        assert apart, "two panels overlap"


def test_every_panel_on_results_says_what_it_shows() -> None:
    for panel in RESULTS["panels"]:
        assert panel["description"].endswith("."), panel["title"]


def test_grafana_reads_with_a_login_of_its_own_whose_password_is_a_secret() -> None:
    source, grafana = SOURCES["bloodcell"], COMPOSE["services"]["grafana"]
    assert source["secureJsonData"] == {"password": "$__file{/run/secrets/grafana_database_password}"}
    assert "grafana_database_password" in grafana["secrets"]
    used = {value[1:] for value in (source["url"], source["jsonData"]["sslmode"])}
    assert used <= grafana["environment"].keys()
    script = (ROOT / "docker" / "postgres-init.sh").read_text()
    assert f"GRANT bloodcell_reader TO {source['user']};" in script
    assert f"'{source['user']}', format('LOGIN CONNECTION LIMIT {source['jsonData']['maxOpenConns'] + 1} " in script


@pytest.fixture(scope="module")
def asked() -> dict[str, list[dict[str, Any]]]:
    """Panel -> its rows, filled on the first use by `results`, because a database is made for each test."""
    return {}


@pytest.fixture
def results(
    database: Database, database_url: str, settings: Settings, asked: dict[str, list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each panel, over some nights whose results were delivered, rejected or still wait."""
    if not asked:
        send_some(database, settings)
        with connect(database_url, role="bloodcell_reader").connect() as connection:
            offered = {name: offer(connection, variable["query"]) for name, variable in VARIABLES.items()}
            assert offered == {"analyser": list(ANALYSERS), "class": CLASSES}
            for title, panel in PANELS.items():
                asked[title] = [row for target in panel["targets"] for row in rows(connection, target["rawSql"])]
    return asked


CLASSES = ["BL", "basophil", "eosinophil", "ig", "lymphocyte", "monocyte", "neutrophil"]


def send_some(database: Database, settings: Settings) -> None:
    """Fills nights of which the first message is delivered, the second rejected, and the rest wait."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with receiving() as receiver:
        path = exchange_file(settings.data_dir, receiver.port)
        with database.begin() as connection:
            keep_receivers(connection, read_exchange_file(path))
        fill_month(database, FIRST, LAST)
        check_nights(database)
        answers = iter([("AA", ""), ("AE", "unknown order")])

        def answer(message: str) -> list[bytes]:
            code, text = next(answers, ("", ""))
            return [acknowledged(message, code, text)] if code else []

        receiver.answer = answer
        send_results(settings.model_copy(update={"exchange_file": path}))


def check_nights(database: Database) -> None:
    """Records a figure for each night, of which the last fails."""
    statement = """
        INSERT INTO bloodcell.quality_check (kind, subject, night, analyser, whole_night, passed, value, center, lower,
            upper, reason, figures, run_id)
        SELECT 'figure', subject, night, :analyser, false, night < :last, 50, 51, 47, 55, 'r', '{}',
               (SELECT min(run_id::text)::uuid FROM bloodcell.run)
        FROM bloodcell."drop" CROSS JOIN (VALUES ('red_cell_stain'), ('brightness')) s (subject)
    """
    with database.begin() as connection:
        connection.execute(sa.text(statement.replace("::", "\\:\\:")), {"analyser": min(ANALYSERS), "last": LAST})


def rows(connection: sa.Connection, sql: str) -> list[dict[str, Any]]:
    first, last = (datetime.combine(night, time(), UTC) for night in (FIRST, LAST))
    written = expanded(sql, first, last, {"analyser": ANALYSERS, "class": "neutrophil"})
    return [dict(row._mapping) for row in connection.execute(sa.text(written.replace(":", r"\:")))]


def offer(connection: sa.Connection, sql: str) -> list[str]:
    return [next(iter(row.values())) for row in rows(connection, sql)]


def test_every_query_gives_the_form_that_its_panel_needs(results: dict[str, list[dict[str, Any]]]) -> None:
    for title, panel in PANELS.items():
        (form,) = {target["format"] for target in panel["targets"]}
        assert form == ("time_series" if panel["type"] == "timeseries" else "table")
        assert results[title], title
        if form == "time_series":
            times = [row["time"] for row in results[title]]
            assert times == sorted(times), "Grafana expects the rows of a series by time"
            assert {moment.date() for moment in times} == {date.fromordinal(FIRST.toordinal() + n) for n in range(5)}


def test_the_figures_are_those_of_the_nights(results: dict[str, list[dict[str, Any]]]) -> None:
    figures = {
        title: next(iter(results[title][0].values())) for title, panel in PANELS.items() if panel["type"] == "stat"
    }
    assert figures.pop("Longest wait of a message") > 0
    unclassified = 1 / N_CELLS / 4  # only the unsigned slide's cell has no label
    assert figures.pop("Unclassified") == pytest.approx(unclassified)
    assert figures == {
        "Slides": 4 * N_NIGHTS,
        "Without a signature": 2 * N_NIGHTS,
        "Withheld": N_NIGHTS,
        "Messages that were rejected": 1,
    }
    by_state = [(row["metric"], row["slides"]) for row in results["Slides per night, by state"][:4]]
    assert by_state == [("corrected", 1), ("final", 1), ("machine", 1), ("withheld", 1)]
    assert {row["metric"] for row in results["Withheld slides, by reason"]} == {"blasts"}


def test_shares_have_an_interval_around_the_mean_of_the_slides(results: dict[str, list[dict[str, Any]]]) -> None:
    first = results["$class, $analyser"][0]
    n = [50 + (7 * FIRST.day + 11 * number) % 40 for number in (0, 1, 3)]
    leucocytes = (N_CLASSIFIED + 1, N_CLASSIFIED + 1, N_CLASSIFIED)  # a person has named one more cell of the first two
    shares = [100 * (each - (kind == 1)) / of for kind, (each, of) in enumerate(zip(n, leucocytes, strict=True))]
    assert first["mean"] == pytest.approx(sum(shares) / 3)
    assert 0 < first["lower"] < first["mean"] < first["upper"] < 100


def test_receivers_and_rejected_messages_are_shown(results: dict[str, list[dict[str, Any]]]) -> None:
    (receiver,) = results["Receivers"]
    assert (receiver["delivered"], receiver["rejected"]) == (1, 1)
    assert receiver["waiting"] == 3 * N_NIGHTS - 2  # one for each slide that is final, two for each that was corrected
    (rejected,) = results["Messages that were rejected, by slide"]
    assert rejected["answer"] == "AE unknown order"


def test_no_query_fails_on_an_empty_database(database: Database, database_url: str) -> None:
    del database
    with connect(database_url, role="bloodcell_reader").connect() as connection:
        for panel in RESULTS["panels"]:
            for target in panel["targets"]:
                rows(connection, target["rawSql"])


def test_a_macro_or_variable_that_grafana_does_not_know_is_an_error() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="__timeGroups"):
        expanded("SELECT $__timeGroups(night, '1d')", moment, moment, {})
    with pytest.raises(ValueError, match="analyzer"):
        expanded("SELECT $analyzer", moment, moment, {"analyser": "DM96"})
    assert expanded("$a IN ($b)", moment, moment, {"a": "o'x", "b": ["y'", "z"]}) == "o''x IN ('y''','z')"
