"""How often a slide with cells of a class that the model never saw is withheld, flagged or named for review.

    python -m benchmarks.acceptance.stand_ins IMAGES --work FOLDER [--slides 200] [--out STAND_INS.md]

IMAGES holds FOLDER/<class>/*.jpg of all eight classes. Each class is left out in turn and stands in for blasts: the
model of the variant inception_v3_svm is fitted without it (benchmarks/accuracy/without_class.py). Slides are drawn from
images that no model was fitted on: a healthy adult's mix of 100 to 200 leucocytes, of which a share are stand-ins.
The healthy part may hold cells of the left-out class, too, such as lymphocytes, as they would not be missing from a
slide with blasts; these are called by a model that knows them. Counts, flags, withholding and review rules are the
product's. Each slide is judged for four ways in which the analyser may code the stand-ins. All other cells have the
code of their true class, so that only stand-ins can disagree.

Features are computed once and kept in FOLDER, as are the calls: on two cores the features of 10,000 images take 9
minutes, eight models 15, and the slides 5. Writes its tables into STAND_INS.md beside this file.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.acceptance.healthy_slides import called, healthy, judged, sure_flags
from benchmarks.acceptance.stand_in_study import (
    CODINGS,
    LEFT_OUT,
    NOVELTIES,
    SHARES,
    VARIANT,
    Cells,
    Drawer,
    Outcome,
    Study,
    outcome,
    slides_of,
)
from benchmarks.accuracy.measuring import Laboratory
from bloodcell.cells.classes import UNCLASSIFIED
from bloodcell.cells.intervals import proportion
from bloodcell.differential.counting import LineCount
from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules
from bloodcell.presentation.markdown import Markdown, markdown_table
from bloodcell.presentation.numbers import NOTHING, percent, percent_with_interval
from bloodcell.presentation.progress import step_bars
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders

OUT: Final = Path(__file__).with_name("STAND_INS.md")
AT_LEAST: Final = 0.95
OTHER_RULES: Final[tuple[tuple[float, float], ...]] = (
    *((8.0, 2.0), (7.0, 2.0), (6.0, 2.0), (5.0, 2.0), (4.0, 2.0)),
    *((8.0, 3.0), (7.0, 3.0), (6.0, 3.0), (5.0, 3.0), (4.0, 3.0)),
)
"""Percentages from which the review rules name a slide: unclassified cells, immature granulocytes. First today's."""
HEALTHY: Final = (((104, 120), 0.033), ((104, 120), 0.018), ((200, 200), 0.018))
"""Leucocytes and share of unclassified cells of simulated healthy slides.

The shipped champion leaves 3.3 % of the cells unclassified if all classes are as frequent, and 1.8 % in a healthy
adult's mix, as measured on the images that it had never seen."""


def with_percentages(rules: LaboratoryRules, unclassified: float, immature: float) -> LaboratoryRules:
    """Returns rules that name a slide from these percentages on."""
    review = rules.review
    changed = {
        "unclassified": review.unclassified.model_copy(update={"percent_at_least": unclassified}),
        "immature_granulocytes": review.immature_granulocytes.model_copy(update={"percent_at_least": immature}),
    }
    return rules.model_copy(update={"review": review.model_copy(update=changed)})


def own_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int]) -> str:
    """Returns a table of our own words and figures, in which nothing has to be escaped."""
    return markdown_table(head, [[Markdown(cell) for cell in row] for row in rows], right=tuple(right))


def share_caught(outcomes: Iterable[Outcome]) -> str:
    caught = [each.is_caught for each in outcomes]
    return percent_with_interval(proportion(sum(caught), len(caught)))


def table_of_calls(drawers: Mapping[str, Sequence[Drawer]]) -> str:
    """Returns what the models call cells of the class that they never saw, by what novelty is measured in."""
    rows = []
    for of_class in zip(*drawers.values(), strict=True):
        first = of_class[0]
        stand_ins = first.of_class[first.left_out]
        n = len(stand_ins)
        row = [first.left_out, str(n)]
        for drawer in of_class:
            reasons = Counter(drawer.without.reasons[place] for place in stand_ins)
            row += [
                percent_with_interval(proportion(n - reasons[None], n)),
                f"{percent(reasons['novel'] / n, 0)}, {percent(reasons['low_confidence'] / n, 0)}",
            ]
        called = Counter(first.without.called[place] for place in stand_ins)
        del called[UNCLASSIFIED]
        others = np.setdiff1d(np.arange(len(first.images)), stand_ins)
        rows.append(
            [
                *row,
                ", ".join(f"{name} {percent(count / n, 0)}" for name, count in called.most_common(3)),
                percent(float(first.without.unclassified[others].mean())),
            ]
        )
    of_novelty = [part for novelty in drawers for part in (f"unclassified, {novelty}", "novel, low confidence")]
    head = ["left out", "cells", *of_novelty, "called, first novelty", "other cells unclassified"]
    return own_table(head, rows, right=(1, 2, 4, 7))


