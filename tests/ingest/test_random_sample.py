"""Each night draws and records a random sample of its cells, once, before any model has seen them."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import open_database
from tests.ingest.night import NIGHT, NightFolder
from tests.laboratory import Laboratory, at_once

KEY = "encode(sha256(convert_to(c.sha256 || ' ' || c.cell_id, 'UTF8')), 'hex') COLLATE \"C\""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sample_cells": 5})


def write_slides(night: NightFolder, slides: dict[str, int], first: int = 0) -> None:
    number = first
    for slide, n_cells in slides.items():
        for _ in range(n_cells):
            night.cell(slide, number)
            number += 1


def sample(settings: Settings, night: date = NIGHT) -> set[int]:
    with open_database(settings).connect() as connection:
        rows = connection.execute(
            sa.text("SELECT cell_id FROM bloodcell.sampled_cell WHERE night = :night"), {"night": night}
        )
        return {row.cell_id for row in rows}


def keys(settings: Settings) -> dict[int, str]:
    """Returns the digest by which each cell of the night is drawn, the lowest first."""
    with open_database(settings).connect() as connection:
        statement = f"SELECT c.cell_id, {KEY} FROM bloodcell.cell c WHERE c.night = '{NIGHT}' ORDER BY 2"
        return {cell_id: key for cell_id, key in connection.execute(sa.text(statement))}


def test_the_sample_is_the_cells_with_the_lowest_digests_drawn_once(settings: Settings) -> None:
    night = NightFolder(settings.drops)
    write_slides(night, {"S1": 12, "S2": 8})
    night.complete()
    ingest_night(night.path, settings)
    drawn = sample(settings)
    assert drawn == set(list(keys(settings))[:5])
    ingest_night(night.path, settings)
    ingest_night(night.path, settings.model_copy(update={"sample_cells": 3}))
    assert sample(settings) == drawn


def test_nothing_is_drawn_while_a_slide_is_still_written(settings: Settings) -> None:
    patient = settings.model_copy(update={"settle_s": 3_600})
    night = NightFolder(settings.drops)
    write_slides(night, {"S1": 12})
    assert ingest_night(night.path, patient).n_waiting_folders == 1
    assert sample(settings) == set()
    night.complete()
    ingest_night(night.path, patient)
    assert len(sample(settings)) == 5


@pytest.mark.parametrize("n_first", [3, 20])
def test_late_cells_are_drawn_if_they_are_among_the_lowest_of_the_whole_night(settings: Settings, n_first: int) -> None:
    night = NightFolder(settings.drops)
    write_slides(night, {"S1": n_first})
    night.complete()
    ingest_night(night.path, settings)
    first = sample(settings)
    assert len(first) == min(n_first, 5)
    write_slides(night, {"S2": 200}, first=100)
    ingest_night(night.path, settings)
    # what was drawn stays, and the sample of a night that began with few cells does not become all of it
    assert sample(settings) == first | set(list(keys(settings))[:5])
    assert len(sample(settings)) <= 10


def test_a_night_without_a_usable_cell_has_an_empty_sample(settings: Settings) -> None:
    night = NightFolder(settings.drops)
    night.write("S1/SNE_1.jpg", b"no image")
    night.complete()
    ingest_night(night.path, settings)
    assert sample(settings) == set()
    none = settings.model_copy(update={"sample_cells": 0})
    other = NightFolder(settings.drops, NIGHT + timedelta(days=1))
    write_slides(other, {"S2": 9}, first=50)
    other.complete()
    ingest_night(other.path, none)
    assert sample(settings, NIGHT + timedelta(days=1)) == set()


def test_ingests_at_once_draw_one_sample(settings: Settings) -> None:
    night = NightFolder(settings.drops)
    write_slides(night, {"S1": 20})
    night.complete()
    assert at_once(4, lambda: ingest_night(night.path, settings)) == []
    assert len(sample(settings)) == 5


def test_about_one_cell_in_four_is_read_twice_and_each_place_is_drawn_alike(database_url: str) -> None:
    with connect(database_url).connect() as connection:
        found = connection.execute(
            sa.text(
                "SELECT (n - 1) % 100, right(key, 1) < '4' FROM (SELECT n, encode(sha256(convert_to(encode(sha256("
                "n::text::bytea), 'hex') || ' ' || n, 'UTF8')), 'hex') COLLATE \"C\" AS key "
                "FROM generate_series(1, 100000) n) k WHERE key < '33'"
            )
        ).all()
    assert len(found) == pytest.approx(20_000, rel=0.05)
    assert sum(twice for _, twice in found) == pytest.approx(5_000, rel=0.1)
    places = Counter(place for place, _ in found)
    assert min(places.values()) > 130
    assert max(places.values()) < 270


@pytest.mark.parametrize("role", ["bloodcell_app", "bloodcell_owner", "bloodcell_reviewer"])
@pytest.mark.parametrize("change", ["DELETE FROM", "UPDATE", "TRUNCATE", "INSERT INTO"])
def test_nobody_chooses_the_cells_of_a_sample(settings: Settings, database_url: str, role: str, change: str) -> None:
    laboratory = Laboratory(open_database(settings))
    (cell,) = laboratory.cells(laboratory.slide("S1"), ["LY"])
    statement = {
        "DELETE FROM": "DELETE FROM bloodcell.sampled_cell",
        "UPDATE": "UPDATE bloodcell.sampled_cell SET is_read_twice = false",
        "TRUNCATE": "TRUNCATE bloodcell.sampled_cell",
        "INSERT INTO": "INSERT INTO bloodcell.sampled_cell (cell_id, night, is_read_twice) "
        f"VALUES ({cell}, '{NIGHT}', false)",
    }[change]
    if (role, change) == ("bloodcell_owner", "INSERT INTO"):
        return  # the owner of the schema may do what a migration may
    with (
        connect(database_url, role=role).begin() as connection,
        pytest.raises(sa.exc.DBAPIError, match=r"permission denied|append-only"),
    ):
        connection.execute(sa.text(statement))
