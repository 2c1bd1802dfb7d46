"""What is withheld of a slide's result, and which review rules name the slide."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.cells.intervals import proportion, proportions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bloodcell.differential.laboratory_rules import LaboratoryRules

Withheld = Literal["quality_control", "unlike_images", "few_leucocytes", "unclassified", "blasts"]
Review = Literal[
    "blasts",
    "unclassified",
    "other_leucocytes",
    "nrbc",
    "immature_granulocytes",
    "analyser_disagreement",
    "delta",
]

WITHHELD_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "quality_control": "failed quality control",
        "unlike_images": "images unlike those that the model knows",
        "few_leucocytes": "too few leucocytes",
        "unclassified": "too many unclassified cells",
        "blasts": "blasts",
    }
)
REVIEW_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "blasts": "blasts",
        "unclassified": "unclassified cells",
        "other_leucocytes": "unverified other leucocytes",
        "nrbc": "nucleated red cells",
        "immature_granulocytes": "immature granulocytes",
        "analyser_disagreement": "disagrees with the analyser",
        "delta": "changed since the patient's last signed result",
    }
)


@dataclass(frozen=True, slots=True)
class CountedSlide:
    """What judging needs to know of a count.

    Attributes:
        n_leucocytes: The denominator.
        n_unclassified: Cells that may be leucocytes and have no name.
        n_blasts: Cells that are a blast by a label or, without one, by the analyser's code; also contested cells of
            which one person says so.
        n_unverified: Other leucocytes that nobody has labelled.
        n_immature: Immature granulocytes.
        nrbc_per_100_wbc: Erythroblasts per 100 leucocytes; None without leucocytes.
        n_compared: Cells to which the model and the analyser gave a class.
        n_agree: Of these, those with the same class.
        leucocytes: Leucocyte class -> cells.
        is_unlike: Whether its images are unlike those that the model knows.
        is_held: Whether a failed check of the quality control holds it.
    """

    n_leucocytes: int
    n_unclassified: int
    n_blasts: int
    n_unverified: int
    n_immature: int
    nrbc_per_100_wbc: float | None
    n_compared: int
    n_agree: int
    leucocytes: Mapping[str, int]
    is_unlike: bool = False
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Why percentages are withheld, and which review rules name the slide; both in the order of the rules."""

    withheld_for: tuple[Withheld, ...]
    review_for: tuple[Review, ...]


def judge(slide: CountedSlide, rules: LaboratoryRules, before: CountedSlide | None = None) -> Judgement:
    """Returns what the laboratory's rules make of a count.

    Args:
        slide: The count.
        rules: The laboratory's rules.
        before: The patient's last signed result, if there is one within the rule's days.
    """
    withhold, review = rules.withhold, rules.review
    countable = slide.n_leucocytes + slide.n_unclassified
    unclassified = 100 * slide.n_unclassified / countable if countable else 0.0
    immature = 100 * slide.n_immature / slide.n_leucocytes if slide.n_leucocytes else 0.0
    too_unclassified = (
        unclassified > withhold.unclassified_percent_above or slide.n_unclassified > withhold.unclassified_cells_above
    )
    reasons: dict[Withheld, bool] = {
        "quality_control": slide.is_held,
        "unlike_images": slide.is_unlike,
        "few_leucocytes": slide.n_leucocytes < withhold.leucocytes_below,
        "unclassified": too_unclassified,
        "blasts": withhold.blasts and slide.n_blasts > 0,
    }
    named: dict[Review, bool] = {
        "blasts": review.blasts.enabled and slide.n_blasts > 0,
        "unclassified": review.unclassified.enabled and unclassified >= review.unclassified.percent_at_least > 0,
        "other_leucocytes": review.other_leucocytes.enabled
        and slide.n_unverified >= review.other_leucocytes.cells_at_least,
        "nrbc": review.nrbc.enabled and (slide.nrbc_per_100_wbc or 0) >= review.nrbc.per_100_wbc_at_least,
        "immature_granulocytes": review.immature_granulocytes.enabled
        and slide.n_immature >= review.immature_granulocytes.cells_at_least
        and immature >= review.immature_granulocytes.percent_at_least,
        "analyser_disagreement": review.analyser_disagreement.enabled and _disagrees(slide, rules),
        "delta": review.delta.enabled
        and before is not None
        and has_changed(slide, before, review.delta.percentage_points_above),
    }
    return Judgement(
        tuple(reason for reason, holds in reasons.items() if holds),
        tuple(rule for rule, holds in named.items() if holds),
    )


def reason_names(withheld_for: Collection[str], review_for: Iterable[str]) -> dict[str, str]:
    """Returns why a person should look at a result, each reason once: its name in the database -> in words."""
    return {
        **{reason: WITHHELD_NAMES.get(reason, reason) for reason in withheld_for},
        **{rule: REVIEW_NAMES.get(rule, rule) for rule in review_for if rule not in withheld_for},
    }


def flag_names(flags: Mapping[str, str]) -> list[str]:
    """Returns each flagged class with its flag in words.

    Args:
        flags: Class -> low or high.
    """
    return [f"{CLASS_NAMES.get(name, name).lower()} {flag}" for name, flag in sorted(flags.items())]


def has_changed(slide: CountedSlide, before: CountedSlide, percentage_points: float) -> bool:
    """Returns whether a leucocyte class differs by more than this, with 95 % intervals that do not overlap."""
    classes = sorted(slide.leucocytes.keys() | before.leucocytes.keys())
    now = proportions([slide.leucocytes.get(name, 0) for name in classes], [slide.n_leucocytes] * len(classes))
    then = proportions([before.leucocytes.get(name, 0) for name in classes], [before.n_leucocytes] * len(classes))
    for one, other in zip(now, then, strict=True):
        if one.percentage is None or other.percentage is None:
            continue
        (low, high), (low_before, high_before) = one.percentage_interval or (0, 0), other.percentage_interval or (0, 0)
        if abs(one.percentage - other.percentage) > percentage_points and (low > high_before or high < low_before):
            return True
    return False


def _disagrees(slide: CountedSlide, rules: LaboratoryRules) -> bool:
    interval = proportion(slide.n_agree, slide.n_compared).percentage_interval
    return interval is not None and interval[1] < rules.review.analyser_disagreement.agreement_percent_below
