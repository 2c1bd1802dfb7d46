"""A slide's report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.differential.reference_ranges import ADULT_RANGES, FLAG_NAMES
from bloodcell.errors import ConfigurationError
from bloodcell.report.slide_report import SlideReport, read_report
from bloodcell.report.thumbnails import thumbnails
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.runs import code_version

if TYPE_CHECKING:
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store


def write_report(
    database: Database, store: Store, barcode: str, path: Path, *, model_id: str | None = None
) -> SlideReport:
    """Writes a slide's report to `path`, whole or not at all, and returns what it shows.

    Args:
        database: The database.
        store: Where the images lie.
        barcode: The slide's.
        path: HTML file to write; replaced where it exists.
        model_id: Whose calls, an id or its beginning; None: the reported ones.

    Raises:
        UnknownRecordError: No such slide or model, or its cells are not called yet.
        StoreUnavailableError: The store is away. A single image missing from it leaves a gap with a note instead.
        ConfigurationError: The file cannot be written there.
    """
    report = read_report(database, barcode, model_id)
    page = render(report, thumbnails(store, sorted({cell.sha256 for cell in report.cells})))
    try:
        write_atomically(str(path), page.encode())
    except OSError as error:
        raise ConfigurationError(f"The report cannot be written to {path}: {error}. Choose another file.") from error
    return report


def render(report: SlideReport, pictures: dict[str, str]) -> str:
    """Returns the page.

    Args:
        report: What to show.
        pictures: Digest -> `data:` URI; a cell without one is shown with a note in its place.
    """
    read = report.differential
    return (
        _environment()
        .get_template("slide_page.html.j2")
        .render(
            report=report,
            slide=report.slide,
            read=read,
            differential=read.differential if read else None,
            pictures=pictures,
            names=CLASS_NAMES,
            flag_names=FLAG_NAMES,
            ranges=ADULT_RANGES,
            sources=_sources(),
            code_version=code_version(),
            now=datetime.now(UTC),
        )
    )


def page_environment(folder: Path) -> Environment:
    """Returns what renders the pages whose templates lie in `folder`: all escaped, nothing undefined let pass."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "thousands": lambda number: f"{number:,}",
        "moment": lambda value: "" if value is None else f"{value:%Y-%m-%d %H:%M %Z}".strip(),
    }
    return environment


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {
        "number": lambda value: "–" if value is None else f"{value:.1f}",
        "limits": lambda limits: "" if limits is None else f"{limits[0]:.1f}–{limits[1]:.1f}",
        "probability": lambda value: "> 99 %" if value > 0.99 else f"{value:.0%}".replace("%", " %"),
    }
    return environment


def visible(value: object) -> str:
    """Returns text in which control and direction characters are spelt out, so that a name cannot pass for another."""
    return "".join(
        char if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else f"\\u{ord(char):04x}"
        for char in str(value)
    )


def _sources() -> list[tuple[str, list[str]]]:
    """Each source once, with the groups whose range it gives."""
    classes: dict[str, list[str]] = {}
    for cell_class, expected in ADULT_RANGES.items():
        classes.setdefault(expected.source, []).append(CLASS_NAMES[cell_class].lower())
    return list(classes.items())
