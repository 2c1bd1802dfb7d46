"""Renders a slide's report as one self-contained HTML page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.differential.laboratory_rules import age_text
from bloodcell.differential.reference_ranges import FLAG_NAMES
from bloodcell.errors import ConfigurationError
from bloodcell.presentation.templates import render_page
from bloodcell.report.pictures import pictures
from bloodcell.report.slide_report import SlideReport, read_report
from bloodcell.results.result_display import attention, line_name, state_text
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.runs import code_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.differential.laboratory_rules import LaboratoryRules, ReferenceRange
    from bloodcell.storage.database import Database
    from bloodcell.storage.store import Store


def write_report(
    database: Database,
    store: Store,
    barcode: str,
    path: Path,
    *,
    model_id: str | None = None,
    version: int | None = None,
) -> SlideReport:
    """Writes a slide's report to `path`, completely or not at all, and returns its content.

    Args:
        database: The database.
        store: The store of the images.
        barcode: The slide.
        path: HTML file to write; an existing file is replaced.
        model_id: Id of the model, or its first characters; None: the reported model.
        version: Number of a version; None: the one in force.

    Raises:
        UnknownRecordError: There is no such slide, model or version, or the slide's cells have not been called yet.
        StoreUnavailableError: The store is unavailable. A single missing image leaves a gap with a note instead.
        ConfigurationError: The file cannot be written.
    """
    report = read_report(database, barcode, model_id=model_id, version=version)
    page = render(report, pictures(store, sorted({cell.sha256 for cell in report.cells if cell.has_image})))
    try:
        write_atomically(str(path), page.encode())
    except OSError as error:
        raise ConfigurationError(f"The report cannot be written to {path}: {error}. Choose another file.") from error
    return report


def render(report: SlideReport, images: dict[str, str]) -> str:
    """Returns the page.

    Args:
        report: The content.
        images: Digest -> `data:` URI; a cell without a picture has a note in its place.
    """
    read = report.result
    expected = read.rules.ranges_for(read.facts.age_months, read.facts.sex) if read else {}
    return render_page(
        Path(__file__).with_name("slide_page.html.j2"),
        report=report,
        slide=report.slide,
        read=read,
        differential=read.differential if read else None,
        images=images,
        line_name=line_name,
        flag_names=FLAG_NAMES,
        state=state_text(read) if read else "",
        notices=attention(read) if read else [],
        age=age_text(read.facts.age_months) if read and read.facts.age_months is not None else None,
        ranges=expected,
        sources=_sources(read.rules, expected) if read else [],
        code_version=code_version(),
        now=datetime.now(UTC),
    )


def _sources(rules: LaboratoryRules, ranges: Mapping[str, ReferenceRange]) -> list[tuple[str, list[str]]]:
    """Returns each source once, with the classes whose ranges it gives."""
    classes: dict[str, list[str]] = {}
    for cell_class, expected in ranges.items():
        classes.setdefault(rules.source_of(expected), []).append(CLASS_NAMES[cell_class].lower())
    return list(classes.items())
