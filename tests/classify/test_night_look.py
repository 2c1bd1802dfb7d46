"""A night whose images look otherwise is withheld before anybody relies on its calls; one that looks alike is not."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.classify import classify_shard, plan_shards
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classify.conftest import fill_night

pytestmark = pytest.mark.usefixtures("serving")


def classified(settings: Settings) -> None:
    for shard in plan_shards(settings):
        classify_shard(shard, settings)
    write_due_results(settings)


def looks(database: Database) -> list[sa.Row[Any]]:
    with database.connect() as connection:
        return list(connection.execute(sa.text("SELECT * FROM bloodcell.night_look")))


def withheld_for(database: Database) -> list[list[str]]:
    with database.connect() as connection:
        statement = "SELECT withheld_for FROM bloodcell.slide_status ORDER BY barcode"
        return list(connection.scalars(sa.text(statement)))


def repaint(night: Path) -> None:
    """Gives every image of a night another lamp."""
    for path in night.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(float) * [0.6, 0.8, 1.0]
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_a_night_like_the_training_images_is_not_withheld_for_its_look(settings: Settings, database: Database) -> None:
    fill_night(settings)
    classified(settings)
    (look,) = looks(database)
    assert look.passed
    assert look.distance <= look.threshold
    assert not any("unlike_night" in reasons for reasons in withheld_for(database))


def test_a_night_of_another_lamp_is_withheld_with_what_differs(settings: Settings, database: Database) -> None:
    fill_night(settings, before_ingest=repaint)
    classified(settings)
    (look,) = looks(database)
    assert not look.passed
    assert "red of the empty field" in look.reason
    assert look.figures["red of the empty field"]["difference"] < -3
    assert all(reasons[0] == "unlike_night" for reasons in withheld_for(database))


def test_only_the_slides_of_the_analyser_that_looks_otherwise_are_withheld(
    settings: Settings, database: Database
) -> None:
    def two_analysers(night: Path) -> None:
        for slide in night.iterdir():
            name = "DM96" if slide.name == "S0" else "DM9600"
            facts = {"barcode": slide.name, "analyser": name, "acquired_at": "2026-11-21T02:00:00+00:00"}
            (slide / "slide.json").write_text(json.dumps(facts))
        repaint(night / "S0")

    fill_night(settings, slides=5, before_ingest=two_analysers)
    classified(settings)
    assert {look.analyser: look.passed for look in looks(database)} == {"DM96": False, "DM9600": True}
    is_unlike = ["unlike_night" in reasons for reasons in withheld_for(database)]
    assert is_unlike == [True, False, False, False, False]


def test_the_same_images_are_compared_once(settings: Settings, database: Database) -> None:
    fill_night(settings)
    for shard in plan_shards(settings):
        classify_shard(shard, settings)
    for shard in plan_shards(settings, redo=True, night=plan_night(database)):
        classify_shard(shard, settings)
    with database.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bloodcell.night_check")) == 1


def plan_night(database: Database) -> date:
    with database.connect() as connection:
        night: date = connection.execute(sa.text('SELECT night FROM bloodcell."drop"')).scalar_one()
    return night


def test_few_images_are_not_judged(settings: Settings, database: Database) -> None:
    fill_night(settings, slides=1, cells_each=5)
    classified(settings)
    (look,) = looks(database)
    assert (look.passed, look.distance) == (True, None)
    assert "5, 20 are needed" in look.reason


def test_a_night_that_is_found_unlike_later_gets_a_version_that_is_withheld(
    settings: Settings, database: Database
) -> None:
    fill_night(settings)
    classified(settings)
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.night_check (night, model_id, n_cells, passed, reason, figures, run_id) "
                "SELECT night, model_id, n_cells, false, 'by hand', '{}', run_id FROM bloodcell.night_check"
            )
        )
        slides = list(connection.scalars(sa.text("SELECT barcode FROM bloodcell.slide")))
    write_due_results(settings, slides=slides)
    with database.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT why, withheld_for[1] FROM bloodcell.result_version WHERE version = 2")
        ).all()
    assert rows == [("how the images of the night look was judged again", "unlike_night")] * len(slides)
