"""Turns counts of a slide's cells into its differential.

A cell counts as one thing, its line: what a person's standing label says; without a label the analyser's code, if that
is out of scope; else what the model calls it. The lines are the eight cell classes, "unclassified", "contested" and the
codes out of scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import (
    CELL_CLASSES,
    CODES_OUT_OF_SCOPE,
    CONTESTED,
    LEUCOCYTE_CLASSES,
    NOT_LEUCOCYTES,
    OTHER_LEUCOCYTES,
    UNCLASSIFIED,
    UNDECIDED_CODES,
)
from bloodcell.cells.intervals import Proportion, proportions
from bloodcell.differential.reference_ranges import Flag, flag_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bloodcell.differential.laboratory_rules import LaboratoryRules, Sex

LINES: Final = (*CELL_CLASSES, UNCLASSIFIED, CONTESTED, *CODES_OUT_OF_SCOPE)
"""Everything that a cell can count as."""

COUNTED_LEUCOCYTES: Final = (*LEUCOCYTE_CLASSES, *OTHER_LEUCOCYTES)
"""Lines that make up the denominator, in the order in which they are shown."""

_MAY_BE_LEUCOCYTES: Final = (UNCLASSIFIED, CONTESTED, *UNDECIDED_CODES)


@dataclass(frozen=True, slots=True)
class LineCount:
    """Cells that count as one line.

    Attributes:
        n_cells: All of them.
        n_labelled: Of these, those that a person's label decides.
        n_unverified: Of these, those that the analyser's code decides and nobody has labelled.
    """

    n_cells: int
    n_labelled: int = 0
    n_unverified: int = 0


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What slide.json says that a differential depends on.

    Attributes:
        age_months: Age of the patient in months; None: unknown, and the ranges of adults are used.
        sex: "female" or "male"; None: unknown.
        wbc_10e9_per_l: The analyser's leucocyte count in 10^9 per litre; None: unknown.
        wbc_is_corrected: Whether that count leaves out nucleated red cells already; None: unknown, and it is
            not corrected.
    """

    age_months: int | None = None
    sex: Sex | None = None
    wbc_10e9_per_l: float | None = None
    wbc_is_corrected: bool | None = None


@dataclass(frozen=True, slots=True)
class SlideCounts:
    """A slide's cells by line. A line without cells may be left out."""

    lines: Mapping[str, LineCount]
    facts: SlideFacts = field(default_factory=SlideFacts)


@dataclass(frozen=True, slots=True)
class LeucocyteShare:
    """One leucocyte line of a differential.

    Attributes:
        cell_class: A leucocyte class, or a code of `OTHER_LEUCOCYTES`.
        share: Its cells among the slide's leucocytes, with the exact 95 % interval of the count.
        bounds: Lowest and highest share in 0..1 that the unclassified cells allow: none of them is of this class, or
            all are. None without leucocytes and unclassified cells.
        absolute: Cells in 10^9 per litre, with the ends of the share's interval; None without a leucocyte count.
        flag: The share relative to the reference range; None within it, and for a code without a range.
        n_labelled: Cells that a person's label decides.
        n_unverified: Cells that the analyser's code decides and nobody has labelled.
    """

    cell_class: str
    share: Proportion
    bounds: tuple[float, float] | None
    absolute: tuple[float, float, float] | None
    flag: Flag | None
    n_labelled: int = 0
    n_unverified: int = 0

    @property
    def percentage_bounds(self) -> tuple[float, float] | None:
        """The bounds in percent."""
        return None if self.bounds is None else (100 * self.bounds[0], 100 * self.bounds[1])


@dataclass(frozen=True, slots=True)
class NucleatedRedCells:
    """Erythroblasts per 100 leucocytes (NRBC/100 WBC), None without leucocytes.

    The interval is that of the odds of an exact binomial. Of the E + L nucleated cells that were imaged, E are
    erythroblasts, and E / L is the odds of their share. The odds rise with the share, so the ends of its interval carry
    over exactly. Both counts are random: a Poisson interval of E alone would treat the leucocytes as known and be too
    narrow.

    Source: Przyborowski and Wilenski, Homogeneity of results in testing samples from Poisson series, Biometrika 31
    (1940) 313-323 (two Poisson counts, given their sum, are binomial); Clopper and Pearson 1934 for the interval.
    """

    n_erythroblasts: int
    per_100_wbc: float | None
    lower: float | None
    upper: float | None
    flag: Flag | None

    @property
    def corrected_wbc_factor(self) -> float | None:
        """Factor for a leucocyte count that included erythroblasts: 100 / (100 + NRBC)."""
        return None if self.per_100_wbc is None else 100 / (100 + self.per_100_wbc)


