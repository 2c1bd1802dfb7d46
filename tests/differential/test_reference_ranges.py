"""Reference ranges and flags."""

from __future__ import annotations

import pytest

from bloodcell.cells.classes import LEUCOCYTE_CLASSES
from bloodcell.differential.counting import count_differential
from bloodcell.differential.reference_ranges import ADULT_RANGES, Flag, flag_of


@pytest.mark.parametrize(
    ("lymphocytes", "flag"),
    [(2, "low"), (11, "possibly_low"), (12, None), (44, None), (45, "possibly_high"), (70, "high")],
)
def test_flag_is_definite_only_if_the_interval_is_outside_the_range(lymphocytes: int, flag: Flag | None) -> None:
    differential = count_differential({"lymphocyte": lymphocytes, "neutrophil": 100 - lymphocytes}, min_leucocytes=100)
    assert differential.leucocytes[3].flag == flag


def test_more_cells_of_the_same_share_make_a_possible_flag_definite() -> None:
    flags = [
        count_differential({"ig": n, "neutrophil": 49 * n}, min_leucocytes=100).leucocytes[5].flag for n in (2, 200)
    ]
    assert flags == ["possibly_high", "high"]


def test_a_single_erythroblast_is_high() -> None:
    assert count_differential({"neutrophil": 200, "erythroblast": 1}, min_leucocytes=100).nrbc.flag == "high"


def test_every_class_with_a_percentage_has_a_range_with_a_source() -> None:
    assert set(ADULT_RANGES) == {*LEUCOCYTE_CLASSES, "erythroblast"}
    for expected in ADULT_RANGES.values():
        assert 0 <= expected.lower <= expected.upper <= 100
        assert len(expected.source) > 20
    assert ADULT_RANGES["neutrophil"].text == "40–75"
    assert ADULT_RANGES["erythroblast"].text == "none"


def test_platelets_and_missing_values_have_no_flag() -> None:
    assert flag_of("platelet", 50, (40, 60)) is None
    assert flag_of("neutrophil", None, None) is None
