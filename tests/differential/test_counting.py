"""Counts of called cells become a differential."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.differential.counting import (
    LINES,
    Differential,
    LineCount,
    SlideCounts,
    SlideFacts,
    count_differential,
    count_differentials,
)
from bloodcell.differential.laboratory_rules import ReferenceRange, read_rules
from tests.laboratory import slide_counts

RULES = read_rules(None)

HEALTHY = {"neutrophil": 120, "lymphocyte": 60, "monocyte": 12, "eosinophil": 6, "basophil": 1, "ig": 1}


def count(cells: dict[str, int], facts: SlideFacts | None = None) -> Differential:
    return count_differential(slide_counts(cells, facts), RULES)


def test_percentages_are_of_the_six_leucocyte_classes_only() -> None:
    differential = count({**HEALTHY, "erythroblast": 10, "platelet": 50, UNCLASSIFIED: 30})
    assert differential.n_leucocytes == 200
    assert [line.cell_class for line in differential.leucocytes] == list(LEUCOCYTE_CLASSES)
    assert [line.share.percentage for line in differential.leucocytes] == [60, 3, 0.5, 30, 6, 0.5]
    assert differential.n_cells == 290
    assert differential.n_platelets == 50
    assert differential.unclassified.value == pytest.approx(30 / 230)
    assert differential.is_sufficient


def test_erythroblasts_are_reported_per_100_leucocytes_with_an_interval() -> None:
    nrbc = count({**HEALTHY, "erythroblast": 10}).nrbc
    assert nrbc.per_100_wbc == pytest.approx(5)
    assert nrbc.corrected_wbc_factor == pytest.approx(100 / 105)
    # binomtest(10, 210).proportion_ci() = 0.02308, 0.08584, as odds in percent.
    assert nrbc.lower == pytest.approx(2.363, abs=0.002)
    assert nrbc.upper == pytest.approx(9.390, abs=0.002)


def test_slide_without_erythroblasts_still_has_an_upper_end() -> None:
    nrbc = count({"neutrophil": 100}).nrbc
    assert (nrbc.per_100_wbc, nrbc.lower, nrbc.flag) == (0, 0, None)
    assert nrbc.upper == pytest.approx(3.757, abs=0.002)
    assert nrbc.corrected_wbc_factor == 1


def test_slide_without_cells_has_no_percentage_and_no_flag() -> None:
    differential = count({})
    assert (differential.n_cells, differential.n_leucocytes, differential.is_sufficient) == (0, 0, False)
    assert all(line.share.value is None and line.flag is None for line in differential.leucocytes)
    assert differential.nrbc.per_100_wbc is None
    assert differential.nrbc.corrected_wbc_factor is None


def test_erythroblasts_alone_give_no_rate() -> None:
    nrbc = count({"erythroblast": 7}).nrbc
    assert (nrbc.n_erythroblasts, nrbc.per_100_wbc, nrbc.upper) == (7, None, None)


def test_99_leucocytes_are_insufficient_and_flagged_nevertheless() -> None:
    insufficient = count({"basophil": 99, "erythroblast": 20})
    assert not insufficient.is_sufficient
    assert insufficient.leucocytes[2].flag == "high"


def test_other_leucocytes_are_part_of_the_denominator_and_have_their_own_lines() -> None:
    differential = count({**HEALTHY, "BL": 40, "VLY": 10, "SMU": 7, "ART": 2})
    assert differential.n_leucocytes == 250
    assert [(line.cell_class, line.share.n) for line in differential.other_leucocytes] == [("BL", 40), ("VLY", 10)]
    assert differential.other_leucocytes[0].share.percentage == 16
    assert differential.leucocytes[0].share.percentage == 48
    assert differential.not_leucocytes == (("SMU", 7), ("ART", 2))
    assert differential.n_cells == 259


def test_worst_case_bounds_give_every_unclassified_cell_to_a_class_or_none() -> None:
    differential = count({"neutrophil": 60, "lymphocyte": 40, UNCLASSIFIED: 15, "contested": 4, "NC": 5, "OTH": 1})
    assert differential.unclassified.n == 25
    assert differential.undecided == (("NC", 5), ("OTH", 1))
    assert differential.leucocytes[0].percentage_bounds == (48, 68)
    assert differential.leucocytes[5].percentage_bounds == (0, 20)
    assert count({}).leucocytes[0].bounds is None


def test_absolute_counts_follow_from_the_leucocyte_count() -> None:
    differential = count(HEALTHY, SlideFacts(wbc_10e9_per_l=7.2))
    assert differential.leucocytes[0].absolute is not None
    value, lower, upper = differential.leucocytes[0].absolute
    assert value == pytest.approx(4.32)
    assert lower < value < upper
    assert count(HEALTHY).leucocytes[0].absolute is None


@pytest.mark.parametrize(
    ("erythroblasts", "is_corrected", "used"),
    [(9, False, 10.5), (10, False, 10.0), (10, True, 10.5), (0, False, 10.5), (10, None, 10.5)],
)
def test_the_leucocyte_count_is_corrected_from_five_erythroblasts_per_100_and_never_twice(
    erythroblasts: int, is_corrected: bool | None, used: float
) -> None:
    facts = SlideFacts(wbc_10e9_per_l=10.5, wbc_is_corrected=is_corrected)
    differential = count({**HEALTHY, "erythroblast": erythroblasts}, facts)
    assert differential.wbc_10e9_per_l == pytest.approx(used)
    assert differential.wbc_was_corrected == (used != 10.5)


@pytest.mark.parametrize(
    ("facts", "neutrophils", "flag"),
    [
        (SlideFacts(), 20, "low"),  # the age is unknown: adult, 40 to 75
        (SlideFacts(age_months=480), 20, "low"),
        (SlideFacts(age_months=12), 20, "possibly_low"),  # 21 to 67
        (SlideFacts(age_months=0), 20, "possibly_low"),  # 24 to 58
        (SlideFacts(age_months=60), 20, "low"),  # 30 to 77
        (SlideFacts(age_months=12), 65, None),
        (SlideFacts(age_months=0), 75, "high"),
    ],
)
def test_flags_are_by_the_ranges_of_the_age(facts: SlideFacts, neutrophils: int, flag: str | None) -> None:
    differential = count({"neutrophil": neutrophils, "lymphocyte": 100 - neutrophils}, facts)
    assert differential.leucocytes[0].flag == flag


def test_erythroblasts_are_flagged_only_by_a_range_of_the_laboratory() -> None:
    assert count({"neutrophil": 100, "erythroblast": 4}).nrbc.flag is None
    none_expected = ReferenceRange.model_validate(
        {"class": "erythroblast", "age_months_from": 1, "low": 0.0, "high": 0.0, "source": "ours"}
    )
    rules = RULES.model_copy(update={"ranges": (*RULES.ranges, none_expected)})
    flags = [
        count_differential(
            slide_counts({"neutrophil": 100, "erythroblast": 4}, SlideFacts(age_months=age)), rules
        ).nrbc.flag
        for age in (0, 1, None)
    ]
    assert flags == [None, "high", "high"]


def test_a_line_says_how_many_cells_people_and_the_analyser_decided() -> None:
    counts = SlideCounts({"BL": LineCount(5, 2, 3), "neutrophil": LineCount(100, 4)})
    differential = count_differential(counts, RULES)
    blasts = differential.other_leucocytes[0]
    assert (blasts.n_labelled, blasts.n_unverified, differential.n_unverified) == (2, 3, 3)
    assert differential.leucocytes[0].n_labelled == 4


def test_flags_stay_as_they_were_written() -> None:
    written = count({"basophil": 99}).as_written(
        {**dict.fromkeys(LEUCOCYTE_CLASSES), "erythroblast": "high"}, is_sufficient=True
    )
    assert written.is_sufficient
    assert {line.flag for line in written.leucocytes} == {None}
    assert written.nrbc.flag == "high"


def test_unclassified_cells_do_not_make_a_count_sufficient() -> None:
    assert not count({"neutrophil": 99, UNCLASSIFIED: 500, "platelet": 500}).is_sufficient


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: \['blast'\]"):
        count({"blast": 1})


counts = st.dictionaries(st.sampled_from(LINES), st.integers(0, 400))


@given(st.lists(counts, max_size=5))
def test_slides_counted_together_equal_slides_counted_alone(slides: list[dict[str, int]]) -> None:
    together = count_differentials([slide_counts(slide) for slide in slides], RULES)
    assert together == tuple(count(slide) for slide in slides)


@given(counts)
def test_shares_add_up_and_intervals_contain_the_value(slide: dict[str, int]) -> None:
    differential = count(slide)
    lines = (*differential.leucocytes, *differential.other_leucocytes)
    assert sum(line.share.n for line in lines) == differential.n_leucocytes
    assert differential.n_cells == sum(slide.values())
    for line in lines:
        if line.share.value is not None and line.bounds is not None:
            assert line.bounds[0] <= line.share.value <= line.bounds[1]
    for share in (*(line.share for line in lines), differential.unclassified):
        if share.value is not None and share.lower is not None and share.upper is not None:
            assert 0 <= share.lower <= share.value <= share.upper <= 1
