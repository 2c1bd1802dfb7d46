"""Slides with pictures, their pages, and what a person reads there."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from bloodcell.report.slide_page import write_report
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory


def stored(store: Store, colour: tuple[int, int, int], size_px: tuple[int, int] = (150, 151)) -> str:
    """Stores an image of one colour and returns its digest."""
    body = io.BytesIO()
    Image.new("RGB", size_px, colour).save(body, "PNG")
    digest = hashlib.sha256(body.getvalue()).hexdigest()
    store.put_image(digest, body.getvalue())
    return digest


def counted_slide(
    laboratory: Laboratory, store: Store, cells: Sequence[tuple[str | None, str, int]], **columns: object
) -> list[int]:
    """The slide S-1, counted: analyser code, call and number of cells; returns the cells."""
    codes = [code for code, _, n in cells for _ in range(n)]
    slide = laboratory.slide("S-1", **columns)
    added = laboratory.cells(slide, codes, [stored(store, (i % 256, i // 256, 3)) for i in range(len(codes))])
    laboratory.call(added, [called for _, called, n in cells for _ in range(n)])
    laboratory.count(slide)
    return added


def written(laboratory: Laboratory, store: Store, folder: Path, barcode: str = "S-1", model: str | None = None) -> str:
    path = folder / "report.html"
    write_report(laboratory.database, store, barcode, path, model_id=model)
    assert [p.name for p in folder.glob("*report*")] == ["report.html"]
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def words(markup: str) -> str:
    """The words of a part of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading: the text of each cell."""
    table = page.partition(f"<h2>{heading}")[2].partition("</table>")[0]
    return [
        [words(cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)] for row in table.split("<tr")[2:]
    ]


def notices(page: str) -> list[str]:
    """What a person has to know before the numbers."""
    return [words(notice) for notice in re.findall(r'<p class="notice.*?</p>', page, re.DOTALL)]


def facts(page: str) -> dict[str, str]:
    """The facts at the top of the page."""
    top = page.partition('<dl class="facts">')[2].partition("</dl>")[0]
    return {words(name): words(value) for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", top)}


def status(page: str) -> str:
    """The state beside the slide's barcode."""
    found = re.search(r'<div class="status.*?</div>', page)
    return words(found.group()) if found else ""


def gallery(page: str) -> dict[str, list[str]]:
    """Heading of a section of the gallery -> the captions of its cells."""
    sections = page.partition('<h2 id="cells">')[2].split("<section>")[1:]
    return {
        words(section.partition("</h3>")[0]): [
            words(caption) for caption in re.findall(r"<figcaption.*?</figcaption>", section, re.DOTALL)
        ]
        for section in (each.partition("</section>")[0] for each in sections)
    }
