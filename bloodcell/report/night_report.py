"""One night in figures, and as Markdown for the run's page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.differential.reference_ranges import FLAG_NAMES
from bloodcell.errors import UnknownRecordError
from bloodcell.presentation.markdown import Markdown, code, escaped, markdown_table
from bloodcell.presentation.numbers import count, counted, number, percent_with_interval

if TYPE_CHECKING:
    from datetime import date

    from bloodcell.storage.database import Database

_MOST_LISTED: Final = 25
"""Slides a list names; a run's page is read at a glance, the database has the rest."""


@dataclass(frozen=True, slots=True)
class NightSlide:
    """A slide of the night as it is reported.

    Attributes:
        barcode: The slide's.
        n_cells: Its cells, called or not.
        n_waiting: Those that are in no reported differential yet.
        n_unclassified: Cells for review, by the reported model.
        is_sufficient: Whether enough leucocytes were counted; None without a report.
        flags: Class -> flag.
        foreign_codes: Analyser codes outside the eight groups, with the cells of each.
    """

    barcode: str
    n_cells: int
    n_waiting: int
    n_unclassified: int
    is_sufficient: bool | None
    flags: Mapping[str, str]
    foreign_codes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelNight:
    """What one model did that night.

    Attributes:
        is_champion: Whether it is champion now.
        unclassified: Cells it left without a call, of those that went through it.
    """

    model_id: str
    variant: str
    is_champion: bool
    unclassified: Proportion


@dataclass(frozen=True, slots=True)
class StageNight:
    """The runs of one stage over the night.

    Attributes:
        stage: Name of the stage.
        n_runs: All of them, failed and unfinished ones too.
        n_failed: Those that failed.
        n_cells: Cells the successful ones worked on.
        duration_s: Time the successful ones took, added up.
    """

    stage: str
    n_runs: int
    n_failed: int
    n_cells: int
    duration_s: float

    @property
    def cells_per_s(self) -> float | None:
        """Throughput, None where there is nothing to divide."""
        return self.n_cells / self.duration_s if self.n_cells and self.duration_s else None


@dataclass(frozen=True, slots=True)
class NightSummary:
    """One night.

    Attributes:
        night: Its date.
        completed_at: When every slide of it had been read; None: some are still being written.
        files: Outcome -> files of the drop.
        quarantined: Reason -> files, the most frequent first.
        slides: Slides with files of this night, by barcode.
        models: Models that called cells of it, the champion first.
        stages: Stages that ran over it.
    """

    night: date
    completed_at: datetime | None
    files: Mapping[str, int]
    quarantined: Mapping[str, int]
    slides: tuple[NightSlide, ...]
    models: tuple[ModelNight, ...]
    stages: tuple[StageNight, ...]


def night_summary(database: Database, night: date) -> NightSummary:
    """Returns what became of a night.

    Raises:
        UnknownRecordError: The night was never ingested.
    """
    return database.transact(lambda connection: _summary(connection, night), patience_s=0)


