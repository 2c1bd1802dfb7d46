"""Moving figures of an analyser: colour and sharpness of a night's images, and what its cells are called.

Each night is compared with the analyser's first nights (the baseline), so that a drift that is slow enough to be taken
for normal from one night to the next is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.quality.control_charts import RULE_TEXTS, Level, broken_rules, share_chart
from bloodcell.quality.quality_check import QualityCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from numpy.typing import NDArray

    from bloodcell.quality_rules import FigureRules

NOVEL: Final = "novel"
SHARES: Final[tuple[str, ...]] = (*LEUCOCYTE_CLASSES, UNCLASSIFIED, NOVEL)
"""Shares of a slide's cells that are followed: of the leucocytes each class, and cells without a call."""

LEVELS: Final[Mapping[str, float]] = {
    "brightness": 1.0,
    "background_tint": 1.0,
    "red_cell_stain": 1.0,
    "sharpness": 0.03,
}
"""Figures of the images -> the spread of nights below which a difference means nothing (levels of 0..255; logarithm).

Half of what a photograph taken again differs by (`appearance.look_reference`), since a night is a median of slides.
"""

FIGURE_NAMES: Final[Mapping[str, str]] = {
    "brightness": "brightness of the empty field",
    "background_tint": "tint of the empty field (red minus blue)",
    "red_cell_stain": "stain of the red cells (red minus green)",
    "sharpness": "sharpness",
    UNCLASSIFIED: "cells without a call",
    NOVEL: "cells unlike the training cells",
}
_DECIMALS: Final = 4


@dataclass(slots=True)
class NightFigures:
    """Figures of the slides of a night and analyser.

    Attributes:
        shares: Name of `SHARES` -> share of each slide that has one, in 0..1.
        levels: Name of `LEVELS` -> value of each slide that has one.
    """

    shares: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SHARES})
    levels: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LEVELS})

    def add_calls(self, calls: Mapping[str, int], n_novel: int, leucocytes_at_least: int) -> None:
        """Adds a slide by what its cells were called.

        Args:
            calls: Called class, or unclassified -> cells.
            n_novel: Cells of the slide unlike the training cells.
            leucocytes_at_least: Leucocytes without which a slide has no shares of classes.
        """
        n_leucocytes = sum(calls.get(name, 0) for name in LEUCOCYTE_CLASSES)
        n_unclassified, n_cells = calls.get(UNCLASSIFIED, 0), sum(calls.values())
        if n_leucocytes >= leucocytes_at_least:
            for name in LEUCOCYTE_CLASSES:
                self.shares[name].append(calls.get(name, 0) / n_leucocytes)
        if n_leucocytes + n_unclassified >= leucocytes_at_least:
            self.shares[UNCLASSIFIED].append(n_unclassified / (n_leucocytes + n_unclassified))
            self.shares[NOVEL].append(n_novel / n_cells)

    def add_look(self, look: Mapping[str, float | None]) -> None:
        """Adds a slide by how its images look.

        Args:
            look: Name of `appearance.image_look.LOOK` -> the median of the slide's images.
        """
        field_of = {colour: look.get(f"{colour} of the empty field") for colour in ("red", "green", "blue")}
        cells_of = {colour: look.get(f"{colour} of the red cells") for colour in ("red", "green")}
        red, green, blue, sharpness = *field_of.values(), look.get("sharpness")
        if red is not None and green is not None and blue is not None:
            self.levels["brightness"].append((red + green + blue) / 3)
            self.levels["background_tint"].append(red - blue)
        if cells_of["red"] is not None and cells_of["green"] is not None:
            self.levels["red_cell_stain"].append(cells_of["red"] - cells_of["green"])
        if sharpness is not None:
            self.levels["sharpness"].append(sharpness)


@dataclass(frozen=True, slots=True)
class EarlierNight:
    """What a figure was in an earlier night.

    Attributes:
        night: The night.
        passed: Whether it passed.
        figures: What the check of then recorded.
    """

    night: date
    passed: bool
    figures: Mapping[str, Any]


def judge_figures(
    found: NightFigures,
    earlier: Mapping[str, Sequence[EarlierNight]],
    rules: FigureRules,
    *,
    night: date,
    analyser: str | None,
    model_id: str | None,
) -> list[QualityCheck]:
    """Returns the checks of a night and analyser, one for each figure.

    Args:
        found: The figures of its slides.
        earlier: Figure -> the nights before, the oldest first.
        rules: How they are judged.
        night: The night.
        analyser: The analyser; None: the one without a name.
        model_id: The model whose calls were counted; None: no calls.
    """
    checks = []
    for name, levels in found.levels.items():
        checks.append(_judged_level(name, levels, earlier.get(name, ()), rules, night, analyser))
    if model_id is not None:
        for name, shares in found.shares.items():
            checks.append(_judged_share(name, shares, earlier.get(name, ()), rules, night, analyser, model_id))
    return checks