@dataclass(frozen=True, slots=True)
class Differential:
    """The differential of one slide, by the labels of people and the calls of one model.

    Attributes:
        n_leucocytes: Cells of the six leucocyte classes and other leucocytes: the denominator.
        leucocytes: The six classes, in the order of `LEUCOCYTE_CLASSES`.
        other_leucocytes: Codes of other leucocytes that occur, in the order of `OTHER_LEUCOCYTES`.
        nrbc: Erythroblasts per 100 leucocytes.
        n_platelets: Platelet images. Analysers photograph a sample of them, so this is not a concentration.
        unclassified: Cells that nobody and no model could name, among these and the leucocytes. No percentage above
            includes them; the bounds say what they could change.
        n_contested: Of the unclassified cells, those on which people disagree.
        not_leucocytes: Codes of cells that are no leucocytes and occur, with their number: smudges, artefacts.
        undecided: Codes that leave open what a cell is and occur, with their number; part of `unclassified`.
        is_sufficient: Whether there are enough leucocytes; below, the count is reported as insufficient.
        wbc_10e9_per_l: The leucocyte count that the absolute counts rest on, corrected if it had to be; None: unknown.
        wbc_was_corrected: Whether bloodcell corrected it for nucleated red cells.
    """

    n_leucocytes: int
    leucocytes: tuple[LeucocyteShare, ...]
    other_leucocytes: tuple[LeucocyteShare, ...]
    nrbc: NucleatedRedCells
    n_platelets: int
    unclassified: Proportion
    n_contested: int
    not_leucocytes: tuple[tuple[str, int], ...]
    undecided: tuple[tuple[str, int], ...]
    is_sufficient: bool
    wbc_10e9_per_l: float | None
    wbc_was_corrected: bool

    def as_written(self, flags: Mapping[str, Flag | None], *, is_sufficient: bool) -> Differential:
        """Returns this differential with the flags and the sufficiency that were written for it.

        Args:
            flags: Line -> flag.
            is_sufficient: Whether the count was sufficient.
        """
        six, others = (
            tuple(replace(line, flag=flags[line.cell_class]) for line in lines)
            for lines in (self.leucocytes, self.other_leucocytes)
        )
        nrbc = replace(self.nrbc, flag=flags["erythroblast"])
        return replace(self, leucocytes=six, other_leucocytes=others, nrbc=nrbc, is_sufficient=is_sufficient)

    @property
    def n_cells(self) -> int:
        """All cells."""
        others = self.nrbc.n_erythroblasts + self.n_platelets + sum(n for _, n in self.not_leucocytes)
        return self.unclassified.total + others

    @property
    def n_unverified(self) -> int:
        """Other leucocytes that nobody has labelled."""
        return sum(line.n_unverified for line in self.other_leucocytes)


def count_differential(slide: SlideCounts, rules: LaboratoryRules) -> Differential:
    """Returns the differential of one slide.

    Args:
        slide: Its cells by line, and what slide.json says of it.
        rules: Reference ranges, and how many leucocytes are sufficient.

    Raises:
        ValueError: A line that is none of `LINES`.
    """
    return count_differentials([slide], rules)[0]


def count_differentials(slides: Sequence[SlideCounts], rules: LaboratoryRules) -> tuple[Differential, ...]:
    """Returns a differential for each slide's counts.

    Args:
        slides: The slides.
        rules: Reference ranges, and how many leucocytes are sufficient.

    Raises:
        ValueError: A line that is none of `LINES`.
    """
    for slide in slides:
        if unknown := slide.lines.keys() - set(LINES):
            raise ValueError(f"Expected lines of {LINES}. Received: {sorted(unknown)}")
    shown = [_shown(slide) for slide in slides]
    n_leucocytes = [sum(n for _, n in lines) for lines in shown]
    n_unclassified = [_sum(slide, _MAY_BE_LEUCOCYTES) for slide in slides]
    erythroblasts = [_sum(slide, ("erythroblast",)) for slide in slides]
    # one call for all slides, because a night has thousands of proportions
    every = iter(
        proportions(
            [n for lines in shown for _, n in lines] + erythroblasts + n_unclassified,
            [total for lines, total in zip(shown, n_leucocytes, strict=True) for _ in lines]
            + [n + total for n, total in zip(erythroblasts, n_leucocytes, strict=True)]
            + [n + total for n, total in zip(n_unclassified, n_leucocytes, strict=True)],
        )
    )
    shares = [[(name, next(every)) for name, _ in lines] for lines in shown]
    nucleated = [next(every) for _ in slides]
    unclassified = [next(every) for _ in slides]
    return tuple(
        _differential(slide, rules, of_classes, of_nucleated, without_name)
        for slide, of_classes, of_nucleated, without_name in zip(slides, shares, nucleated, unclassified, strict=True)
    )


