"""Summarises a night in figures, and as Markdown for the page of its run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.errors import UnknownRecordError
from bloodcell.presentation.markdown import Markdown, code, escaped, markdown_table
from bloodcell.presentation.numbers import count, counted, number, percent_with_interval
from bloodcell.results.judging import flag_names, reason_names
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from datetime import date

    from bloodcell.storage.database import Database

_SQL: Final = load_statements("report/night_report.sql")
_MOST_LISTED: Final = 25
"""The most entries of a list, other than of slides that are withheld or for review: those are all named."""


@dataclass(frozen=True, slots=True)
class NightSlide:
    """A slide of the night as it is reported.

    Attributes:
        barcode: The slide's barcode.
        n_cells: Its cells, called or not.
        n_waiting: Cells that no reported differential counts yet.
        n_unclassified: Cells that may be leucocytes and have no name, for review.
        n_leucocytes: Leucocytes counted.
        is_sufficient: Whether enough leucocytes were counted; None without a result.
        state: State of the result; None without one.
        withheld_for: Why percentages of the newest version are, or were until it was signed, withheld.
        review_for: Review rules that name the newest version.
        differs_from_signed: Whether the newest version waits for a signature.
        flags: Line -> low or high, of the newest version; possible flags are not listed.
        unverified_codes: Codes of other leucocytes that nobody has labelled -> cells, of the newest version.
    """

    barcode: str
    n_cells: int
    n_waiting: int
    n_unclassified: int
    n_leucocytes: int
    is_sufficient: bool | None
    state: str | None
    withheld_for: tuple[str, ...]
    review_for: tuple[str, ...]
    differs_from_signed: bool
    flags: Mapping[str, str]
    unverified_codes: Mapping[str, int]

    @property
    def is_withheld(self) -> bool:
        """Whether its percentages are not to be used before a person has looked."""
        return self.state == "withheld"

    @property
    def is_open(self) -> bool:
        """Whether it has a result whose newest version nobody has signed."""
        return self.state in ("machine", "withheld") or self.differs_from_signed

    @property
    def is_for_review(self) -> bool:
        """Whether a review rule, a sure flag or a change after signing names it; a withheld slide is named as such."""
        is_named = bool(self.review_for or self.flags or self.differs_from_signed)
        return self.is_open and is_named and not self.is_withheld

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a person should look at it, in words and without the flags; none once its newest version is signed."""
        if not self.is_open:
            return ()
        named = reason_names(self.withheld_for, self.review_for)
        if self.unverified_codes and "other_leucocytes" in named:
            named["other_leucocytes"] += f" ({_listed(self.unverified_codes)})"
        return (*["differs from what was signed"][: self.differs_from_signed], *named.values())

    @property
    def why(self) -> str:
        """The reasons and the flags as one text."""
        return ", ".join([*self.reasons, *(flag_names(self.flags) if self.is_open else ())])

    @property
    def urgency(self) -> tuple[bool, bool, bool, bool, float, str]:
        """Sort key that puts slides first which a person should look at first."""
        has_blasts = self.is_open and "blasts" in (*self.withheld_for, *self.review_for)
        countable = self.n_leucocytes + self.n_unclassified
        unclassified = self.n_unclassified / countable if countable else 0.0
        return (
            not self.is_withheld,
            not has_blasts,
            not self.n_waiting,
            not self.is_for_review,
            -unclassified,
            self.barcode,
        )


@dataclass(frozen=True, slots=True)
class WithdrawnSlide:
    """A slide of the night that was withdrawn, why, and the barcode that its cells have now, if they have one."""

    barcode: str
    reason: str
    renamed_to: str | None


@dataclass(frozen=True, slots=True)
class ModelNight:
    """What one model did that night.

    Attributes:
        is_champion: Whether it is champion now.
        unclassified: Cells that it left unclassified, of all cells that it called.
    """

    model_id: str
    title: str
    is_champion: bool
    unclassified: Proportion


@dataclass(frozen=True, slots=True)
class StageNight:
    """The runs of one stage for the night.

    Attributes:
        stage: Name of the stage.
        n_runs: All runs, including failed and unfinished ones.
        n_failed: Runs that failed.
        n_cells: Cells of the successful runs.
        duration_s: Total duration of the successful runs, in seconds.
    """

    stage: str
    n_runs: int
    n_failed: int
    n_cells: int
    duration_s: float

    @property
    def cells_per_s(self) -> float | None:
        """Throughput in cells per second; None without cells or duration."""
        return self.n_cells / self.duration_s if self.n_cells and self.duration_s else None


