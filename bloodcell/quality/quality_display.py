"""Shows on the terminal what the quality control holds, and the figures of the last night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bloodcell.presentation.numbers import counted, moment
from bloodcell.presentation.tables import boxed_table, plain_table
from bloodcell.quality.moving_figures import FIGURE_NAMES

if TYPE_CHECKING:
    from bloodcell.quality.quality_status import QualityStatus


def show_quality(found: QualityStatus) -> None:
    """Prints what holds results, what was overridden, and the newest night of each figure."""
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
    held = plain_table("check", "night", "analyser", "what", "slides", "reason", right=("slides",))
    for failed in found.failed:
        held.add_row(
            str(failed.check_id), str(failed.night or ""), Text(failed.analyser or ""), Text(failed.subject),
            f"{failed.n_slides:,}", Text(failed.reason),
        )  # fmt: skip
    console.print("Held", held)
    console.print(
        f"{counted(len(found.failed), 'failed check')}. Next: fix the cause; or bloodcell quality override CHECK "
        "--reason R, which is kept with your name.",
        highlight=False,
    )
