"""Renders a slide's report as one self-contained HTML page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.differential.reference_ranges import ADULT_RANGES, FLAG_NAMES
from bloodcell.errors import ConfigurationError
from bloodcell.presentation.templates import render_page
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
    """Writes a slide's report to `path`, completely or not at all, and returns its content.

    Args:
        database: The database.
        store: The store of the images.
        barcode: The slide.
        path: HTML file to write; an existing file is replaced.
        model_id: Id of the model, or its first characters; None: the reported model.

    Raises:
        UnknownRecordError: There is no such slide or model, or the slide's cells have not been called yet.
        StoreUnavailableError: The store is unavailable. A single missing image leaves a gap with a note instead.
        ConfigurationError: The file cannot be written.
    """
    report = read_report(database, barcode, model_id)
    page = render(report, thumbnails(store, sorted({cell.sha256 for cell in report.cells if cell.has_image})))
    try:
        write_atomically(str(path), page.encode())
    except OSError as error:
        raise ConfigurationError(f"The report cannot be written to {path}: {error}. Choose another file.") from error
    return report


def render(report: SlideReport, pictures: dict[str, str]) -> str:
    """Returns the page.

    Args:
        report: The content.
        pictures: Digest -> `data:` URI; a cell without a picture has a note in its place.
    """
    read = report.differential
    return render_page(
        Path(__file__).with_name("slide_page.html.j2"),
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


def _sources() -> list[tuple[str, list[str]]]:
    """Returns each source once, with the classes whose ranges it gives."""
    classes: dict[str, list[str]] = {}
    for cell_class, expected in ADULT_RANGES.items():
        classes.setdefault(expected.source, []).append(CLASS_NAMES[cell_class].lower())
    return list(classes.items())
