"""The report of a slide as a page, and of a night as a summary.

    slide_report  everything that the page of a slide shows
    slide_page    the report of a slide as one HTML page
    pictures      the cells' images on that page
    night_report  the summary of a night, as records and as Markdown
    night_page    the summary of a night as one HTML page

These modules only read from the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.report.night_page import write_night_page
    from bloodcell.report.night_report import NightSummary, night_markdown, night_summary
    from bloodcell.report.slide_page import write_report
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "NightSummary": "bloodcell.report.night_report",
            "night_markdown": "bloodcell.report.night_report",
            "night_summary": "bloodcell.report.night_report",
            "write_night_page": "bloodcell.report.night_page",
            "write_report": "bloodcell.report.slide_page",
        },
    )

__all__ = ["NightSummary", "night_markdown", "night_summary", "write_night_page", "write_report"]
