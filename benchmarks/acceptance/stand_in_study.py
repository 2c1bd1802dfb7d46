"""Slides of real images with stand-ins for blasts: cells of a class that the model that calls them never saw."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.acceptance.healthy_slides import healthy, judged, sure_flags
from benchmarks.accuracy import leaving_out, without_class
from benchmarks.accuracy.measuring import Laboratory
from bloodcell.cells.calls import Calls
from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.cells.labelled_image import LabelledImage, digest_of
from bloodcell.differential.counting import LineCount
from bloodcell.differential.laboratory_rules import LaboratoryRules
from bloodcell.storage.atomic_write import atomic_file
from bloodcell.training.image_folders import is_held_out

VARIANT: Final = "inception_v3_svm"
NOVELTIES: Final = {"all features": slice(None), "the champion's layer": slice(256 + 288, 256 + 288 + 288)}
"""What the novelty is measured in: that of the variant, and `mixed2` alone, as the shipped champion measures it.

The features are the averages of mixed0, mixed1, mixed2 and so on, of 256, 288, 288 and more channels."""
LEFT_OUT: Final = ("ig", "monocyte", "lymphocyte", "erythroblast", "neutrophil", "eosinophil", "basophil")
"""Classes that stand in for blasts; those that look most like them first."""
HELD_OUT: Final = 0.3
"""Share of the images that slides are drawn from."""
SHARES: Final = (0.05, 0.1, 0.2, 0.3, 0.4)
"""Of the leucocytes, the stand-ins."""
N_LEUCOCYTES: Final = (100, 200)
CODINGS: Final = {
    "agrees": "the analyser takes the stand-in for the class that the model finds most probable",
    "disagrees": "the analyser gives the stand-in a code of its own class, which the model never calls",
    "NC": "the analyser codes the stand-in as not classed",
    "BL": "the analyser codes the stand-in as a blast",
}


@dataclass(frozen=True)
class Cells:
    """Cells of a slide.

    Attributes:
        true: True class of each.
        called: What the model calls each.
        top: The most probable class of each.
        is_stand_in: Whether each is a stand-in.
    """

    true: tuple[str, ...]
    called: tuple[str, ...]
    top: tuple[str, ...]
    is_stand_in: tuple[bool, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a slide.

    Attributes:
        withheld_for: Why its percentages are withheld.
        named_for: Its sure flags, and the review rules that name it.
    """

    withheld_for: tuple[str, ...]
    named_for: tuple[str, ...]

    @property
    def is_caught(self) -> bool:
        """Whether a person is told to look at the slide."""
        return bool(self.withheld_for or self.named_for)


@dataclass(frozen=True)
class Drawer:
    """Draws slides from the images of one left-out class and the other classes.

    Attributes:
        left_out: The class that the stand-ins are of.
        images: Images that no model was fitted on.
        without: Calls of the model that does not know the class, in the order of `images`.
        whole: Calls of the model that knows all classes.
    """

    left_out: str
    images: tuple[LabelledImage, ...]
    without: Calls
    whole: Calls

    @functools.cached_property
    def of_class(self) -> dict[str, np.ndarray]:
        """Class -> places of its images."""
        true = np.array([image.cell_class for image in self.images])
        return {name: np.flatnonzero(true == name) for name in CELL_CLASSES}

    def slide(self, share: float, chance: np.random.Generator) -> Cells:
        """Returns a slide of which at least `share` of the leucocytes are stand-ins; no image occurs twice."""
        n = int(chance.integers(*N_LEUCOCYTES, endpoint=True))
        n_stand_ins = int(np.ceil(share * n - 1e-9))
        counts = healthy(chance, (n - n_stand_ins, n - n_stand_ins))
        drawn = []
        for name in CELL_CLASSES:
            wanted = counts[name] + n_stand_ins * (name == self.left_out)
            places = chance.choice(self.of_class[name], wanted, replace=False)
            drawn += [(int(place), number >= counts[name]) for number, place in enumerate(places)]
        calls = [
            self.whole if self.images[place].cell_class == self.left_out and not is_stand_in else self.without
            for place, is_stand_in in drawn
        ]
        return Cells(
            tuple(self.images[place].cell_class for place, _ in drawn),
            tuple(by.called[place] for by, (place, _) in zip(calls, drawn, strict=True)),
            tuple(CELL_CLASSES[by.top[place]] for by, (place, _) in zip(calls, drawn, strict=True)),
            tuple(is_stand_in for _, is_stand_in in drawn),
        )


