"""HTML pages from Jinja templates: everything is escaped, and a name that is not defined is an error.

A template is beside the module that renders it and extends `page_base.html.j2`, which holds the head and the style that
all pages share. Invisible characters are spelt out in everything that a template shows. Filters show figures as
`bloodcell.presentation.numbers` does.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcell.presentation import numbers
from bloodcell.visible_text import visible, visible_lines

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: Path, **values: object) -> str:
    """Returns the page that a template makes from `values`.

    Args:
        template: The template's file.
        values: The values that the template uses, by name; a missing one is an error.
    """
    return page_environment(template.parent).get_template(template.name).render(values)


def _shown(value: object) -> object:
    return visible_lines(value) if type(value) is str else value  # not Markup, which is part of the page


@cache
def page_environment(folder: Path) -> Environment:
    """Returns Jinja's environment for the templates of a folder, with the filters that all pages share.

    Args:
        folder: Where the templates are.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "count": numbers.count,
        "number": numbers.number,
        "interval": numbers.interval,
        "number_with_interval": numbers.number_with_interval,
        "percent": numbers.percent,
        "percent_with_interval": numbers.percent_with_interval,
        "probability": numbers.probability,
        "points": numbers.points,
        "points_with_interval": numbers.points_with_interval,
        "moment": numbers.moment,
    }
    return environment
