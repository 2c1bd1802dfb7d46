"""Figures as text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell.presentation import numbers

FRACTIONS = st.floats(min_value=0, max_value=1)


@dataclass(frozen=True, slots=True)
class Found:
    value: float | None
    lower: float | None
    upper: float | None


NOTHING = Found(None, None, None)


def test_percentages_have_a_space_and_intervals_an_en_dash() -> None:
    assert numbers.percent(0.92) == "92.0 %"
    assert numbers.percent(0.012345, 2) == "1.23 %"
    assert numbers.percent_with_interval(Found(0.92, 0.848, 0.965)) == "92.0 % (84.8–96.5)"
    assert numbers.number(99.95) == "100.0"
    assert numbers.interval((84.81, 96.46)) == "84.8–96.5"
    assert numbers.number_with_interval(Found(0.921, 0.85, 0.9614)) == "0.921 (0.850–0.961)"


def test_a_minus_sign_cannot_be_confused_with_the_dash_of_an_interval() -> None:
    assert numbers.interval((-0.0012, 0.13), 3) == "−0.001 to 0.130"
    assert numbers.interval((-0.0001, 0.13), 3) == "0.000–0.130"
    assert numbers.points_with_interval(Found(0.012, -0.003, 0.028)) == "+1.2 (−0.3 to +2.8)"


def test_differences_have_a_sign_unless_they_are_zero() -> None:
    assert [numbers.points(each) for each in (0.012, -0.003, 0.0, -0.0001)] == ["+1.2", "−0.3", "0.0", "0.0"]


def test_a_missing_figure_is_a_dash() -> None:
    assert {
        numbers.number(None),
        numbers.percent(None),
        numbers.points(None),
        numbers.percent_with_interval(NOTHING),
        numbers.percent_with_interval(None),
        numbers.number_with_interval(NOTHING),
        numbers.number_with_interval(None),
        numbers.points_with_interval(NOTHING),
        numbers.points_with_interval(None),
    } == {"–"}
    assert numbers.interval(None) == ""
    assert numbers.moment(None) == ""


@pytest.mark.parametrize(
    ("confidence", "shown"), [(0.0, "0 %"), (0.871, "87 %"), (0.99, "99 %"), (0.9901, "> 99 %"), (1.0, "> 99 %")]
)
def test_no_model_is_shown_as_certain(confidence: float, shown: str) -> None:
    assert numbers.probability(confidence) == shown


@settings(deadline=None)
@given(FRACTIONS)
def test_a_percentage_is_the_fraction_to_half_of_the_last_digit(fraction: float) -> None:
    shown = float(numbers.percent(fraction).removesuffix(" %"))
    assert abs(shown - 100 * fraction) <= 0.05 + 1e-9
    assert shown == float(numbers.number(100 * fraction))


def test_small_p_values_keep_their_digits() -> None:
    shown = ["p < 0.0001", "p = 0.0001", "p = 0.0312", "p = 0.42"]
    assert [numbers.p_value(p) for p in (0.00001, 0.0001, 0.0312, 0.42)] == shown


def test_counts_agree_with_their_noun() -> None:
    assert [numbers.counted(n, "slide") for n in (0, 1, 1_200)] == ["0 slides", "1 slide", "1,200 slides"]
    assert numbers.count(1_234_567) == "1,234,567"


def test_a_moment_is_to_the_minute() -> None:
    assert numbers.moment(datetime(2026, 11, 24, 12, 5, 59, tzinfo=UTC)) == "2026-11-24 12:05 UTC"
    assert numbers.moment(datetime(2026, 11, 24, 12, 5, 59)) == "2026-11-24 12:05"  # noqa: DTZ001