Outcomes = Mapping[tuple[str, float, str], Sequence[Outcome]]
"""Left-out class, share of stand-ins, coding -> outcomes of the slides."""


def outcomes_of(slides: Mapping[tuple[str, float], Sequence[Cells]], rules: LaboratoryRules) -> Outcomes:
    """Returns the outcomes of slides, which are given by left-out class and share, for every coding."""
    return {
        (*key, coding): [outcome(cells, coding, rules) for cells in of_key]
        for key, of_key in slides.items()
        for coding in CODINGS
    }


def table_of_outcomes(found: Outcomes, coding: str) -> str:
    """Returns for one coding and each left-out class the share of slides that a person is told to look at."""
    rows = []
    shares = (0.0, *SHARES)
    for left_out in LEFT_OUT:
        of_class = [found[left_out, share, coding] for share in shares]
        reached = NOTHING
        for share, outcomes in reversed(list(zip(SHARES, of_class[1:], strict=True))):
            if sum(each.is_caught for each in outcomes) < AT_LEAST * len(outcomes):
                break
            reached = percent(share, 0)
        rows.append([left_out, *map(_caught, of_class), reached])
    every = [[each for left_out in LEFT_OUT for each in found[left_out, share, coding]] for share in shares]
    rows.append(["all of them", *map(_caught, every), ""])
    of_shares = [f"{percent(share, 0)} stand-ins" for share in SHARES]
    head = ["left out", "none", *of_shares, f"{percent(AT_LEAST, 0)} from"]
    return own_table(head, rows, right=range(1, len(head)))


def summary(found: Outcomes) -> str:
    """Returns in sentences how far the slides are from the target, if no code of the analyser helps."""
    said = []
    for share in SHARES:
        of_class = {
            left_out: float(np.mean([each.is_caught for each in found[left_out, share, "agrees"]]))
            for left_out in LEFT_OUT
        }
        least = min(of_class, key=lambda name: of_class[name])
        mean = float(np.mean(list(of_class.values())))
        n_enough = sum(found_share >= AT_LEAST for found_share in of_class.values())
        said.append(
            f"With {percent(share, 0)} stand-ins, {percent(mean, 0)} of the slides are found "
            f"({least}: {percent(of_class[least], 0)}), and {n_enough} of {len(LEFT_OUT)} classes reach "
            f"{percent(AT_LEAST, 0)}."
        )
        if n_enough == len(LEFT_OUT):
            break
    return " ".join(said)


def table_of_codings(found: Outcomes) -> str:
    """Returns for each coding the share of slides that a person is told to look at, over all left-out classes."""
    rows = [
        [
            f"{coding}: {meaning}",
            *(_caught([each for left_out in LEFT_OUT for each in found[left_out, share, coding]]) for share in SHARES),
        ]
        for coding, meaning in CODINGS.items()
    ]
    return own_table(["", *(f"{percent(share, 0)} stand-ins" for share in SHARES)], rows, right=range(1, 6))


def _caught(outcomes: Sequence[Outcome]) -> str:
    n_withheld = sum(bool(each.withheld_for) for each in outcomes)
    return f"{share_caught(outcomes)}; {percent(n_withheld / len(outcomes), 0)}"


def table_without_stand_ins(found: Mapping[str, Outcomes]) -> str:
    """Returns how many of the slides without stand-ins are withheld, flagged or named, and for what."""
    rows = []
    for novelty, outcomes in found.items():
        every = [each for left_out in LEFT_OUT for each in outcomes[left_out, 0.0, "agrees"]]
        rows.append([novelty, str(len(every)), _caught(every), _reasons(every)])
    return own_table(["novelty", "slides", "withheld, flagged or named; withheld", "for"], rows, right=(1, 2))


def table_of_reasons(found: Outcomes, coding: str) -> str:
    """Returns for one coding what names the slides, most frequent first."""
    rows = [
        [left_out, percent(share, 0), _reasons(found[left_out, share, coding])]
        for left_out in LEFT_OUT
        for share in SHARES[:3]
    ]
    return own_table(["left out", "stand-ins", "withheld, flagged or named for"], rows, right=(1,))


def _reasons(outcomes: Sequence[Outcome]) -> str:
    why = Counter(
        reason
        for each in outcomes
        for reason in (*(f"withheld: {reason}" for reason in each.withheld_for), *each.named_for)
    )
    return ", ".join(f"{reason} {percent(n / len(outcomes), 0)}" for reason, n in why.most_common(6)) or "nothing"


