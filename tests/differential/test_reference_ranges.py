"""Reference ranges and flags."""

from __future__ import annotations

import pytest

from bloodcell.differential.counting import Differential, count_differential
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.differential.reference_ranges import Flag, flag_of
from tests.laboratory import slide_counts


def count(cells: dict[str, int]) -> Differential:
    return count_differential(slide_counts(cells), read_rules(None))


@pytest.mark.parametrize(
    ("lymphocytes", "flag"),
    [(2, "low"), (11, "possibly_low"), (12, None), (44, None), (45, "possibly_high"), (70, "high")],
)
def test_flag_is_definite_only_if_the_interval_is_outside_the_range(lymphocytes: int, flag: Flag | None) -> None:
    differential = count({"lymphocyte": lymphocytes, "neutrophil": 100 - lymphocytes})
    assert differential.leucocytes[3].flag == flag


def test_more_cells_of_the_same_share_make_a_possible_flag_definite() -> None:
    flags = [count({"ig": n, "neutrophil": 49 * n}).leucocytes[5].flag for n in (2, 200)]
    assert flags == ["possibly_high", "high"]


def test_without_a_value_or_a_range_there_is_no_flag() -> None:
    expected = read_rules(None).ranges_for(None, None)
    assert flag_of(expected.get("platelet"), 50, (40, 60)) is None
    assert flag_of(expected["neutrophil"], None, None) is None
    assert flag_of(expected["neutrophil"], 90, (80, 95)) == "high"