@dataclass(frozen=True, slots=True)
class NightSummary:
    """One night.

    Attributes:
        night: Its date.
        completed_at: When all of its slides had been read; None while slides are still being written.
        files: Outcome -> number of files in the drop.
        quarantined: Reason -> number of files, the most frequent first.
        without_cells: Slides of which this night brought files and no usable cell, with the reasons.
        n_erased_files: Files of erased slides, which are still in the drop and were not read.
        withdrawn: Slides of this night that were withdrawn.
        slides: Other slides of this night, the most urgent first.
        models: Models that called cells of it, the champion first.
        stages: Stages that ran on it.
        n_to_read: Cells of its random sample that wait for a blind reading.
    """

    night: date
    completed_at: datetime | None
    files: Mapping[str, int]
    quarantined: Mapping[str, int]
    without_cells: Mapping[str, str]
    n_erased_files: int
    withdrawn: tuple[WithdrawnSlide, ...]
    slides: tuple[NightSlide, ...]
    models: tuple[ModelNight, ...]
    stages: tuple[StageNight, ...]
    n_to_read: int

    @property
    def headline(self) -> str:
        """What a person has to know first, in one line."""
        n_withheld = sum(slide.is_withheld for slide in self.slides)
        n_for_review = sum(slide.is_for_review for slide in self.slides)
        n_waiting = sum(bool(slide.n_waiting) for slide in self.slides)
        n_review = sum(slide.n_unclassified for slide in self.slides)
        without = f"{counted(len(self.without_cells), 'slide')} without a usable cell; " if self.without_cells else ""
        return (
            f"Night {self.night}: {without}{counted(len(self.slides), 'slide')}, {n_waiting:,} waiting, "
            f"{n_withheld:,} withheld, {n_for_review:,} for review, {counted(n_review, 'unclassified cell')}."
        )


def night_summary(database: Database, night: date) -> NightSummary:
    """Returns the summary of a night.

    Args:
        database: Where the night's rows are.
        night: The night.

    Raises:
        UnknownRecordError: The night has not been ingested.
    """
    return database.transact(lambda connection: _summary(connection, night), patience_s=0)


def drops_markdown(problems: Mapping[str, str]) -> str:
    """Returns what in the drops folder is no night, as Markdown; empty if there is nothing.

    Args:
        problems: Name of the entry -> what is wrong, as `bloodcell.inbox.read_drops` returns them.
    """
    items = [f"{code(name)}: {escaped(problem)}" for name, problem in problems.items()]
    return "\n".join(_section("In the drops folder, but not read as a night", items)).strip()


