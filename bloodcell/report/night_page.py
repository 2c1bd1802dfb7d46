"""Writes a night's summary as one self-contained HTML page, which a person opens in a browser."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.cells.names import composed
from bloodcell.differential.reference_ranges import FLAG_NAMES
from bloodcell.errors import ConfigurationError
from bloodcell.inbox.night_folders import read_drops
from bloodcell.presentation.templates import render_page
from bloodcell.report.night_report import night_summary
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import code_version
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bloodcell.report.night_report import NightSummary
    from bloodcell.settings import InboxSettings, StorageSettings
    from bloodcell.storage.database import Database


_SQL: Final = load_statements("report/night_page.sql")


def summaries_folder(settings: StorageSettings) -> Path:
    """Returns the folder of the nights' pages."""
    return settings.data_dir / "summaries"


def write_night_page(settings: StorageSettings, summary: NightSummary, problems: Mapping[str, str]) -> Path:
    """Writes a night's page, completely or not at all, and returns its path; an earlier page of the night is replaced.

    Args:
        settings: Where the page is kept.
        summary: The night.
        problems: What in the drops folder is no night, as `bloodcell.inbox.read_drops` returns it.

    Raises:
        ConfigurationError: The page cannot be written.
    """
    path = summaries_folder(settings) / f"{summary.night}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(path), render(summary, problems).encode())
    except OSError as error:
        raise ConfigurationError(
            f"The summary of the night {summary.night} cannot be written to {path} ({error.strerror}); its results are "
            "in the database. Free some space or correct the permissions, then trigger the night again."
        ) from error
    return path


def rewrite_night_pages(settings: InboxSettings, database: Database, nights: Iterable[date]) -> None:
    """Writes the pages of these nights again, after a result was withdrawn; a night without a page gets none.

    Raises:
        ConfigurationError: A page cannot be written.
    """
    for night in sorted(set(nights)):
        if (summaries_folder(settings) / f"{night}.html").exists():
            write_night_page(settings, night_summary(database, night), _problems(settings))


def rewrite_pages_of_slide(settings: InboxSettings, barcode: str) -> None:
    """Writes the pages of a slide's nights again; does nothing where no pages are kept.

    Raises:
        ConfigurationError: This login may not read what a page shows, or a page cannot be written.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    if any(summaries_folder(settings).glob("*.html")):
        database = open_database(settings)
        of_slide = {"barcode": composed(barcode)}
        nights = database.transact(lambda connection: connection.scalars(_SQL["nights_of_slide"], of_slide).all())
        rewrite_night_pages(settings, database, nights)


def refresh_night_pages(settings: InboxSettings, database: Database) -> None:
    """Writes the pages again of which a result is newer than the page, because of labels or a signature.

    Raises:
        ConfigurationError: A page cannot be written.
    """
    pages = {page.stem: page.stat().st_mtime for page in summaries_folder(settings).glob("*.html")}
    if pages:
        newest = database.transact(lambda connection: connection.execute(_SQL["newest_results"]).all())
        rewrite_night_pages(
            settings, database, [night for night, made_at in newest if made_at.timestamp() > pages.get(str(night), 0)]
        )


def _problems(settings: InboxSettings) -> Mapping[str, str]:
    try:
        return read_drops(settings).problems
    except ConfigurationError:  # the share is not mounted, which the next run reports
        return {}


def render(summary: NightSummary, problems: Mapping[str, str]) -> str:
    """Returns the page.

    Args:
        summary: The night.
        problems: What in the drops folder is no night: name -> what is wrong.
    """
    return render_page(
        Path(__file__).with_name("night_page.html.j2"),
        summary=summary,
        problems=problems,
        slides=summary.slides,
        names=CLASS_NAMES,
        flag_names=FLAG_NAMES,
        code_version=code_version(),
        now=datetime.now(UTC),
    )
