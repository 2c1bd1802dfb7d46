"""What the quality control finds, on which night, and how often it raises a false alarm; writes QUALITY_CONTROL.md.

    python -m benchmarks.acceptance.quality_control WORK PBC

WORK is a folder (what was computed there is used again); PBC has images in one sub-folder per class. Nights are made of
real images, called by a model that comes with bloodcell: quiet ones, nights whose stain, lamp or focus drifts,
control slides off target, and a worker whose weights are kept in another precision. The code that judges them is that
of production. Exit status 1 if a drift, a wrong control or another precision was not found, or if quiet nights raise
more than one alarm a month.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bloodcell.appearance.image_look import LOOK, look_of
from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_output import ModelOutput, calls_of, joined
from bloodcell.presentation.markdown import markdown_table
from bloodcell.presentation.numbers import percent
from bloodcell.quality.control_slides import ControlCount, judge_control
from bloodcell.quality.moving_figures import FIGURE_NAMES, EarlierNight, NightFigures, judge_figures
from bloodcell.quality.quality_check import QualityCheck
from bloodcell.quality_rules import Control, QualityRules, read_quality_rules
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.shipped import FOLDER
from bloodcell.storage.decoding import resized

OUT: Final = Path(__file__).parent / "QUALITY_CONTROL.md"
VARIANT: Final = "inception_v3_svm"
N_POOL: Final = 1_200
N_DRIFTED: Final = 40
CALLED_STEPS: Final = (6, 13, 20)
STEPS: Final = 20
SLIDES: Final = 20
CELLS: Final = 110
LOOKED_AT: Final = 24
QUIET_NIGHTS: Final = 500
QUIET_PARTS: Final = 5
FIRST: Final = date(2026, 1, 1)
MIX: Final = {"neutrophil": 0.58, "lymphocyte": 0.30, "monocyte": 0.07, "eosinophil": 0.03, "basophil": 0.006,
              "ig": 0.004, "erythroblast": 0.002, "platelet": 0.008}  # fmt: skip
"""Of the cells of a healthy slide."""
PRECISIONS: Final = (("16 bits", 7), ("10 bits, as TF32", 13), ("7 bits, as bfloat16", 16))
"""Bits that are left of the fraction of each weight, which has 23, and those that are not."""
LAMP_LEVELS: Final = 1.5
"""Standard deviation from night to night of what lamp and stain do to a quiet night's images, in levels."""


