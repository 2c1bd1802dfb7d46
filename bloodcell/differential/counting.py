"""Turns counts of called cells into a differential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bloodcell.cells.classes import CELL_CLASSES, LEUCOCYTE_CLASSES, UNCLASSIFIED
from bloodcell.cells.intervals import Proportion, proportions
from bloodcell.differential.reference_ranges import Flag, flag_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class LeucocyteShare:
    """One leucocyte class of a differential.

    Attributes:
        cell_class: One of `LEUCOCYTE_CLASSES`.
        share: Its cells among the slide's leucocytes.
        flag: The share relative to the reference range; None within it, and where the count is insufficient.
    """

    cell_class: str
    share: Proportion
    flag: Flag | None


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
    """The differential of one slide by the calls of one model.

    Attributes:
        n_leucocytes: Cells of the six leucocyte classes: the denominator.
        leucocytes: The six classes, in the order of `LEUCOCYTE_CLASSES`.
        nrbc: Erythroblasts per 100 leucocytes.
        n_platelets: Platelet images. Analysers photograph a sample of them, so this is not a concentration.
        unclassified: Cells without a call, among all cells. No percentage above includes them.
        is_sufficient: Whether there are enough leucocytes to report percentages; otherwise nothing is flagged.
    """

    n_leucocytes: int
    leucocytes: tuple[LeucocyteShare, ...]
    nrbc: NucleatedRedCells
    n_platelets: int
    unclassified: Proportion
    is_sufficient: bool

    @property
    def n_cells(self) -> int:
        """All cells, including unclassified ones."""
        return self.unclassified.total


def count_differential(counts: Mapping[str, int], *, min_leucocytes: int) -> Differential:
    """Returns the differential of one slide; see `count_differentials`."""
    return count_differentials([counts], min_leucocytes=min_leucocytes)[0]


def count_differentials(counts: Sequence[Mapping[str, int]], *, min_leucocytes: int) -> tuple[Differential, ...]:
    """Returns a differential for each slide's counts.

    Args:
        counts: For each slide, called class -> number of cells: the eight classes and "unclassified". A class without
            cells may be left out.
        min_leucocytes: Leucocytes below which the count is insufficient.

    Raises:
        ValueError: A class that is none of these.
    """
    for slide in counts:
        if unknown := slide.keys() - {*CELL_CLASSES, UNCLASSIFIED}:
            raise ValueError(f"Expected classes of {(*CELL_CLASSES, UNCLASSIFIED)}. Received: {sorted(unknown)}")
    classes = [[slide.get(cell_class, 0) for cell_class in LEUCOCYTE_CLASSES] for slide in counts]
    n_leucocytes = [sum(slide) for slide in classes]
    shares = proportions(
        [n for slide in classes for n in slide], [total for total in n_leucocytes for _ in LEUCOCYTE_CLASSES]
    )
    erythroblasts = [slide.get("erythroblast", 0) for slide in counts]
    nucleated = proportions(erythroblasts, [n + total for n, total in zip(erythroblasts, n_leucocytes, strict=True)])
    unclassified = proportions([slide.get(UNCLASSIFIED, 0) for slide in counts], [sum(s.values()) for s in counts])
    width = len(LEUCOCYTE_CLASSES)
    return tuple(
        Differential(
            n_leucocytes=total,
            leucocytes=_leucocytes(shares[width * i : width * (i + 1)], is_sufficient=total >= min_leucocytes),
            nrbc=_nrbc(nucleated[i], is_sufficient=total >= min_leucocytes),
            n_platelets=counts[i].get("platelet", 0),
            unclassified=unclassified[i],
            is_sufficient=total >= min_leucocytes,
        )
        for i, total in enumerate(n_leucocytes)
    )


def _leucocytes(shares: Sequence[Proportion], *, is_sufficient: bool) -> tuple[LeucocyteShare, ...]:
    return tuple(
        LeucocyteShare(
            cell_class,
            share,
            flag_of(cell_class, share.percentage, share.percentage_interval) if is_sufficient else None,
        )
        for cell_class, share in zip(LEUCOCYTE_CLASSES, shares, strict=True)
    )


def _nrbc(nucleated: Proportion, *, is_sufficient: bool) -> NucleatedRedCells:
    n_leucocytes = nucleated.total - nucleated.n
    if n_leucocytes == 0 or nucleated.lower is None or nucleated.upper is None:
        return NucleatedRedCells(nucleated.n, None, None, None, None)
    value = 100 * nucleated.n / n_leucocytes
    lower, upper = (100 * end / (1 - end) for end in (nucleated.lower, nucleated.upper))
    flag = flag_of("erythroblast", value, (lower, upper)) if is_sufficient else None
    return NucleatedRedCells(nucleated.n, value, lower, upper, flag)
