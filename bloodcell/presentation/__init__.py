"""Defines how figures, tables, progress bars and pages look; each format exists once, and every room uses it.

numbers         percentages, intervals, differences, counts and times as text
markdown        escaped text, code and tables in Markdown
json_documents  records as JSON
tables          tables on a terminal
progress        progress bars on a terminal
templates       HTML pages from Jinja templates
"""

from __future__ import annotations

from bloodcell.presentation.json_documents import json_text, proportion_json
from bloodcell.presentation.markdown import Markdown, bold, code, escaped, markdown_table
from bloodcell.presentation.numbers import (
    Estimate,
    count,
    counted,
    interval,
    moment,
    number,
    number_with_interval,
    p_value,
    percent,
    percent_with_interval,
    points,
    points_with_interval,
    probability,
)
from bloodcell.presentation.progress import changing_bar, counting_bar, step_bars
from bloodcell.presentation.tables import boxed_table, plain_table
from bloodcell.presentation.templates import render_page
from bloodcell.visible_text import visible, visible_line

__all__ = [
    "Estimate",
    "Markdown",
    "bold",
    "boxed_table",
    "changing_bar",
    "code",
    "count",
    "counted",
    "counting_bar",
    "escaped",
    "interval",
    "json_text",
    "markdown_table",
    "moment",
    "number",
    "number_with_interval",
    "p_value",
    "percent",
    "percent_with_interval",
    "plain_table",
    "points",
    "points_with_interval",
    "probability",
    "proportion_json",
    "render_page",
    "step_bars",
    "visible",
    "visible_line",
]