@dataclass(frozen=True)
class Pool:
    """Real images as the model calls them.

    Attributes:
        classes: Class of each image, int (n,).
        called: Called class, or unclassified, of each image.
        novel: bool (n,).
        looks: float64 (n, 9).
    """

    classes: NDArray[np.int64]
    called: NDArray[np.str_]
    novel: NDArray[np.bool_]
    looks: NDArray[np.float64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("pbc", type=Path)
    arguments = parser.parse_args()
    work, rules = arguments.work.resolve(), read_quality_rules(None)
    work.mkdir(parents=True, exist_ok=True)
    bundle = open_bundle(FOLDER / VARIANT)
    network = MergedNetwork([bundle])
    files = _files(arguments.pbc)
    pool = _kept(work / "pool.npz", lambda: _pool(files, bundle, network, lambda pixels: pixels))
    page = ["# What the quality control finds"]
    page.append(
        f"Written by `python -m benchmarks.acceptance.quality_control`. Slides of {CELLS} real images, called by "
        f"{VARIANT} ({bundle.model_id[:12]}), {SLIDES} slides a night of one analyser, bloodcell's own rules."
    )
    is_good = [
        _sentinels(page, bundle, network, files, rules),
        _controls(page, pool, rules),
        _drifts(page, work, files, bundle, network, pool, rules),
        _quiet(page, pool, rules),
    ]
    OUT.write_text("\n\n".join(page) + "\n")
    return 0 if all(is_good) else 1


def _files(pbc: Path) -> list[tuple[int, Path]]:
    """Returns class number and file, as many of each class."""
    found = []
    for number, name in enumerate(CELL_CLASSES):
        paths = sorted((pbc / name).rglob("*.jpg"))
        chosen = np.random.default_rng(number).permutation(len(paths))[: N_POOL // len(CELL_CLASSES)]
        found += [(number, paths[index]) for index in chosen]
    return found


def _kept(path: Path, make: Callable[[], Pool]) -> Pool:
    if not path.exists():
        pool = make()
        np.savez(path, classes=pool.classes, called=pool.called, novel=pool.novel, looks=pool.looks)
    with np.load(path) as stored:
        return Pool(stored["classes"], stored["called"], stored["novel"], stored["looks"])


def _pool(
    files: Sequence[tuple[int, Path]],
    bundle: Bundle,
    network: MergedNetwork,
    changed: Callable[[Image.Image], Image.Image],
) -> Pool:
    outputs, looks = [], []
    for batch in _batches(files):
        images = [changed(Image.open(path).convert("RGB")) for _, path in batch]
        outputs.append(_output(images, bundle, network))
        looks += [look_of(np.asarray(image)) for image in images]
        print(f"{len(looks):,} of {len(files):,} images", end="\r", file=sys.stderr)
    calls = calls_of(bundle, joined(outputs))
    return Pool(
        np.array([number for number, _ in files]),
        np.array(calls.called),
        np.array([reason == "novel" for reason in calls.reasons]),
        np.stack(looks),
    )


def _output(images: Sequence[Image.Image], bundle: Bundle, network: MergedNetwork) -> ModelOutput:
    pixels = np.stack([np.asarray(resized(image, *bundle.input_size)) for image in images])
    return network({bundle.input_size: pixels})[bundle.model_id]


def _batches(files: Sequence[tuple[int, Path]]) -> Iterator[Sequence[tuple[int, Path]]]:
    for start in range(0, len(files), 32):
        yield files[start : start + 32]


# --- sentinels


def _sentinels(
    page: list[str], bundle: Bundle, network: MergedNetwork, files: Sequence[tuple[int, Path]], rules: QualityRules
) -> bool:
    images = [Image.open(path).convert("RGB") for _, path in files[:: len(files) // rules.sentinels.cells]]
    images = images[: rules.sentinels.cells]
    reference = _output(images, bundle, network)
    one_by_one = joined([_output([image], bundle, network) for image in images])
    weights = [np.array(weight) for weight in network.model.weights]
    found = [("the same worker, one cell at a time", one_by_one, True)]
    for name, n_bits in PRECISIONS:
        for weight, values in zip(network.model.weights, weights, strict=True):
            if values.dtype == np.float32:
                weight.assign(_shortened(values, n_bits))
        found.append((f"weights of {name}", _output(images, bundle, network), False))
    for weight, values in zip(network.model.weights, weights, strict=True):
        weight.assign(values)
    rows, is_good = [["worker", "probabilities differ by", "novelty differs by", "held"]], True
    for name, output, should_pass in found:
        largest = float(np.abs(output.probabilities - reference.probabilities).max())
        novelty = 100 * float((np.abs(output.novelty - reference.novelty) / np.abs(reference.novelty)).max())
        limits = rules.sentinels
        passed = largest <= limits.probability_difference_above and novelty <= limits.novelty_difference_percent_above
        rows.append([name, f"{largest:.1e}", f"{novelty:.2g} %", "no" if passed else "yes"])
        is_good &= passed is should_pass or "16 bits" in name
    page.append("## Sentinels")
    page.append(
        f"{len(images)} stored cells; limits: {limits.probability_difference_above:g} of a probability, "
        f"{limits.novelty_difference_percent_above:g} % of the novelty."
    )
    page.append(markdown_table(rows[0], rows[1:]))
    return is_good


def _shortened(values: NDArray[np.float32], n_bits: int) -> NDArray[np.float32]:
    bits = np.atleast_1d(values).view(np.uint32) & np.uint32((0xFFFFFFFF << n_bits) & 0xFFFFFFFF)
    return np.asarray(bits.view(np.float32).reshape(values.shape))


# --- control slides


def _controls(page: list[str], pool: Pool, rules: QualityRules) -> bool:
    target = {"neutrophil": 60.0, "lymphocyte": 30.0, "monocyte": 6.0}
    control = Control(name="control", barcode="QC-*", percent=target, allowed_points=2.0)  # type: ignore[arg-type]
    rng, rows, shares = (
        np.random.default_rng(5),
        [["neutrophils instead of lymphocytes", "100", "200", "400 cells"]],
        {},
    )
    for points in (0, 5, 10, 15, 20, 30):
        row = [f"{points} points" if points else "on target"]
        for n_cells in (100, 200, 400):
            n_failed = 0
            for _ in range(200):
                mix = {
                    "neutrophil": 0.60 + points / 100,
                    "lymphocyte": 0.30 - points / 100,
                    "monocyte": 0.06,
                    "eosinophil": 0.04,
                }
                calls = _counted(pool.called[_drawn(pool, mix, n_cells, rng)])
                check = judge_control(
                    ControlCount("QC-1", "A", calls), control, rules.control_slides, night=FIRST, model_id="m"
                )
                n_failed += not check.passed
            shares[points, n_cells] = n_failed / 200
            row.append(percent(n_failed / 200))
        rows.append(row)
    page.append("## Control slides")
    page.append(
        "Share of 200 control slides that fail; the target is 60 % neutrophils, 30 % lymphocytes and 6 % monocytes, "
        "and two points are allowed."
    )
    page.append(markdown_table(rows[0], rows[1:]))
    return shares[0, 200] <= 0.02 and shares[30, 200] >= 0.95


def _drawn(pool: Pool, mix: Mapping[str, float], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns images of a slide of this mix."""
    names = list(mix)
    counts = rng.multinomial(n, np.array([mix[name] for name in names]) / sum(mix.values()))
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(pool.classes == CELL_CLASSES.index(name)), k)
            for name, k in zip(names, counts, strict=True)
        ]
    )


def _counted(called: NDArray[np.str_]) -> dict[str, int]:
    names, counts = np.unique(called, return_counts=True)
    return {str(name): int(n) for name, n in zip(names, counts, strict=True)}


# --- moving figures


def _patient(rng: np.random.Generator) -> dict[str, float]:
    """Returns the mix of a patient: healthy ones vary, and one in twelve is ill."""
    parts = np.array(list(MIX.values()))
    mix = dict(zip(MIX, rng.dirichlet(60 * parts + 0.02), strict=True))
    if rng.random() < 1 / 12:
        ill = rng.choice(["lymphocyte", "neutrophil", "ig", "erythroblast", "monocyte"])
        mix = {name: 0.35 * share + (0.65 if name == ill else 0.0) for name, share in mix.items()}
    return mix


def _night(pool: Pool, rng: np.random.Generator, rules: QualityRules, lamp: Lamp) -> NightFigures:
    found, shift = NightFigures(), lamp.next()
    for _ in range(SLIDES):
        images = _drawn(pool, _patient(rng), CELLS, rng)
        found.add_calls(_counted(pool.called[images]), int(pool.novel[images].sum()), rules.figures.leucocytes_at_least)
        looks = pool.looks[images[rng.permutation(len(images))[:LOOKED_AT]]]
        middle = np.nanmedian(looks, axis=0) + shift
        found.add_look(dict(zip(LOOK, middle.tolist(), strict=True)))
    return found


class Lamp:
    """What lamp, stain and focus add to each figure of a look, from night to night.

    Args:
        rng: Source of chance.
        alike: Correlation of a night with the one before, in 0..1.
    """

    def __init__(self, rng: np.random.Generator, alike: float = 0.0) -> None:
        self._rng, self._alike, self._now = rng, alike, rng.normal(0, 1, 8)

    def next(self) -> NDArray[np.float64]:
        """Returns what the next night adds: float64 (9,)."""
        fresh = self._rng.normal(0, 1, 8)
        self._now = self._alike * self._now + np.sqrt(1 - self._alike**2) * fresh
        field, cells, tint, focus = self._now[0], self._now[1:4], self._now[4:7] / 2, self._now[7]
        levels = LAMP_LEVELS * np.array([*(field + tint), *(field + cells)])
        return np.array([*levels, 0.03 * focus, 0.0, 0.0])


class Analyser:
    """Nights of one analyser, judged one after the other."""

    def __init__(self, rules: QualityRules) -> None:
        self.rules = rules
        self.night = FIRST
        self.earlier: dict[str, list[EarlierNight]] = {}

    def judged(self, found: NightFigures) -> list[QualityCheck]:
        checks = judge_figures(found, self.earlier, self.rules.figures, night=self.night, analyser="A", model_id="m")
        for check in checks:
            self.earlier.setdefault(check.subject, []).append(EarlierNight(self.night, check.passed, check.figures))
        self.night += timedelta(days=1)
        return [check for check in checks if not check.passed]


def _drifts(
    page: list[str], work: Path, files: Sequence[tuple[int, Path]], bundle: Bundle, network: MergedNetwork, pool: Pool,
    rules: QualityRules,
) -> bool:  # fmt: skip
    head = ("drift over twenty nights", "held first on night", "by", "nights held")
    worth = ("right among the called", "called")
    rows = [[*head, *(f"{what}, {night}" for night in ("that night", "last night") for what in worth)]]
    chosen = np.random.default_rng(3).permutation(len(files))[: N_DRIFTED * len(CELL_CLASSES)]
    few = [files[index] for index in chosen]
    quiet = Pool(pool.classes[chosen], pool.called[chosen], pool.novel[chosen], pool.looks[chosen])
    is_good = True
    for name, change in DRIFTS.items():
        steps = []
        for step in range(1, STEPS + 1):
            make = partial(_step, few, bundle, network, change, step / STEPS, full=step in CALLED_STEPS)
            steps.append(_kept(work / f"{name}-{step}.npz", make))
        rng, analyser = np.random.default_rng(11), Analyser(rules)
        lamp = Lamp(rng, 0.5)
        for _ in range(rules.figures.baseline_nights):
            analyser.judged(_night(quiet, rng, rules, lamp))
        held: dict[int, list[QualityCheck]] = {}
        for number, drifted in enumerate(steps, start=1):
            seen = _called_step(quiet, steps[:number])
            of_night = Pool(drifted.classes, seen.called, seen.novel, drifted.looks)
            if failed := analyser.judged(_night(of_night, rng, rules, lamp)):
                held[number] = failed
        first = min(held, default=0)
        is_good &= first > 0
        by = sorted({FIGURE_NAMES.get(each.subject, each.subject) for each in held.get(first, [])})
        rows.append([name, str(first or "never"), "; ".join(by), f"{len(held)} of {STEPS}",
                     *_worth(_called_step(quiet, steps[:first])), *_worth(steps[-1])])  # fmt: skip
    page.append("## Drifts")
    page.append(
        "After a baseline of twenty quiet nights, the images of each further night are changed a little more. How well "
        "the model calls such images is beside it: those of the newest of the nights 0, 6, 13 and 20 up to the "
        "first hold, and of the last night; the models have learnt from most of them."
    )
    page.append(markdown_table(rows[0], rows[1:]))
    return is_good


def _step(
    files: Sequence[tuple[int, Path]], bundle: Bundle, network: MergedNetwork,
    change: Callable[[Image.Image, float], Image.Image], strength: float, *, full: bool,
) -> Pool:  # fmt: skip
    if full:
        return _pool(files, bundle, network, lambda image: change(image, strength))
    looks = [look_of(np.asarray(change(Image.open(path).convert("RGB"), strength))) for _, path in files]
    return Pool(
        np.array([number for number, _ in files]),
        np.array([""] * len(files)),
        np.zeros(len(files), bool),
        np.stack(looks),
    )


def _called_step(quiet: Pool, steps: Sequence[Pool]) -> Pool:
    """Returns the newest of these steps whose images were called, or else the images as they are."""
    called = [each for each in steps if each.called[0] != ""]
    return called[-1] if called else quiet


def _worth(pool: Pool) -> list[str]:
    is_called = pool.called != UNCLASSIFIED
    truth = np.array(CELL_CLASSES)[pool.classes]
    return [
        percent(float((pool.called == truth)[is_called].mean())) if is_called.any() else "-",
        percent(float(is_called.mean())),
    ]


def stained(image: Image.Image, strength: float) -> Image.Image:
    """Deepens the stain: optical density of green and blue grows by up to half."""
    density = -np.log((np.asarray(image, np.float64) + 1) / 256)
    density *= np.array([1 + 0.15 * strength, 1 + 0.5 * strength, 1 + 0.35 * strength])
    return Image.fromarray(np.clip(256 * np.exp(-density) - 1, 0, 255).astype(np.uint8))


def lit(image: Image.Image, strength: float) -> Image.Image:
    """Ages the lamp: less light, and less of it blue."""
    return Image.fromarray(
        (np.asarray(image, np.float64) * (1 - strength * np.array([0.04, 0.08, 0.15]))).astype(np.uint8)
    )


def blurred(image: Image.Image, strength: float) -> Image.Image:
    """Loses the focus."""
    return image.filter(ImageFilter.GaussianBlur(2.5 * strength))


DRIFTS: Final = {"deeper stain": stained, "ageing lamp": lit, "loss of focus": blurred}


def _quiet(page: list[str], pool: Pool, rules: QualityRules) -> bool:
    rows, most = [["correlation with the night before", "nights held", "a month", "by"]], 0.0
    for alike in (0.0, 0.5):
        held: dict[str, int] = {}
        n_held = 0
        for part in range(QUIET_PARTS):  # each with a baseline of its own
            rng, analyser = np.random.default_rng((17, part)), Analyser(rules)
            lamp = Lamp(rng, alike)
            for _ in range(rules.figures.baseline_nights):
                analyser.judged(_night(pool, rng, rules, lamp))
            for _ in range(QUIET_NIGHTS // QUIET_PARTS):
                failed = analyser.judged(_night(pool, rng, rules, lamp))
                n_held += bool(failed)
                for check in failed:
                    held[check.subject] = held.get(check.subject, 0) + 1
        a_month = 30 * n_held / QUIET_NIGHTS
        most = max(most, a_month)
        by = ", ".join(f"{FIGURE_NAMES.get(name, name)} {n}" for name, n in sorted(held.items()))
        rows.append([f"{alike:g}", f"{n_held} of {QUIET_NIGHTS}", f"{a_month:.2f}", by or "none"])
    page.append("## Quiet nights")
    page.append(
        f"{QUIET_NIGHTS} nights after {QUIET_PARTS} baselines, one slide in twelve of an ill patient; lamp and "
        f"stain vary by {LAMP_LEVELS:g} levels from night to night."
    )
    page.append(markdown_table(rows[0], rows[1:]))
    return most <= 1


if __name__ == "__main__":
    sys.exit(main())
