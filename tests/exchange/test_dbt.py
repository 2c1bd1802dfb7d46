"""The dbt project builds on a month of nights as an analyst's login, and its tests find data that are wrong."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from statistics import median

import pytest
import yaml

from bloodcell.storage.database import Database
from docs.generator.dbt_sources import PATH, sources_file
from tests.exchange.analyst import PROJECT, SCHEMA, Analyst
from tests.exchange.month import FIRST, KINDS, LAST, N_CLASSIFIED, fill_month

N_NIGHTS = (LAST - FIRST).days + 1
REQUIREMENTS = (PROJECT / "requirements.txt").read_text()


def test_the_sources_are_the_marts_with_their_comments(database: Database) -> None:
    with database.connect() as connection:
        assert PATH.read_text() == sources_file(connection), "Next: python -m docs.generator.dbt_sources"


def test_each_mart_has_a_key_and_each_column_a_meaning() -> None:
    (source,) = yaml.safe_load(PATH.read_text())["sources"]
    for table in source["tables"]:
        tests = [test for column in table["columns"] for test in column.get("data_tests", [])]
        assert "unique" in tests or "unique_together" in str(table["data_tests"]), table["name"]
        assert all(column["description"] for column in table["columns"])


def test_every_package_of_dbt_is_checked_against_its_digest() -> None:
    digests = r"((?:    --hash=sha256:\w{64}(?: \\)?\n)+)"
    pinned = re.findall(rf"^([a-z][\w.-]*)(?:\[\w+\])?==\S+ (?:; .*?)?\\\n{digests}", REQUIREMENTS, re.M)
    assert len(pinned) == len(re.findall(r"^[a-z][^\n]*==", REQUIREMENTS, re.M))
    assert {"dbt-core", "dbt-postgres"} <= {name for name, _ in pinned}
    assert "://" not in REQUIREMENTS


def test_dbt_sends_nothing_to_its_makers() -> None:
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    assert project["flags"]["send_anonymous_usage_stats"] is False


@pytest.mark.slow
def test_a_month_builds_with_every_test_green_and_wrong_data_fail(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    fill_month(database)
    analyst = Analyst.hired(database_url, tmp_path)

    done = analyst.dbt("build")

    assert done.returncode == 0, done.stdout
    outcomes = analyst.outcomes()
    assert set(outcomes.values()) == {"success", "pass"}
    assert len(outcomes) > 80
    check_shares(analyst)
    check_turnaround(analyst)
    comments = analyst.rows(f"SELECT obj_description('{SCHEMA}.turnaround_by_night'::regclass) AS comment")
    assert comments[0]["comment"].startswith("Hours from imaging")

    damage(analyst)
    damaged = analyst.dbt("test", "--select", "source:*")
    assert damaged.returncode == 1
    found = {name for name, outcome in analyst.outcomes().items() if outcome == "fail"}
    assert {next((kind for kind in MISTAKES if kind in name), name) for name in found} == MISTAKES.keys()


def check_shares(analyst: Analyst) -> None:
    shares = analyst.rows(f"SELECT * FROM {SCHEMA}.class_shares_by_month ORDER BY analyser, share_percent DESC")
    assert {(row["month"], row["analyser"]) for row in shares} == {(FIRST, "DI-60"), (FIRST, "DM96")}
    counted = {row["analyser"]: (row["n_slides"], row["n_leucocytes"]) for row in shares}
    slides = {analyser: n for analyser, (n, _) in counted.items()}
    assert sum(slides.values()) == 3 * N_NIGHTS  # final, corrected and machine
    labelled = 2 * N_NIGHTS  # one labelled cell in each that is signed
    assert sum(n for _, n in counted.values()) == 3 * N_NIGHTS * N_CLASSIFIED + labelled
    for analyser in counted:
        own = [row for row in shares if row["analyser"] == analyser]
        assert sum(row["share_percent"] for row in own) == pytest.approx(100)
        assert own[0]["class"] == "neutrophil"
    assert "BL" not in {row["class"] for row in shares}, "it is on withheld slides only"


def check_turnaround(analyst: Analyst) -> None:
    nights = analyst.rows(f"SELECT * FROM {SCHEMA}.turnaround_by_night ORDER BY night")
    assert [row["night"] for row in nights] == [date.fromordinal(FIRST.toordinal() + n) for n in range(N_NIGHTS)]
    assert {(row["n_slides"], row["n_signed"]) for row in nights} == {(len(KINDS) - 1, 2)}
    signed = analyst.rows(
        "SELECT night, min(made_at - acquired_at) AS took FROM bloodcell.mart_slide_version "
        f"WHERE signed_by IS NOT NULL AND night = '{FIRST}' GROUP BY night, slide_id"
    )
    expected = median(row["took"].total_seconds() / 3600 for row in signed)
    assert float(nights[0]["signed_after_h"]) == pytest.approx(expected)


MISTAKES = {
    "source_unique_bloodcell_mart_cell": "INSERT INTO mart_cell SELECT * FROM mart_cell LIMIT 1",
    "source_unique_together_bloodcell_mart_slide_class": (
        "INSERT INTO mart_slide_class SELECT * FROM mart_slide_class WHERE n_cells = 0 AND class = 'basophil' LIMIT 1"
    ),
    "source_not_null_bloodcell_mart_cell_sha256": (
        "UPDATE mart_cell SET sha256 = NULL WHERE cell_id = (SELECT max(cell_id) FROM mart_cell)"
    ),
    "source_accepted_values_bloodcell_mart_slide_class_class": (
        "UPDATE mart_slide_class SET class = 'neutrophils' WHERE class = 'monocyte' AND n_cells = 0"
    ),
    "source_relationships_bloodcell_mart_cell_barcode": (
        "UPDATE mart_cell SET barcode = 'other' WHERE cell_id = (SELECT max(cell_id) FROM mart_cell)"
    ),
    "source_between_bloodcell_mart_slide_basophil_percent": (
        "UPDATE mart_slide SET basophil_percent = -1, neutrophil_percent = neutrophil_percent + 1"
    ),
    "source_between_bloodcell_mart_slide_class_percentage_lower_95": (
        "UPDATE mart_slide_class SET percentage_lower_95 = 'NaN' WHERE class = 'monocyte'"
    ),
    "shares_of_a_slide_add_up": "UPDATE mart_slide SET ig_percent = ig_percent + 0.5 WHERE state = 'corrected'",
    "lines_of_a_slide_are_its_cells": "UPDATE mart_slide_class SET n_cells = n_cells + 1 WHERE class = 'platelet'",
    "states_agree_with_signatures": "UPDATE mart_slide_version SET signed_by = NULL WHERE state = 'final'",
}
"""Test -> a mistake in the data that it finds."""


def damage(analyst: Analyst) -> None:
    """Points the sources at copies of the marts with mistakes, of which the database itself allows none."""
    sources = analyst.project / "models" / "sources.yml"
    sources.write_text(sources.read_text().replace("schema: bloodcell", f"schema: {SCHEMA}"))
    marts = [table["name"] for table in yaml.safe_load(sources.read_text())["sources"][0]["tables"]]
    copies = [f"CREATE TABLE {mart} AS TABLE bloodcell.{mart}" for mart in marts]
    analyst.execute(f"SET search_path = {SCHEMA}", *copies, *MISTAKES.values())