def outcome(cells: Cells, coding: str, rules: LaboratoryRules) -> Outcome:
    """Returns what the product makes of a slide whose stand-ins are coded in this way."""
    lines: Counter[str] = Counter()
    n_compared = n_agree = 0
    for true, call, top, is_stand_in in zip(cells.true, cells.called, cells.top, cells.is_stand_in, strict=True):
        if is_stand_in and coding in ("NC", "BL"):
            lines[coding] += 1  # a code out of scope decides before the call
            continue
        lines[call] += 1
        code = top if is_stand_in and coding == "agrees" else true
        n_compared += call != UNCLASSIFIED
        n_agree += call == code
    counts = {name: LineCount(n, n_unverified=n if name in ("NC", "BL") else 0) for name, n in lines.items()}
    differential, judgement = judged(counts, rules, n_compared, n_agree)
    return Outcome(judgement.withheld_for, (*sure_flags(differential), *judgement.review_for))


@dataclass(frozen=True)
class Study:
    """What everything was measured on.

    Attributes:
        laboratory: Where features and calls are kept.
        pool: Images that models are fitted on, with features.
        held_out: Images that slides are drawn from, with features.
    """

    laboratory: Laboratory
    pool: without_class.Split
    held_out: without_class.Split

    @classmethod
    def of(cls, laboratory: Laboratory) -> Study:
        bundle = laboratory.bundles[0]
        extractor = leaving_out.extractor_of(bundle)
        features = leaving_out.kept_features(laboratory, bundle, extractor, laboratory.images)
        every = without_class.Split(laboratory.images, features)
        is_drawn = np.array([is_held_out(image, HELD_OUT) for image in laboratory.images])
        return cls(laboratory, every.where(~is_drawn), every.where(is_drawn))

    def calls(self, left_out: str | None, novelty: str) -> Calls:
        """Returns the calls of the held-out images by a model without a class; kept, so that a rerun resumes."""
        kept = self._kept(left_out, novelty)
        if not kept.exists():
            recipe = self.laboratory.bundles[0].manifest.recipe
            fitted = without_class.fit_without(left_out, self.pool, recipe)
            for name, columns in NOVELTIES.items():
                found = without_class.with_novelty_of(fitted, columns, recipe).calls(self.held_out.features)
                reasons = [reason or "" for reason in found.reasons]
                with atomic_file(self._kept(left_out, name)) as whole:
                    np.savez(whole, top=found.top, confidence=found.confidence, called=found.called, reasons=reasons)
        with np.load(kept, allow_pickle=False) as file:
            return Calls(
                file["top"],
                file["confidence"],
                tuple(file["called"].tolist()),
                tuple(reason or None for reason in file["reasons"].tolist()),
                (None,) * len(file["top"]),
            )

    def _kept(self, left_out: str | None, novelty: str) -> Path:
        name = f"calls without {left_out} by novelty of {novelty}, {digest_of(self.held_out.images)[:12]}.npz"
        return self.laboratory.kept / self.laboratory.bundles[0].model_id[:16] / name

    def drawer(self, left_out: str, novelty: str) -> Drawer:
        return Drawer(left_out, self.held_out.images, self.calls(left_out, novelty), self.calls(None, novelty))


def slides_of(drawer: Drawer, share: float, n: int) -> tuple[Cells, ...]:
    """Returns n slides; the same share and class give the same ones."""
    chance = np.random.default_rng((20, CELL_CLASSES.index(drawer.left_out), round(100 * share)))
    return tuple(drawer.slide(share, chance) for _ in range(n))
