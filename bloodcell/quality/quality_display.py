"""Shows on the terminal what the quality control holds, and the figures of the last night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bloodcell.presentation.numbers import counted, moment, percent_with_interval
from bloodcell.presentation.tables import boxed_table, plain_table
from bloodcell.quality.moving_figures import FIGURE_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bloodcell.quality.external_rounds import ExternalRound
    from bloodcell.quality.quality_status import QualityStatus


def show_quality(found: QualityStatus, signed_before: Mapping[int, int]) -> None:
    """Prints what holds results, what was overridden, and the newest night of each figure.

    Args:
        found: What the quality control says.
        signed_before: Check id -> slides that it holds and whose result had been signed.
    """
    console = Console()
    if found.charts:
        table = boxed_table(
            "analyser", "figure", "night", "value", "expected", "limits", "", right=("value", "expected")
        )
        for chart in found.charts:
            point = chart.points[-1]
            is_learnt = point.center is None
            table.add_row(
                Text(chart.analyser or "unknown"),
                FIGURE_NAMES.get(chart.subject, f"slides above the usual share: {chart.subject}"),
                str(point.night),
                f"{point.value:.4g}",
                "" if point.center is None else f"{point.center:.4g}",
                "" if point.lower is None or point.upper is None else f"{point.lower:.4g} to {point.upper:.4g}",
                Text(
                    "not judged" if is_learnt else "ok" if point.passed else "failed",
                    style="" if point.passed else "bold red",
                ),
            )
        console.print(table)
    if found.overrides:
        listed = plain_table("check", "night", "what", "overridden by", "at", "reason")
        for each in found.overrides:
            listed.add_row(
                str(each.check_id), str(each.night or ""), Text(each.subject), Text(each.overridden_by),
                moment(each.overridden_at), Text(each.override_reason),
            )  # fmt: skip
        console.print("Overridden", listed)
    if not found.failed:
        console.print("Nothing is held.")
        return
    held = plain_table("check", "night", "analyser", "what", "slides", "signed", "reason", right=("slides", "signed"))
    for failed in found.failed:
        held.add_row(
            str(failed.check_id), str(failed.night or ""), Text(failed.analyser or ""), Text(failed.subject),
            f"{failed.n_slides:,}", f"{signed_before.get(failed.check_id, 0):,}", Text(failed.reason),
        )  # fmt: skip
    console.print("Held", held)
    console.print(
        f"{counted(len(found.failed), 'failed check')}. Next: fix the cause; or bloodcell quality override CHECK "
        "--reason R, which is kept with your name.",
        highlight=False,
    )


def show_rounds(found: Sequence[ExternalRound]) -> None:
    """Prints the rounds of external quality assessment, and the scores of those that are over."""
    console = Console()
    if not found:
        console.print(
            "There is no round. Next: add a [[round]] to the quality file (BLOODCELL_QUALITY_FILE).", markup=False
        )
        return
    table = boxed_table("round", "due", "", "cells", "targets", "read by", right=("cells", "targets"))
    for each in found:
        readers = ", ".join(f"{person} {n}" for person, n in each.readers.items())
        table.add_row(
            each.name, moment(each.due), "open" if each.is_open else "over", f"{each.n_cells:,}",
            f"{each.n_targets:,}", readers,
        )  # fmt: skip
    console.print(table)
    scores = plain_table("round", "reader", "cells", "called", "agree", right=("cells", "called"))
    for each in found:
        for score in each.scores:
            reader = f"{score.reader} {score.model_id[:12]}" if score.model_id else score.reader
            agreement = percent_with_interval(score.agreement)
            scores.add_row(each.name, reader, f"{score.n_cells:,}", f"{score.n_answered:,}", agreement)
    if scores.row_count:
        console.print("Scores", scores)
    if waiting := [each.name for each in found if not each.is_open and each.n_targets < each.n_cells]:
        console.print(
            f"Without targets: {', '.join(waiting)}. Next: bloodcell quality targets ROUND FILE", markup=False
        )