def night_markdown(summary: NightSummary) -> str:
    """Returns the summary as Markdown; names from outside are escaped."""
    slides = summary.slides
    waiting = [slide for slide in slides if slide.n_waiting]
    insufficient = [slide for slide in slides if slide.is_sufficient is False]
    flagged = [slide for slide in slides if slide.flags]
    lines = [
        f"## Night {summary.night}",
        "" if summary.completed_at else "\n**Not complete: some slides are still being written.**\n",
        f"{counted(sum(summary.files.values()), 'file')}: " + (_listed(summary.files) or "none"),
        "",
        f"{counted(len(slides), 'slide')}, {sum(slide.n_cells for slide in slides):,} cells: "
        f"{sum(slide.is_sufficient is not None and not slide.n_waiting for slide in slides):,} reported, "
        f"{len(waiting):,} waiting, {len(insufficient):,} with an insufficient count, {len(flagged):,} flagged; "
        f"**{sum(slide.n_unclassified for slide in slides):,} unclassified cells to review**",
        *_section(
            "Analyser codes that no model knows, to look at first",
            [f"{escaped(s.barcode)}: {escaped(_listed(s.foreign_codes))}" for s in slides if s.foreign_codes],
        ),
        *_section(
            "Waiting for calls", [f"{escaped(s.barcode)}: {s.n_waiting:,} of {s.n_cells:,} cells" for s in waiting]
        ),
        *_section("Flagged", [f"{escaped(slide.barcode)}: {_flags(slide.flags)}" for slide in flagged]),
        *_section("Insufficient count", [escaped(slide.barcode) for slide in insufficient]),
        *_section("Set aside", [f"{escaped(reason)}: {n:,}" for reason, n in summary.quarantined.items()]),
        *_models(summary.models),
        *_stages(summary.stages),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _summary(connection: sa.Connection, night: date) -> NightSummary:
    def rows(statement: str) -> list[sa.Row[Any]]:
        return list(connection.execute(sa.text(statement), {"night": night}))

    drop = rows("SELECT completed_at FROM bloodcell.drop WHERE night = :night")
    if not drop:
        raise UnknownRecordError(f"Night {night} was never ingested. Run `bloodcell ingest NIGHT_FOLDER`.")
    return NightSummary(
        night=night,
        completed_at=drop[0].completed_at,
        files=MappingProxyType({row.outcome: row.n for row in rows(_FILES)}),
        quarantined=MappingProxyType({row.reason: row.n for row in rows(_REASONS)}),
        slides=tuple(_night_slide(row) for row in rows(_SLIDES)),
        models=tuple(
            ModelNight(row.model_id, row.variant, row.is_champion, proportion(row.n_unclassified, row.n))
            for row in rows(_MODELS)
        ),
        stages=tuple(StageNight(**row._mapping) for row in rows(_STAGES)),
    )


_FILES: Final = """
    SELECT outcome, count(*) AS n FROM bloodcell.drop_file WHERE night = :night
    GROUP BY outcome ORDER BY n DESC, outcome
"""
_REASONS: Final = """
    SELECT reason, count(*) AS n FROM bloodcell.drop_file WHERE night = :night AND outcome = 'quarantined'
    GROUP BY reason ORDER BY n DESC, reason
"""
# A slide's cells may come in several nights; it is reported as a whole in each of them.
_SLIDES: Final = """
    SELECT s.barcode, c.n_cells, c.n_cells - coalesce(r.n_cells, 0) AS n_waiting,
           coalesce(r.n_unclassified, 0) AS n_unclassified, r.is_sufficient,
           coalesce((SELECT jsonb_object_agg(d.class, d.flag) FROM bloodcell.differential d
                     WHERE d.slide_id = r.slide_id AND d.model_id = r.model_id AND d.flag IS NOT NULL), '{}') AS flags,
           coalesce((SELECT jsonb_object_agg(f.analyser_code, f.n) FROM (
                         SELECT analyser_code, count(*) AS n FROM bloodcell.cell
                         WHERE slide_id = s.slide_id AND analyser_code IS NOT NULL AND analyser_class IS NULL
                         GROUP BY analyser_code) f), '{}') AS foreign_codes
    FROM bloodcell.slide s
    CROSS JOIN LATERAL (SELECT count(*) AS n_cells FROM bloodcell.cell WHERE slide_id = s.slide_id) c
    LEFT JOIN (bloodcell.slide_report r JOIN bloodcell.slide_reported_model USING (slide_id, model_id))
        ON r.slide_id = s.slide_id
    WHERE s.night = :night OR EXISTS (SELECT 1 FROM bloodcell.cell n WHERE n.slide_id = s.slide_id AND n.night = :night)
    ORDER BY s.barcode
"""
_MODELS: Final = """
    SELECT m.model_id, m.variant, m.model_id IS NOT DISTINCT FROM (SELECT model_id FROM bloodcell.champion)
               AS is_champion, count(*) AS n, count(*) FILTER (WHERE k.called_class = 'unclassified') AS n_unclassified
    FROM bloodcell.cell_call k JOIN bloodcell.model m USING (model_id)
    WHERE k.night = :night GROUP BY m.model_id, m.variant ORDER BY is_champion DESC, m.variant, m.model_id
"""
_STAGES: Final = """
    SELECT stage, count(*) AS n_runs, count(*) FILTER (WHERE state = 'failed') AS n_failed,
           coalesce(sum(n_cells) FILTER (WHERE state = 'succeeded'), 0) AS n_cells,
           coalesce(extract(epoch FROM sum(ended_at - started_at) FILTER (WHERE state = 'succeeded')), 0)::float
               AS duration_s
    FROM bloodcell.run WHERE night = :night GROUP BY stage ORDER BY min(started_at), stage
"""


def _night_slide(row: sa.Row[Any]) -> NightSlide:
    frozen = {name: MappingProxyType(row._mapping[name]) for name in ("flags", "foreign_codes")}
    return NightSlide(**{**row._mapping, **frozen})


def _models(models: tuple[ModelNight, ...]) -> list[str]:
    if not models:
        return []
    rows = [
        (
            Markdown(f"{escaped(model.variant)} {code(model.model_id[:12])}"),
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


def _section(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f"- and {len(items) - _MOST_LISTED:,} more"] if len(items) > _MOST_LISTED else []
    return ["", f"**{title}**", "", *(f"- {item}" for item in items[:_MOST_LISTED]), *more]


def _flags(flags: Mapping[str, str]) -> str:
    names = {str(flag): name for flag, name in FLAG_NAMES.items()}
    return ", ".join(f"{CLASS_NAMES[cell_class].lower()} {names[flag]}" for cell_class, flag in sorted(flags.items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())