def _baseline(earlier: Sequence[EarlierNight], rules: FigureRules) -> tuple[list[EarlierNight], list[EarlierNight]]:
    """Returns the nights of the baseline, and those after it; nights with too few slides belong to neither."""
    nights = [each for each in earlier if each.figures.get("n_slides", 0) >= rules.slides_at_least]
    baseline = [each for each in nights if each.passed][: rules.baseline_nights]
    if len(baseline) < rules.baseline_nights:
        return baseline, []
    return baseline, [each for each in nights if each.night > baseline[-1].night]


def _not_judged(n_slides: int, n_nights: int, rules: FigureRules) -> str | None:
    if n_slides < rules.slides_at_least:
        return f"Not judged: {n_slides} slides have the figure, {rules.slides_at_least} are needed."
    if n_nights < rules.baseline_nights:
        return f"Not judged: night {n_nights + 1} of the baseline, which has {rules.baseline_nights}."
    return None


def _judged_level(
    name: str, slides: Sequence[float], earlier: Sequence[EarlierNight], rules: FigureRules, night: date,
    analyser: str | None,
) -> QualityCheck:  # fmt: skip
    baseline, since = _baseline(earlier, rules)
    value = round(float(np.median(slides)), _DECIMALS) if slides else None
    figures: dict[str, Any] = {"n_slides": len(slides), "value": value}
    reason = _not_judged(len(slides), len(baseline), rules)
    if reason is not None or value is None:
        return QualityCheck(
            "figure", name, night, analyser, True, reason or "", judged=False, value=value, figures=figures,
            whole_night=analyser is None,
        )  # fmt: skip
    level = Level.of([each.figures["value"] for each in baseline], LEVELS[name])
    scores = [level.score(each.figures["value"]) for each in since] + [level.score(value)]
    broken = broken_rules(scores)
    held = [rule for rule in broken if rule in rules.hold_for]
    warned = [rule for rule in broken if rule in rules.warn_for]
    lower, upper = level.limits()
    figures |= {"score": round(scores[-1], 3), "warned": warned}
    measured = (
        f"The {FIGURE_NAMES[name]} is {value:.4g}, {level.mean:.4g} is expected (limits {lower:.4g} to {upper:.4g})"
    )
    causes = "; ".join(RULE_TEXTS[rule] for rule in (held or warned))
    reason = f"{measured}{': ' + causes if causes else ''}."
    if held:
        reason += " Next: look at stain, lamp and focus; override, or start a new baseline if the change is intended."
    return QualityCheck(
        "figure", name, night, analyser, not held, reason, value=value, center=level.mean, lower=lower, upper=upper,
        figures=figures, whole_night=analyser is None,
    )  # fmt: skip


def _judged_share(
    name: str, slides: Sequence[float], earlier: Sequence[EarlierNight], rules: FigureRules, night: date,
    analyser: str | None, model_id: str,
) -> QualityCheck:  # fmt: skip
    baseline, _ = _baseline(earlier, rules)
    rounded = [round(share, _DECIMALS) for share in slides]
    figures: dict[str, Any] = {"n_slides": len(slides), "slides": rounded}
    reason = _not_judged(len(slides), len(baseline), rules)
    if reason is not None:
        return QualityCheck(
            "figure", name, night, analyser, True, reason, judged=False, model_id=model_id, figures=figures,
            whole_night=analyser is None,
        )  # fmt: skip
    chart = share_chart(
        np.asarray(rounded, np.float64),
        _pooled(baseline),
        false_alarm=rules.share_false_alarm_percent / 100,
        least_shift=rules.share_shift_points_above / 100,
    )
    reason = (
        f"{FIGURE_NAMES.get(name, name).capitalize()}: {chart.n_above} of {chart.n_slides} slides have more than "
        f"{100 * chart.median:.1f} %, the median of the baseline (limits {chart.lower} to {chart.upper})."
    )
    if not chart.is_within:
        reason += " Next: look at slides of the night; override, or start a new baseline if the change is intended."
    in_percent = [100 * each for each in (chart.share, chart.expected)]
    return QualityCheck(
        "figure", name, night, analyser, chart.is_within, reason, model_id=model_id,
        value=in_percent[0], center=in_percent[1], lower=100 * chart.lower / chart.n_slides,
        upper=100 * chart.upper / chart.n_slides, figures=figures, whole_night=analyser is None,
    )  # fmt: skip


def _pooled(baseline: Sequence[EarlierNight]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(each.figures["slides"], np.float64) for each in baseline])
