"""What the laboratory's rules make of a count: what is withheld, and which slides are named for review."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules
from bloodcell.results.judging import REVIEW_NAMES, WITHHELD_NAMES, CountedSlide, Judgement, judge

RULES = read_rules(None)
HEALTHY = CountedSlide(
    n_leucocytes=120,
    n_unclassified=3,
    n_blasts=0,
    n_unverified=0,
    n_immature=0,
    nrbc_per_100_wbc=0,
    n_compared=110,
    n_agree=108,
    leucocytes={"neutrophil": 70, "lymphocyte": 40, "monocyte": 8, "eosinophil": 2},
)


def without(name: str) -> LaboratoryRules:
    rule = getattr(RULES.review, name).model_copy(update={"enabled": False})
    return RULES.model_copy(update={"review": RULES.review.model_copy(update={name: rule})})


def test_a_healthy_slide_is_neither_withheld_nor_named() -> None:
    assert judge(HEALTHY, RULES) == Judgement((), ())


@pytest.mark.parametrize(
    ("change", "withheld"),
    [
        ({"n_leucocytes": 49}, ("few_leucocytes",)),
        ({"n_leucocytes": 50}, ()),
        ({"n_unclassified": 13}, ()),  # 13 of 133 are 9.8 %
        ({"n_unclassified": 14}, ("unclassified",)),
        ({"n_leucocytes": 2000, "n_unclassified": 101}, ("unclassified",)),
        ({"n_blasts": 1}, ("blasts",)),
        ({"n_leucocytes": 0, "n_unclassified": 0, "leucocytes": {}}, ("few_leucocytes",)),
        ({"n_leucocytes": 0, "n_unclassified": 70, "leucocytes": {}}, ("few_leucocytes", "unclassified")),
    ],
)
def test_percentages_are_withheld(change: dict[str, object], withheld: tuple[str, ...]) -> None:
    assert judge(replace(HEALTHY, **change), RULES).withheld_for == withheld  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"n_blasts": 1}, "blasts"),
        ({"n_unclassified": 7}, "unclassified"),  # 5.5 %
        ({"n_unverified": 1}, "other_leucocytes"),
        ({"nrbc_per_100_wbc": 1.0}, "nrbc"),
        ({"n_immature": 4}, "immature_granulocytes"),  # 3.3 %
        ({"n_agree": 70}, "analyser_disagreement"),  # 54 to 73 %
    ],
)
def test_each_rule_names_the_slide_unless_it_is_switched_off(change: dict[str, object], rule: str) -> None:
    slide = replace(HEALTHY, **change)  # type: ignore[arg-type]
    assert judge(slide, RULES).review_for == (rule,)
    assert judge(slide, without(rule)).review_for == ()


@pytest.mark.parametrize(
    "change",
    [
        {"n_unclassified": 6},  # 4.8 %
        {"nrbc_per_100_wbc": 0.9},
        {"n_immature": 3},
        {"n_leucocytes": 400, "n_immature": 11},
        {"n_agree": 85},  # 69 to 85 % reaches 80 %
        {"n_compared": 0, "n_agree": 0},
        {"n_leucocytes": 0, "n_unclassified": 0, "nrbc_per_100_wbc": None, "leucocytes": {}},
    ],
)
def test_just_below_its_number_no_rule_names_the_slide(change: dict[str, object]) -> None:
    assert judge(replace(HEALTHY, **change), RULES).review_for == ()  # type: ignore[arg-type]


def test_a_large_change_since_the_last_signed_result_names_the_slide() -> None:
    reversed_mix = replace(HEALTHY, leucocytes={"neutrophil": 30, "lymphocyte": 80, "monocyte": 8, "eosinophil": 2})
    assert judge(reversed_mix, RULES, HEALTHY).review_for == ("delta",)
    assert judge(reversed_mix, without("delta"), HEALTHY).review_for == ()
    assert judge(HEALTHY, RULES, HEALTHY).review_for == ()


def test_a_change_that_chance_explains_does_not() -> None:
    few = replace(HEALTHY, n_leucocytes=12, leucocytes={"neutrophil": 4, "lymphocyte": 7, "monocyte": 1})
    assert "delta" not in judge(few, RULES, HEALTHY).review_for


def test_a_class_that_was_not_there_before_counts_as_a_change() -> None:
    blasts = replace(HEALTHY, leucocytes={"neutrophil": 70, "BL": 50})
    assert judge(blasts, RULES, HEALTHY).review_for == ("delta",)


def test_every_reason_and_rule_has_a_name() -> None:
    assert set(REVIEW_NAMES) == set(type(RULES.review).model_fields)
    assert set(WITHHELD_NAMES) == {"quality_control", "unlike_images", "few_leucocytes", "unclassified", "blasts"}
