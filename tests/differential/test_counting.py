"""Counts of called cells become a differential."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.differential.counting import count_differential, count_differentials

HEALTHY = {"neutrophil": 120, "lymphocyte": 60, "monocyte": 12, "eosinophil": 6, "basophil": 1, "ig": 1}


def test_percentages_are_of_the_six_leucocyte_classes_only() -> None:
    differential = count_differential(
        {**HEALTHY, "erythroblast": 10, "platelet": 50, UNCLASSIFIED: 30}, min_leucocytes=100
    )
    assert differential.n_leucocytes == 200
    assert [line.cell_class for line in differential.leucocytes] == list(LEUCOCYTE_CLASSES)
    assert [line.share.percentage for line in differential.leucocytes] == [60, 3, 0.5, 30, 6, 0.5]
    assert differential.n_cells == 290
    assert differential.n_platelets == 50
    assert differential.unclassified.value == pytest.approx(30 / 290)
    assert differential.is_sufficient


def test_erythroblasts_are_reported_per_100_leucocytes_with_an_interval() -> None:
    nrbc = count_differential({**HEALTHY, "erythroblast": 10}, min_leucocytes=100).nrbc
    assert nrbc.per_100_wbc == pytest.approx(5)
    assert nrbc.corrected_wbc_factor == pytest.approx(100 / 105)
    # binomtest(10, 210).proportion_ci() = 0.02308, 0.08584, as odds in percent.
    assert nrbc.lower == pytest.approx(2.363, abs=0.002)
    assert nrbc.upper == pytest.approx(9.390, abs=0.002)
    assert nrbc.flag == "high"


def test_slide_without_erythroblasts_still_has_an_upper_end() -> None:
    nrbc = count_differential({"neutrophil": 100}, min_leucocytes=100).nrbc
    assert (nrbc.per_100_wbc, nrbc.lower, nrbc.flag) == (0, 0, None)
    assert nrbc.upper == pytest.approx(3.757, abs=0.002)
    assert nrbc.corrected_wbc_factor == 1


def test_slide_without_cells_has_no_percentage_and_no_flag() -> None:
    differential = count_differential({}, min_leucocytes=100)
    assert (differential.n_cells, differential.n_leucocytes, differential.is_sufficient) == (0, 0, False)
    assert all(line.share.value is None and line.flag is None for line in differential.leucocytes)
    assert differential.nrbc.per_100_wbc is None
    assert differential.nrbc.corrected_wbc_factor is None


def test_erythroblasts_alone_give_no_rate() -> None:
    nrbc = count_differential({"erythroblast": 7}, min_leucocytes=100).nrbc
    assert (nrbc.n_erythroblasts, nrbc.per_100_wbc, nrbc.upper) == (7, None, None)


def test_99_leucocytes_are_insufficient_and_flag_nothing() -> None:
    assert count_differential({"basophil": 100}, min_leucocytes=100).leucocytes[2].flag == "high"
    insufficient = count_differential({"basophil": 99, "erythroblast": 20}, min_leucocytes=100)
    assert not insufficient.is_sufficient
    assert {line.flag for line in insufficient.leucocytes} == {None}
    assert insufficient.nrbc.flag is None
    assert insufficient.leucocytes[2].share.percentage == 100


def test_unclassified_cells_do_not_make_a_count_sufficient() -> None:
    assert not count_differential(
        {"neutrophil": 99, UNCLASSIFIED: 500, "platelet": 500}, min_leucocytes=100
    ).is_sufficient


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: \['blast'\]"):
        count_differential({"blast": 1}, min_leucocytes=100)


counts = st.dictionaries(st.sampled_from((*CELL_CLASSES, UNCLASSIFIED)), st.integers(0, 400))


@given(st.lists(counts, max_size=5))
def test_slides_counted_together_equal_slides_counted_alone(slides: list[dict[str, int]]) -> None:
    together = count_differentials(slides, min_leucocytes=100)
    assert together == tuple(count_differential(slide, min_leucocytes=100) for slide in slides)


@given(counts)
def test_shares_add_up_and_intervals_contain_the_value(slide: dict[str, int]) -> None:
    differential = count_differential(slide, min_leucocytes=100)
    assert sum(line.share.n for line in differential.leucocytes) == differential.n_leucocytes
    for share in (*(line.share for line in differential.leucocytes), differential.unclassified):
        if share.value is not None and share.lower is not None and share.upper is not None:
            assert 0 <= share.lower <= share.value <= share.upper <= 1
