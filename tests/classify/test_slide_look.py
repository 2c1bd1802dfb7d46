"""A slide whose images look otherwise is withheld before anybody relies on its calls; one that looks alike is not."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.classify import classify_shard, plan_shards
from bloodcell.errors import StoreUnavailableError
from bloodcell.ingest import ingest_night
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide
from tests.classify.conftest import fill_night
from tests.small_cells import draw

pytestmark = pytest.mark.usefixtures("serving")


def classified(settings: Settings) -> None:
    for shard in plan_shards(settings):
        classify_shard(shard, settings)
    write_due_results(settings)


def looks(database: Database) -> list[sa.Row[Any]]:
    with database.connect() as connection:
        return list(connection.execute(sa.text("SELECT * FROM bloodcell.slide_look ORDER BY barcode, model_id")))


def withheld_for(database: Database) -> list[list[str]]:
    with database.connect() as connection:
        statement = "SELECT withheld_for FROM bloodcell.slide_status ORDER BY barcode"
        return list(connection.scalars(sa.text(statement)))


def repaint(night: Path) -> None:
    """Gives every image of a night another lamp."""
    for path in night.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(float) * [0.6, 0.8, 1.0]
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_slides_like_the_training_images_are_not_withheld_for_their_look(
    settings: Settings, database: Database, serving: tuple[str, str]
) -> None:
    fill_night(settings)
    classified(settings)
    found = looks(database)
    assert {(look.barcode, look.model_id) for look in found} == {
        (barcode, model_id) for barcode in ("S0", "S1", "S2") for model_id in serving
    }
    assert all(look.passed and look.distance <= look.threshold for look in found)
    assert not any("unlike_images" in reasons for reasons in withheld_for(database))


def test_slides_of_another_lamp_are_withheld_with_what_differs_and_the_others_are_not(
    settings: Settings, database: Database
) -> None:
    fill_night(settings, slides=5, before_ingest=lambda night: repaint(night / "S0"))
    classified(settings)
    for look in looks(database):
        assert look.passed == (look.barcode != "S0")
        if not look.passed:
            assert "red of the empty field" in look.reason
            assert look.figures["red of the empty field"]["difference"] < -3
    assert ["unlike_images" in reasons for reasons in withheld_for(database)] == [True, False, False, False, False]


def test_the_same_images_are_compared_once(settings: Settings, database: Database) -> None:
    fill_night(settings)
    for shard in plan_shards(settings):
        classify_shard(shard, settings)
    for shard in plan_shards(settings, redo=True, night=plan_night(database)):
        classify_shard(shard, settings)
    assert count_of_checks(database) == 3 * 2  # slides, models


def test_more_images_that_look_as_usual_do_not_clear_a_slide(settings: Settings, database: Database) -> None:
    """Early images of another lamp, then usual ones: the median passes, and a person has to look all the same."""
    night = fill_night(settings, slides=1, before_ingest=repaint)
    classified(settings)
    assert ["unlike_images" in reasons for reasons in withheld_for(database)] == [True]
    for number in range(120):
        draw("lymphocyte", np.random.default_rng((5, number))).save(night / "S0" / f"LY_{500 + number:08d}.png")
    ingest_night(night, settings)
    classified(settings)
    assert count_of_checks(database) > 2
    assert ["unlike_images" in reasons for reasons in withheld_for(database)] == [True]


def test_what_was_found_follows_the_cells_to_another_barcode(settings: Settings, database: Database) -> None:
    fill_night(settings, slides=2, before_ingest=lambda night: repaint(night / "S0"))
    classified(settings)
    withdraw_slide(settings, WithdrawalRequest("S0", "wrong barcode", "anna", renamed_to="S7"))
    write_due_results(settings)
    with database.connect() as connection:
        statement = "SELECT barcode, 'unlike_images' = ANY (withheld_for) FROM bloodcell.slide_status ORDER BY barcode"
        found = {row[0]: row[1] for row in connection.execute(sa.text(statement))}
    assert found["S7"] is True and found["S1"] is False


def test_images_that_cannot_be_read_are_compared_when_they_can(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_night(settings, slides=1, before_ingest=repaint)
    store = Store.of(settings)
    with database.connect() as connection:
        images = list(connection.scalars(sa.text("SELECT sha256 FROM bloodcell.cell ORDER BY sha256")))
    bodies = {image: store.read_image(image) for image in images[:10]}
    places = {image: next(path for path in (settings.data_dir / "store").rglob(f"{image}*")) for image in bodies}
    for path in places.values():
        path.unlink()
    with pytest.raises(StoreUnavailableError):
        classified(settings)
    assert all(look.passed and "Too few images" in look.reason for look in looks(database))
    for image, path in places.items():
        path.write_bytes(bodies[image])
    classified(settings)
    assert not any(look.passed for look in looks(database))


def count_of_checks(database: Database) -> int:
    with database.connect() as connection:
        found: int = connection.execute(sa.text("SELECT count(*) FROM bloodcell.look_check")).scalar_one()
    return found


def plan_night(database: Database) -> date:
    with database.connect() as connection:
        night: date = connection.execute(sa.text('SELECT night FROM bloodcell."drop"')).scalar_one()
    return night


def test_few_images_are_not_judged(settings: Settings, database: Database) -> None:
    fill_night(settings, slides=1, cells_each=5)
    classified(settings)
    for look in looks(database):
        assert (look.passed, look.distance) == (True, None)
        assert "5, 20 are needed" in look.reason


def test_a_slide_that_is_found_unlike_later_gets_a_version_that_is_withheld(
    settings: Settings, database: Database
) -> None:
    fill_night(settings)
    classified(settings)
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.look_check (cell_id, model_id, n_cells, passed, reason, figures, run_id) "
                "SELECT cell_id, model_id, n_cells, false, 'by hand', '{}', run_id FROM bloodcell.look_check"
            )
        )
        slides = list(connection.scalars(sa.text("SELECT barcode FROM bloodcell.slide")))
    write_due_results(settings, slides=slides)
    with database.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT why, withheld_for[1] FROM bloodcell.result_version WHERE version = 2")
        ).all()
    assert rows == [("how the images of the slide look was judged again", "unlike_images")] * len(slides)
