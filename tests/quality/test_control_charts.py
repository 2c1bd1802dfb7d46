"""Limits and rules of control charts, compared with tables that were worked by hand."""

from __future__ import annotations

from math import comb, isclose

import numpy as np
import pytest
import westgard

from bloodcell.quality.control_charts import Level, binomial_limits, broken_rules, share_chart

# each row: nights in standard deviations, the newest last, and the rules that the newest breaks, worked by hand
WORKED = [
    ([0.0], ()),
    ([2.99], ()),
    ([3.01], ("1_3s",)),
    ([-3.01], ("1_3s",)),
    ([2.1, 1.9], ()),
    ([2.1, -2.1], ()),
    ([2.1, 2.1], ("2_2s",)),
    ([-2.1, -2.1], ("2_2s",)),
    ([2.1, 0.0, 2.1], ()),
    ([1.1, 1.1, 1.1], ()),
    ([1.1, 1.1, 1.1, 1.1], ("4_1s",)),
    ([1.1, 1.1, 0.9, 1.1], ()),
    ([-1.1, -1.1, -1.1, -1.1], ("4_1s",)),
    ([2.5, 1.5, 2.5, 3.5], ("1_3s", "2_2s", "4_1s")),
    ([0.1] * 9, ()),
    ([0.1] * 10, ("10_x",)),
    ([-0.1] * 10, ("10_x",)),
    ([0.1] * 5 + [-0.1] + [0.1] * 9, ()),
    ([1.1] * 10, ("4_1s", "10_x")),
]


@pytest.mark.parametrize(("scores", "expected"), WORKED)
def test_westgards_rules_are_those_of_the_table(scores: list[float], expected: tuple[str, ...]) -> None:
    assert broken_rules(scores) == expected


def test_the_limits_of_a_level_allow_for_the_short_baseline() -> None:
    nights = [200.0, 202.0] * 10
    level = Level.of(nights, least_spread=0.1)
    spread = float(np.std(nights, ddof=1))
    # Student's t with 19 degrees of freedom has 0.135 % above 3.4466 (table), where the normal distribution has it at 3
    margin = 3.4466 * spread * (1 + 1 / 20) ** 0.5
    lower, upper = level.limits()
    assert isclose(upper, 201 + margin, rel_tol=1e-4)
    assert isclose(lower, 201 - margin, rel_tol=1e-4)
    assert isclose(level.score(upper), 3, abs_tol=1e-6)
    assert isclose(level.score(lower), -3, abs_tol=1e-6)
    assert level.score(201) == 0
    assert level.score(1e6) > 3


def test_a_level_that_hardly_varies_has_the_smallest_sensible_spread() -> None:
    level = Level.of([200.0] * 20, least_spread=1.0)
    assert level.score(200.5) < 1
    assert level.score(210) > 3


def exact_tails(n: int, share: float, lower: int, upper: int) -> tuple[float, float]:
    """Returns the probabilities of fewer than `lower`, and of more than `upper`."""
    each = [comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    return sum(each[:lower]), sum(each[upper + 1 :])


@pytest.mark.parametrize(("expected", "n"), [(0.58, 100), (0.01, 200), (0.0, 100), (1.0, 50), (0.31, 1)])
def test_the_binomial_limits_are_exact_and_as_narrow_as_they_can_be(expected: float, n: int) -> None:
    lower, upper = binomial_limits(expected, n, false_alarm=0.002)
    below, above = exact_tails(n, expected, lower, upper)
    assert below <= 0.001
    assert above <= 0.001
    if lower > 0 and expected < 1:
        assert exact_tails(n, expected, lower + 1, upper)[0] > 0.001
    if upper < n and expected > 0:
        assert exact_tails(n, expected, lower, upper - 1)[1] > 0.001


def test_an_allowance_of_the_target_widens_the_limits() -> None:
    assert (
        binomial_limits(0.5, 100, false_alarm=0.002, allowed=0.1)[1] > binomial_limits(0.5, 100, false_alarm=0.002)[1]
    )


def chart(night: list[float], baseline: list[float], least_shift: float = 0.2) -> bool:
    point = share_chart(np.array(night), np.array(baseline), false_alarm=0.0002, least_shift=least_shift)
    return point.is_within


def test_a_night_whose_slides_shift_together_is_outside_and_a_ward_of_leukaemias_is_not() -> None:
    rng = np.random.default_rng(1)
    baseline = list(rng.normal(0.6, 0.05, 400))
    quiet = list(rng.normal(0.6, 0.05, 40))
    assert chart(quiet, baseline)
    assert chart([*quiet[:34], *[0.02] * 6], baseline)  # six slides of forty with hardly a neutrophil
    assert not chart(list(rng.normal(0.68, 0.05, 40)), baseline)


def test_with_hundreds_of_slides_a_small_difference_is_within() -> None:
    rng = np.random.default_rng(2)
    baseline = list(rng.normal(0.6, 0.05, 2000))
    assert chart(list(rng.normal(0.61, 0.05, 900)), baseline)
    assert not chart(list(rng.normal(0.61, 0.05, 900)), baseline, least_shift=0.01)


def test_a_class_that_most_slides_lack_is_followed_by_the_slides_that_have_it() -> None:
    baseline = [0.0] * 120 + [0.02] * 80
    assert chart([0.0] * 24 + [0.02] * 16, baseline)
    assert not chart([0.0] * 40, baseline)
    assert not chart([0.02] * 40, baseline)


@pytest.mark.parametrize("seed", range(40))
def test_westgards_rules_are_those_of_another_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = list(np.cumsum(rng.normal(0, 0.6, 14)) + rng.normal(0, 1.2, 14))
    observations = tuple(
        westgard.observation_from_value(
            analyte="brightness", material="night", run_id=f"n{number}", sequence=number, value=score, mean=0.0,
            standard_deviation=1.0,
        )
        for number, score in enumerate(scores)
    )  # fmt: skip
    rules = {"1_3s": 1, "2_2s": 2, "4_1s": 4, "10_x": 10}
    scopes = westgard.EvaluationScope
    broken = {
        name
        for name, n in rules.items()
        if westgard.evaluate_rule(
            westgard.RuleName(name), observations[-n:], stream_name="s",
            scope=scopes.WITHIN_RUN if n == 1 else scopes.WITHIN_MATERIAL,
        ).violated
    }  # fmt: skip
    assert set(broken_rules(scores)) == broken
