"""The result of a check, as a table that a person reads."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

from bloodcell.monitoring import ChampionCheck, Check
from bloodcell.monitoring.check_records import Kind
from bloodcell.storage.training_tables import CHECKS

PASSED = Check("agreement", None, 980, 0.95, 0.934, 0.963, 0.9, True, "agrees on 931 of 980")
FAILED = Check("embedding", None, 512, 0.12, 0.11, 0.13, 0.05, False, "look | at the staining")
UNJUDGED = Check("class_mix", None, 10, None, None, None, None, True, "Not judged")


def check(*checks: Check) -> ChampionCheck:
    return ChampionCheck(UUID(int=1), "c0ffee" + 58 * "0", "vgg16", checks)


def test_a_check_lists_the_reasons_of_the_figures_that_failed() -> None:
    assert check(PASSED, UNJUDGED).failed == ()
    assert check(PASSED, FAILED).failed == ("look | at the staining",)


def test_the_table_has_one_row_per_figure_and_escapes_its_cells() -> None:
    lines = check(PASSED, FAILED, UNJUDGED).markdown().splitlines()
    assert lines[0] == "### Champion vgg16 `c0ffee000000`: 1 threshold crossed"
    assert lines[4:] == [
        "| agreement | all | 980 | 0.950 | 0.934–0.963 | 0.900 | ok | agrees on 931 of 980 |",
        r"| embedding | all | 512 | 0.120 | 0.110–0.130 | 0.050 | **FAILED** | look \| at the staining |",
        "| class mix | all | 10 |  |  |  | ok | Not judged |",
    ]
    assert "no threshold crossed" in check(PASSED).markdown()
    assert "too little data to judge yet" in check(UNJUDGED).markdown()


def test_the_database_takes_every_kind() -> None:
    assert get_args(Kind) == CHECKS