def table_of_rules(slides: Mapping[str, Mapping[tuple[str, float], Sequence[Cells]]], n_healthy: int) -> str:
    """Returns what other numbers of two review rules would find, and what they would cost."""
    first, second = slides
    measured = {
        "no stand-ins": (first, 0.0, "agrees"),
        "5 %": (first, 0.05, "agrees"),
        "10 %": (first, 0.1, "agrees"),
        f"5 %, {second}": (second, 0.05, "agrees"),
        f"10 %, {second}": (second, 0.1, "agrees"),
        "5 %, a perfect novelty": (first, 0.05, "NC"),
    }
    rows = []
    for unclassified, immature in OTHER_RULES:
        rules = with_percentages(read_rules(None), unclassified, immature)
        row = [f"{unclassified:g} %", f"{immature:g} %"]
        row += [_named_healthy(rules, n_healthy, size, share) for size, share in HEALTHY]
        for novelty, share, coding in measured.values():
            found = [
                np.mean([outcome(cells, coding, rules).is_caught for cells in slides[novelty][left_out, share]])
                for left_out in LEFT_OUT
            ]
            row.append(f"{percent(float(np.mean(found)), 0)} ({percent(float(min(found)), 0)})")
        rows.append(row)
    simulated = [f"healthy, {high} leucocytes, {percent(share)} unclassified" for (_, high), share in HEALTHY]
    simulated[:2] = [name.replace("120", "104 to 120") for name in simulated[:2]]
    head = ["unclassified from", "ig from", *simulated, *measured]
    return own_table(head, rows, right=range(len(head)))


def _named_healthy(rules: LaboratoryRules, n: int, n_leucocytes: tuple[int, int], unclassified: float) -> str:
    """Returns the share of simulated healthy slides that would be named."""
    chance, n_named = np.random.default_rng(20), 0
    for _ in range(n):
        counts = called(healthy(chance, n_leucocytes), chance, unclassified)
        differential, judgement = judged({name: LineCount(count) for name, count in counts.items()}, rules)
        n_named += bool(sure_flags(differential) or judgement.review_for)
    return percent(n_named / n)


def page(study: Study, n_slides: int) -> str:
    """Returns all tables, as Markdown."""
    rules = read_rules(None)
    drawers = {novelty: [study.drawer(left_out, novelty) for left_out in LEFT_OUT] for novelty in NOVELTIES}
    slides = {
        novelty: {
            (drawer.left_out, share): slides_of(drawer, share, n_slides)
            for drawer in of_novelty
            for share in (0.0, *SHARES)
        }
        for novelty, of_novelty in drawers.items()
    }
    found = {novelty: outcomes_of(of_novelty, rules) for novelty, of_novelty in slides.items()}
    first = next(iter(NOVELTIES))
    parts = [
        "# Slides with cells of a class that the model never saw",
        f"Written by `python -m benchmarks.acceptance.stand_ins`, whose docstring describes models and slides, on "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}. Models: {VARIANT}, fitted on {len(study.pool.images):,} "
        f"images less those of the class; slides of {len(study.held_out.images):,} other images, {n_slides} for each "
        f"class and share. Rules: {rules.version}. Intervals: exact 95 %. Images: Acevedo et al. 2020, doi "
        "10.17632/snkd93bnjr.1, CC BY 4.0. They name no patients, so the split is by image and every figure too good.",
        "## What the models call the cells of the class",
        "Novelty is measured in all features of the variant, and in the one layer in which the shipped champion "
        "measures it. The champion's other layers cannot be fitted again in minutes.",
        table_of_calls(drawers),
        "## Withheld, flagged or named for review",
        "In each place: slides that are withheld, have a sure flag or are named by a review rule; after the semicolon "
        "those that are withheld. What is found without stand-ins are false alarms. Last column: the share of "
        f"stand-ins from which on {percent(AT_LEAST, 0)} are found.",
        *(f"**Novelty of {novelty}.** {summary(outcomes)}" for novelty, outcomes in found.items()),
        "Classes, where " + CODINGS["agrees"] + ":",
    ]
    for novelty, outcomes in found.items():
        parts += [f"**Novelty of {novelty}**", table_of_outcomes(outcomes, "agrees")]
    parts += [
        f"All classes together, by what the analyser makes of the stand-ins (novelty of {first}):",
        table_of_codings(found[first]),
        "## Without stand-ins",
        table_without_stand_ins(found),
        "## What finds them",
        f"Coding: agrees; novelty: {first}. A slide may have several reasons; at most six are shown.",
        table_of_reasons(found[first], "agrees"),
        "## Other numbers in the review rules",
        "First the simulated healthy slides of `benchmarks.acceptance.healthy_slides` that would be named or flagged, "
        "by leucocytes and share of unclassified cells; at most 10 % are allowed. Then the slides of real images "
        "(coding: agrees) that would be withheld, flagged or named: the mean over the left-out classes, and in brackets"
        " that of the class that is found least. A perfect novelty leaves every stand-in unclassified, so that none is "
        "found as an immature granulocyte any more.",
        table_of_rules(slides, 1000),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="features and calls are kept here")
    parser.add_argument("--slides", type=int, default=200, help="for each class and share")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    settings = Settings(data_dir=chosen.work / "data")
    bundles = [bundle for bundle in shipped_bundles() if bundle.manifest.variant == VARIANT]
    images = read_image_folders(settings, chosen.images).images
    with step_bars() as tell:
        laboratory = Laboratory(bundles, images, (), settings, chosen.work / "outputs", tell)
        text = page(Study.of(laboratory), chosen.slides)
    chosen.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