def _shown(slide: SlideCounts) -> list[tuple[str, int]]:
    """Returns the leucocyte lines that are shown: all six classes, and the other leucocytes that occur."""
    counts = [(name, _sum(slide, (name,))) for name in COUNTED_LEUCOCYTES]
    return [(name, n) for name, n in counts if n or name in LEUCOCYTE_CLASSES]


def _sum(slide: SlideCounts, names: Iterable[str]) -> int:
    return sum(slide.lines[name].n_cells for name in names if name in slide.lines)


def _occurring(slide: SlideCounts, names: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple((name, slide.lines[name].n_cells) for name in names if name in slide.lines)


def _differential(
    slide: SlideCounts,
    rules: LaboratoryRules,
    shares: Sequence[tuple[str, Proportion]],
    nucleated: Proportion,
    unclassified: Proportion,
) -> Differential:
    facts = slide.facts
    expected = rules.ranges_for(facts.age_months, facts.sex)
    n_leucocytes = nucleated.total - nucleated.n
    per_100, interval = _per_100_wbc(nucleated)
    wbc, was_corrected = _leucocyte_count(facts, per_100, rules.absolute_counts.correct_from_nrbc_per_100_wbc)
    total = unclassified.total
    nothing = LineCount(0)
    lines = {
        name: LeucocyteShare(
            name,
            share,
            bounds=(share.n / total, (share.n + unclassified.n) / total) if total else None,
            absolute=_absolute(share, wbc),
            flag=flag_of(expected.get(name), share.percentage, share.percentage_interval),
            n_labelled=slide.lines.get(name, nothing).n_labelled,
            n_unverified=slide.lines.get(name, nothing).n_unverified,
        )
        for name, share in shares
    }
    return Differential(
        n_leucocytes=n_leucocytes,
        leucocytes=tuple(lines[name] for name in LEUCOCYTE_CLASSES),
        other_leucocytes=tuple(lines[name] for name in OTHER_LEUCOCYTES if name in lines),
        nrbc=NucleatedRedCells(
            nucleated.n,
            per_100,
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            flag=flag_of(expected.get("erythroblast"), per_100, interval),
        ),
        n_platelets=_sum(slide, ("platelet",)),
        unclassified=unclassified,
        n_contested=_sum(slide, (CONTESTED,)),
        not_leucocytes=_occurring(slide, NOT_LEUCOCYTES),
        undecided=_occurring(slide, UNDECIDED_CODES),
        is_sufficient=n_leucocytes >= rules.sufficient_leucocytes,
        wbc_10e9_per_l=wbc,
        wbc_was_corrected=was_corrected,
    )


def _per_100_wbc(nucleated: Proportion) -> tuple[float | None, tuple[float, float] | None]:
    n_leucocytes = nucleated.total - nucleated.n
    if n_leucocytes == 0 or nucleated.lower is None or nucleated.upper is None:
        return None, None
    lower, upper = (100 * end / (1 - end) for end in (nucleated.lower, nucleated.upper))
    return 100 * nucleated.n / n_leucocytes, (lower, upper)


def _leucocyte_count(facts: SlideFacts, per_100_wbc: float | None, correct_from: float) -> tuple[float | None, bool]:
    """Returns the leucocyte count without nucleated red cells, and whether it was corrected here.

    Source: the usual correction, WBC x 100 / (100 + NRBC per 100 WBC).
    """
    wbc = facts.wbc_10e9_per_l
    if wbc is None or facts.wbc_is_corrected is not False or not per_100_wbc or per_100_wbc < correct_from:
        return wbc, False
    return wbc * 100 / (100 + per_100_wbc), True


def _absolute(share: Proportion, wbc: float | None) -> tuple[float, float, float] | None:
    if wbc is None or share.value is None or share.lower is None or share.upper is None:
        return None
    return wbc * share.value, wbc * share.lower, wbc * share.upper