def night_markdown(summary: NightSummary) -> str:
    """Returns the summary as Markdown; names that come from outside bloodcell are escaped."""
    slides = summary.slides
    waiting = [slide for slide in slides if slide.n_waiting]
    insufficient = [slide for slide in slides if slide.is_sufficient is False]
    withheld = [slide for slide in slides if slide.is_withheld]
    for_review = [slide for slide in slides if slide.is_for_review]
    lines = [
        f"## Night {summary.night}",
        "" if summary.completed_at else "\n**Not complete: some slides are still being written.**\n",
        f"{counted(sum(summary.files.values()), 'file')}: " + (_listed(summary.files) or "none"),
        *_section(
            "Slides without a usable cell: nothing is reported for them",
            [f"{escaped(barcode)}: {escaped(why)}" for barcode, why in summary.without_cells.items()],
        ),
        *_section(
            "Not read, because their slides were erased: remove them from the drop",
            [counted(summary.n_erased_files, "file")] if summary.n_erased_files else [],
        ),
        *_section("Withdrawn: nothing is reported for them", [_withdrawn(slide) for slide in summary.withdrawn]),
        "",
        f"{counted(len(slides), 'slide')}, {counted(sum(slide.n_cells for slide in slides), 'cell')}: "
        f"{sum(slide.is_sufficient is not None and not slide.n_waiting for slide in slides):,} reported, "
        f"{len(waiting):,} waiting, **{len(withheld):,} withheld**, {len(for_review):,} for review, "
        f"{len(insufficient):,} with an insufficient count; "
        f"**{counted(sum(slide.n_unclassified for slide in slides), 'unclassified cell')} to review**",
        *_section(
            "Withheld: the percentages are not to be used before a person has looked",
            [f"{escaped(slide.barcode)}: {escaped(slide.why)}" for slide in withheld],
            most=None,
        ),
        *_section(
            "For review",
            [f"{escaped(slide.barcode)}: {escaped(slide.why)}" for slide in for_review],
            most=None,
        ),
        *_section(
            "Waiting for calls", [f"{escaped(s.barcode)}: {s.n_waiting:,} of {s.n_cells:,} cells" for s in waiting]
        ),
        *_section("Insufficient count", [escaped(slide.barcode) for slide in insufficient]),
        *_section(
            "To be read blind, so that models can be judged: bloodcell labels sample",
            [f"{counted(summary.n_to_read, 'cell')} of the random sample"] if summary.n_to_read else [],
        ),
        *_section("Quarantined", [f"{escaped(reason)}: {n:,}" for reason, n in summary.quarantined.items()]),
        *_models(summary.models),
        *_stages(summary.stages),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _summary(connection: sa.Connection, night: date) -> NightSummary:
    def rows(statement: str) -> list[sa.Row[Any]]:
        return list(connection.execute(_SQL[statement], {"night": night}))

    drop = connection.execute(sa.select(tables.drop).where(tables.drop.c.night == night)).one_or_none()
    if drop is None:
        raise UnknownRecordError(f"Night {night} has not been ingested. Next: bloodcell ingest NIGHT_FOLDER")
    return NightSummary(
        night=night,
        completed_at=drop.completed_at,
        files=MappingProxyType({row.outcome: row.n for row in rows("files")}),
        quarantined=MappingProxyType({row.reason: row.n for row in rows("quarantined")}),
        without_cells=MappingProxyType({row.barcode: row.why for row in rows("without_cells")}),
        n_erased_files=sum(row.n for row in rows("erased_files")),
        withdrawn=tuple(WithdrawnSlide(**row._mapping) for row in rows("withdrawn")),
        slides=tuple(sorted((_night_slide(row) for row in rows("slides")), key=lambda slide: slide.urgency)),
        models=tuple(
            ModelNight(row.model_id, row.title, row.is_champion, proportion(row.n_unclassified, row.n))
            for row in rows("models")
        ),
        stages=tuple(StageNight(**row._mapping) for row in rows("stages")),
        n_to_read=sum(row.n for row in rows("to_read")),
    )


def _night_slide(row: sa.Row[Any]) -> NightSlide:
    frozen = {name: MappingProxyType(row._mapping[name]) for name in ("flags", "unverified_codes")}
    listed = {name: tuple(row._mapping[name]) for name in ("withheld_for", "review_for")}
    return NightSlide(**{**row._mapping, **frozen, **listed})


def _withdrawn(slide: WithdrawnSlide) -> str:
    renamed = f", its cells are slide {escaped(slide.renamed_to)} now" if slide.renamed_to else ""
    return f"{escaped(slide.barcode)}: {escaped(slide.reason)}{renamed}"


def _models(models: tuple[ModelNight, ...]) -> list[str]:
    if not models:
        return []
    rows = [
        (
            Markdown(f"{escaped(model.title)} {code(model.model_id[:12])}"),
            "champion" if model.is_champion else "challenger",
            count(model.unclassified.total),
            Markdown(percent_with_interval(model.unclassified)),
        )
        for model in models
    ]
    return ["", markdown_table(("model", "", "cells called", "unclassified"), rows, right=(2, 3))]


def _stages(stages: tuple[StageNight, ...]) -> list[str]:
    if not stages:
        return []
    rows = [
        (
            stage.stage,
            count(stage.n_runs),
            count(stage.n_failed),
            count(stage.n_cells),
            f"{stage.duration_s:,.1f} s",
            "" if stage.cells_per_s is None else number(stage.cells_per_s),
        )
        for stage in stages
    ]
    return ["", markdown_table(("stage", "runs", "failed", "cells", "time", "cells/s"), rows, right=range(1, 6))]


def _section(title: str, items: list[str], most: int | None = _MOST_LISTED) -> list[str]:
    if not items:
        return []
    shown = items[:most]
    more = [f"- and {len(items) - len(shown):,} more"] if len(items) > len(shown) else []
    return ["", f"**{title}**", "", *(f"- {item}" for item in shown), *more]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())
