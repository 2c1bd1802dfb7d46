"""Each worker calls the sentinels again: a difference holds the results of its own calls, and no others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from bloodcell.classify import classify_shard, plan_shards, shard_classification
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.ingest import ingest_night
from bloodcell.quality import control_night
from bloodcell.results import read_result, write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.classify.conftest import fill_night
from tests.ingest.night import NIGHT, NightFolder
from tests.small_cells import draw

pytestmark = pytest.mark.usefixtures("serving")
NEXT = NIGHT + timedelta(days=1)


def next_night(settings: Settings, name: str = "T", n: int = 60) -> None:
    """Writes and ingests a slide of the next night."""
    folder = NightFolder(settings.drops, NEXT)
    for number in range(n):
        path = folder.path / name / f"LY_{number:08d}.png"
        path.parent.mkdir(exist_ok=True)
        draw("neutrophil", np.random.default_rng((9, len(name), number))).save(path)
    folder.complete()
    ingest_night(folder.path, settings)


def run(settings: Settings, *, redo: bool = False, night: Any = None) -> None:
    """Does what the nightly run does with what is due."""
    for shard in plan_shards(settings, night=night, redo=redo):
        classify_shard(shard, settings)
    for each in (NIGHT, NEXT):
        control_night(settings, each)
        write_due_results(settings, night=each)


def checks(database: Database) -> list[sa.Row[Any]]:
    with database.connect() as connection:
        statement = "SELECT * FROM bloodcell.quality_history WHERE kind = 'sentinel' ORDER BY check_id"
        return list(connection.execute(sa.text(statement)))


def state(database: Database, barcode: str) -> tuple[str, list[str]]:
    version = read_result(database, barcode).version
    assert version is not None
    return version.state, [reason for reason in version.withheld_for if reason == "quality_control"]


def round_weights(network: MergedNetwork) -> None:
    """Leaves of each weight what bfloat16 holds: the first 16 of its 32 bits."""
    for weight in network.model.weights:
        values = np.asarray(weight)
        if values.dtype == np.float32:
            bits = np.atleast_1d(values).view(np.uint32) & np.uint32(0xFFFF0000)
            weight.assign(bits.view(np.float32).reshape(values.shape))


@pytest.fixture
def worker_of_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks that are loaded from now on keep the weights in another precision."""

    def loaded(bundles: tuple[Any, ...], batch_cells: int) -> MergedNetwork:
        network = MergedNetwork(bundles, batch_cells=batch_cells)
        round_weights(network)
        return network

    monkeypatch.setattr(shard_classification, "_network", loaded)


def test_the_same_worker_computes_the_same_in_the_next_nights(settings: Settings, database: Database) -> None:
    fill_night(settings)
    run(settings)
    assert checks(database) == []  # there were none to call yet
    next_night(settings)
    run(settings)
    first = checks(database)
    assert [check.passed for check in first] == [True, True]
    assert "for the first time" in first[0].reason
    run(settings, redo=True, night=NEXT)
    again = checks(database)[2:]
    assert [(check.passed, check.figures["n"], check.value < 1e-5) for check in again] == [(True, 24, True)] * 2
    assert state(database, "T")[1] == []


def test_a_worker_of_another_precision_holds_its_own_calls_only(
    settings: Settings, database: Database, request: pytest.FixtureRequest
) -> None:
    fill_night(settings)
    run(settings)
    next_night(settings)
    run(settings)
    request.getfixturevalue("worker_of_another_precision")
    run(settings, redo=True, night=NEXT)
    held = [check for check in checks(database) if check.holds]
    assert held
    assert all("probabilities differ by at most" in check.reason for check in held)
    assert all(check.value > 0.001 or check.figures["novelty_percent"] > 0.1 for check in held)
    assert state(database, "T") == ("withheld", ["quality_control"])
    assert state(database, "S0")[1] == []


def test_calling_the_slides_again_on_a_good_worker_releases_them(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    fill_night(settings)
    run(settings)
    next_night(settings)
    run(settings)
    with monkeypatch.context():
        request.getfixturevalue("worker_of_another_precision")
        run(settings, redo=True, night=NEXT)
    monkeypatch.undo()
    run(settings, redo=True, night=NEXT)
    assert state(database, "T")[1] == []


def test_references_that_were_begun_anew_are_those_of_the_next_worker(
    settings: Settings, database: Database, request: pytest.FixtureRequest
) -> None:
    fill_night(settings)
    run(settings)
    next_night(settings)
    run(settings)
    request.getfixturevalue("worker_of_another_precision")
    with database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.quality_restart (what, reason, requested_by) VALUES ('sentinels', 'r', 'chief')"
            )
        )
    run(settings, redo=True, night=NEXT)
    run(settings, redo=True, night=NEXT)
    assert all(check.passed for check in checks(database))


def test_one_image_that_is_gone_is_named_and_half_of_them_fail_the_check(
    settings: Settings, database: Database
) -> None:
    from bloodcell.storage.store import Store

    fill_night(settings)
    run(settings)
    next_night(settings)
    run(settings)
    with database.connect() as connection:
        images = list(connection.scalars(sa.text("SELECT sha256 FROM bloodcell.sentinel ORDER BY sha256")))
    Store.of(settings).remove_images(images[:1])
    run(settings, redo=True, night=NEXT)
    newest = checks(database)[-1]
    assert (newest.passed, "1 of 24 sentinels could not be read" in newest.reason) == (True, True)
    Store.of(settings).remove_images(images[:13])
    run(settings, redo=True, night=NEXT)
    newest = checks(database)[-1]
    assert (newest.passed, "13 of 24 sentinels could not be read" in newest.reason) == (False, True)
