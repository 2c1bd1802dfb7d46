"""Slides of control material: the calls of their cells beside the target of their lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.quality.control_charts import binomial_limits
from bloodcell.quality.quality_check import QualityCheck

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from bloodcell.quality_rules import Control, ControlSlideRules


@dataclass(frozen=True, slots=True)
class ControlCount:
    """How a model called a control slide.

    Attributes:
        barcode: The slide.
        analyser: The analyser; None: unknown, so a failure holds all analysers of the night.
        calls: Called class -> cells.
    """

    barcode: str
    analyser: str | None
    calls: Mapping[str, int]


def judge_control(
    slide: ControlCount, control: Control, rules: ControlSlideRules, *, night: date, model_id: str
) -> QualityCheck:
    """Returns the check of a control slide: each class within its exact binomial limits.

    The probability of a false alarm is divided among the classes that have a target.

    Args:
        slide: What was counted.
        control: Its lot.
        rules: How often a slide on target may fail.
        night: The night.
        model_id: The model that called its cells.
    """
    n_leucocytes = sum(slide.calls.get(name, 0) for name in LEUCOCYTE_CLASSES)
    false_alarm = rules.false_alarm_percent / 100 / len(control.percent)
    outside, figures = [], {}
    for name, target in control.percent.items():
        lower, upper = binomial_limits(
            target / 100, n_leucocytes, false_alarm=false_alarm, allowed=control.allowed_points / 100
        )
        n_cells = slide.calls.get(name, 0)
        figures[name] = {"cells": n_cells, "target": target, "lower": lower, "upper": upper}
        if not lower <= n_cells <= upper:
            outside.append(f"{name} {n_cells} of {n_leucocytes} (target {target:g} %, limits {lower} to {upper})")
    n_unclassified = slide.calls.get(UNCLASSIFIED, 0)
    if n_leucocytes < rules.leucocytes_at_least:
        outside.append(f"{n_leucocytes} leucocytes were called (at least {rules.leucocytes_at_least})")
    if 100 * n_unclassified > rules.unclassified_percent_above * (n_leucocytes + n_unclassified):
        outside.append(f"{n_unclassified} cells are unclassified (at most {rules.unclassified_percent_above:g} %)")
    reason = (
        f"{slide.barcode} ({control.name}) is off target: {'; '.join(outside)}. Next: repeat the control; "
        "look at stain, lamp and focus."
        if outside
        else f"{slide.barcode} ({control.name}) is on target: {n_leucocytes} leucocytes."
    )
    return QualityCheck(
        "control", slide.barcode, night, slide.analyser, not outside, reason, whole_night=slide.analyser is None,
        model_id=model_id, figures={"control": control.name, "n_leucocytes": n_leucocytes, "classes": figures},
    )  # fmt: skip


def missing_controls(
    controls: Sequence[Control],
    found: Sequence[tuple[Control, str | None]],
    *,
    night: date,
    analysers: Collection[str | None],
) -> list[QualityCheck]:
    """Returns whether the night has the control slides that it needs: one check for each that is required.

    Args:
        controls: The lots.
        found: Lot and analyser of each control slide that was counted.
        night: The night.
        analysers: Those with patients' slides: of an analyser that rests, no control is required.
    """
    checks = []
    for control in controls:
        if not control.required:
            continue
        of_lot = [analyser for each, analyser in found if each == control]
        for analyser in control.analysers or (None,):
            if not analysers or (analyser is not None and analyser not in analysers):
                continue
            is_there = bool(of_lot) if analyser is None else analyser in of_lot
            where = "" if analyser is None else f" on analyser {analyser}"
            reason = (
                f"There is a slide of {control.name}{where}."
                if is_there
                else f"No slide of {control.name}{where} has been classified, which the quality file requires. "
                "Next: run the control."
            )
            checks.append(
                QualityCheck("control", control.name, night, analyser, is_there, reason, whole_night=analyser is None)
            )
    return checks
