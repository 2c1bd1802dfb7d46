"""How patients are assigned to splits: by shares, blind-read patients first, and for good."""

from __future__ import annotations

import uuid
from collections import Counter
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from bloodcell.retraining.splitting import assign_splits, splits_of
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from tests.retraining.nights import label_cells, make_night


def test_the_shares_are_as_close_as_possible_to_those_wanted() -> None:
    splits = splits_of({f"P{n}": True for n in range(200)}, {}, 0.25, 0.15)
    assert Counter(splits.values()) == {"holdout": 40, "lockbox": 10, "validation": 30, "training": 120}


def test_only_patients_with_blind_read_cells_of_the_sample_judge_models() -> None:
    new = {f"P{n}": n < 10 for n in range(40)}
    splits = splits_of(new, {}, 0.25, 0.15)
    judging = {key for key, split in splits.items() if split in ("holdout", "lockbox")}
    assert judging == {f"P{n}" for n in range(10)}
    assert Counter(splits.values()) == {"holdout": 8, "lockbox": 2, "validation": 6, "training": 24}
    few = splits_of({f"P{n}": n < 3 for n in range(40)}, {}, 0.25, 0.15)
    assert Counter(few.values()) == {"holdout": 2, "lockbox": 1, "validation": 6, "training": 31}


def test_new_patients_restore_the_shares_that_earlier_ones_missed() -> None:
    splits = splits_of({f"P{n}": True for n in range(10)}, {"training": 10}, 0.25, 0.15)
    assert Counter(splits.values()) == {"holdout": 4, "lockbox": 1, "validation": 3, "training": 2}


@given(st.sets(st.text(max_size=8), max_size=60), st.randoms())
def test_the_order_in_which_patients_arrive_does_not_matter(keys: set[str], random: Random) -> None:
    listed = sorted(keys)
    shuffled = listed.copy()
    random.shuffle(shuffled)
    one, other = ({key: len(key) % 3 == 0 for key in order} for order in (listed, shuffled))
    assert splits_of(one, {}, 0.3, 0.2) == splits_of(other, {}, 0.3, 0.2)
    assert set(splits_of(one, {}, 0.3, 0.2)) == keys


def test_a_split_is_assigned_once_and_a_slide_without_a_patient_key_gets_its_own(settings: Settings) -> None:
    truth = make_night(settings, patients=["P1", "P2", "P3", "P4"], cells_per_class=1)
    database = open_database(settings)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET patient_key = NULL WHERE patient_key = 'P4'"))
    label_cells(settings, truth)

    def assign() -> int:
        with database.begin() as connection:
            run_id = uuid.uuid4()
            connection.execute(
                sa.text("INSERT INTO bloodcell.run (run_id, stage, code_version, host) VALUES (:r, 's', 'v', 'h')"),
                {"r": run_id},
            )
            return assign_splits(connection, settings, run_id)

    assert assign() == 4
    with database.connect() as connection:
        before = connection.execute(sa.text("TABLE bloodcell.patient_split")).all()
    assert {row.split_key for row in before} == {"P1", "P2", "P3", "slide:20260314-3"}
    assert assign() == 0
    with database.connect() as connection:
        assert connection.execute(sa.text("TABLE bloodcell.patient_split")).all() == before


@pytest.mark.parametrize(
    "statement", ["UPDATE bloodcell.data_split SET split = 'training'", "DELETE FROM bloodcell.data_split"]
)
def test_an_assigned_split_cannot_be_changed(settings: Settings, statement: str) -> None:
    with open_database(settings).begin() as connection, pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        connection.execute(sa.text(statement))
