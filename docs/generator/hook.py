"""MkDocs calls this at each build: the generated pages join those of the docs folder."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.generator.api import FOLDER as API_FOLDER
from docs.generator.api import api_pages
from docs.generator.commands import commands_page
from docs.generator.documents import document_pages
from docs.generator.errors import errors_page
from docs.generator.queries import queries_page
from docs.generator.settings import settings_page
from docs.generator.views import views_page

ROOT = Path(__file__).resolve().parents[2]


def on_config(config: MkDocsConfig) -> None:
    """Lists the pages of the Python API in the navigation, below the entry that names their folder."""
    pages = [page.path for page in api_pages(ROOT / "bloodcell")]
    config.nav = _with_api(config.nav, pages)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Returns the files of the site with the generated pages among them."""
    pages = [
        commands_page(),
        settings_page(),
        views_page(ROOT / "sql" / "views"),
        queries_page(ROOT / "sql" / "queries"),
        errors_page(),
        *api_pages(ROOT / "bloodcell"),
        *document_pages(ROOT),
    ]
    for page in pages:
        files.append(File.generated(config, page.path, content=page.text))
    return files


def _with_api(item: object, pages: list[str]) -> object:
    """The navigation with `reference/api/` replaced by the pages below it."""
    if isinstance(item, list):
        return [_with_api(entry, pages) for entry in item]
    if isinstance(item, dict):
        return {name: pages if entry == f"{API_FOLDER}/" else _with_api(entry, pages) for name, entry in item.items()}
    return item
