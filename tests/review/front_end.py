"""What the tests of the front end share: a desk, a browser, and a page whose console has to stay silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.review.front_end_server import FrontEndDesk, front_end_desk

Visit = Callable[..., Page]
expect.set_options(timeout=15_000)  # on a machine that is busy with other tests
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
EXPECTED_IN_CONSOLE = ("Failed to load resource", "ERR_INTERNET_DISCONNECTED", NETWORK_CHANGED)
"""What Chromium itself writes about an answer with an error, which the tests bring about."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; no browser can be downloaded here."""
    path = shutil.which("chromium")
    if not path:
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def desk() -> Iterator[FrontEndDesk]:
    """A desk that serves the front end: `url`, `make_slide`, and what other people do meanwhile."""
    with front_end_desk() as served:
        yield served


@pytest.fixture
def visit(browser: Browser, desk: FrontEndDesk) -> Iterator[Visit]:
    """A function that opens a path of the desk in a context of its own, or in that of `context`."""
    said: list[str] = []
    with ExitStack() as closing:

        def opened(path: str, context: BrowserContext | None = None, **options: object) -> Page:
            if context is None:
                context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
                context.set_default_timeout(8000)
                closing.callback(context.close)
            page = context.new_page()
            page.on(
                "console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None
            )
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: dialog.accept())
            _open(page, desk.url + path)
            return page

        yield opened
    unexpected = [text for text in said if not any(known in text for known in EXPECTED_IN_CONSOLE)]
    assert not unexpected, unexpected


def _open(page: Page, url: str) -> None:
    """Opens a page; again if the machine's network changed meanwhile, as other tests' namespaces bring about."""
    lost: list[str] = []
    page.on("requestfailed", lambda sent: lost.append(sent.url) if NETWORK_CHANGED in (sent.failure or "") else None)
    for _ in range(5):
        lost.clear()
        page.goto(url)
        if not lost:
            return


def gallery(page: Page, n_cells: int) -> None:
    """Waits until the gallery shows this many cells."""
    expect(page.locator("[data-cell]")).to_have_count(n_cells)


def current(page: Page) -> int:
    """Returns the id of the cell that has the focus."""
    return int(page.locator("[data-cell][tabindex='0']:focus").get_attribute("data-cell") or 0)


def section_of(page: Page, cell_id: int) -> str:
    """Returns the title of the section that shows a cell."""
    return str(
        page.evaluate(
            f"document.getElementById('cell-{cell_id}').closest('section').querySelector('h2').firstChild.data.trim()"
        )
    )


def saved(page: Page) -> None:
    """Waits until nothing waits to be saved."""
    expect(page.locator(".saving-state")).to_have_text("✔ Saved")


def drag(page: Page, source: Locator, target: Locator) -> None:
    """Drags with several moves, as a hand does: the browser tells a target only of the second one."""
    source.hover()
    page.mouse.down()
    target.hover()
    target.hover(position={"x": 30, "y": 12})
    target.hover(position={"x": 34, "y": 14})
    page.mouse.up()
