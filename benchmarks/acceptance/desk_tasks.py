"""Counts the steps of five tasks at the review desk, as a new user would do them.

    python -m benchmarks.acceptance.desk_tasks WORK

WORK is an empty folder for the data. Writes DESK_TASKS.md. A step is a click, a key, a drag, or a field that is filled
in; moving the pointer and reading are none. Each task begins where the one before has left the person, and is checked
to have worked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import expect, sync_playwright

from docs.generator.drawn_desk import PASSWORD, drawn_desk, read_all, saved

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

RESULTS: Final = Path(__file__).with_name("DESK_TASKS.md")


@dataclass(slots=True)
class Steps:
    """What a person does in a browser, counted by kind.

    Attributes:
        page: The browser's page.
        clicks: Clicks and double clicks.
        keys: Keys that are pressed, but not those that type into a field.
        drags: Drags.
        fields: Fields that are filled in.
        pages: Pages that are loaded.
    """

    page: Page
    clicks: int = 0
    keys: int = 0
    drags: int = 0
    fields: int = 0
    pages: int = 0
    _ways: list[str] = field(default_factory=list)

    def click(self, what: Locator, way: str, *, double: bool = False, button: str = "left") -> None:
        if double:
            what.dblclick()
        else:
            what.click(button=button)  # type: ignore[arg-type]
        self.clicks += 1
        self._ways.append(way)

    def key(self, key: str, way: str) -> None:
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(150)  # a person's pace; the focus goes to the next cell with the next frame
        self.keys += 1
        self._ways.append(way)

    def drag(self, what: Locator, target: Locator, way: str) -> None:
        what.drag_to(target)
        self.drags += 1
        self._ways.append(way)

    def fill(self, what: Locator, text: str, way: str) -> None:
        what.fill(text)
        self.fields += 1
        self._ways.append(way)

    @property
    def total(self) -> int:
        return self.clicks + self.keys + self.drags + self.fields

    @property
    def ways(self) -> str:
        return "; ".join(self._ways)


def most_urgent(steps: Steps) -> None:
    """Find the most urgent slide, and open it."""
    first = steps.page.locator("tbody tr").first
    expect(first).to_contain_text("withheld")
    steps.click(first.locator("a"), "click the barcode in the first row")
    steps.page.wait_for_selector("[data-cell]")


def correct_by_keyboard(steps: Steps) -> None:
    """Correct three cells that need a person, by keyboard."""
    before = steps.page.locator(".cell.labelled").count()
    steps.key("n", "`n` to the first")
    for key in "bbb":
        steps.key(key, f"`{key}`")
    saved(steps.page)
    expect(steps.page.locator(".cell.labelled")).to_have_count(before + 3)


def correct_by_mouse(steps: Steps) -> None:
    """Correct three cells anywhere, by mouse."""
    before = steps.page.locator(".cell.labelled").count()
    for _ in range(3):
        cell = steps.page.locator("section.cells:has(#of-unclassified) [data-cell]").first
        cell.scroll_into_view_if_needed()
        steps.drag(cell, steps.page.locator("#panel tr[data-line=neutrophil]"), "drag onto the line")
    saved(steps.page)
    expect(steps.page.locator(".cell.labelled")).to_have_count(before + 3)


def who_changed(steps: Steps) -> None:
    """See who changed a cell, when, and as what."""
    steps.click(steps.page.locator(".cell.labelled").first, "double click on the cell", double=True)
    expect(steps.page.locator("dialog .history")).to_contain_text("amartin")


def sign(steps: Steps) -> None:
    """Sign the slide, with nothing missing."""
    steps.key("s", "`s`")
    for box in steps.page.locator("#signing [type=checkbox]").all():
        steps.click(box, "tick a reason")
    steps.click(steps.page.locator("#signing [name=state]"), "choose final")
    steps.fill(steps.page.locator("#signing [type=password]"), PASSWORD, "password")
    steps.key("Enter", "Enter")
    expect(steps.page.locator("#signing .success")).to_be_visible(timeout=20_000)


def reported(steps: Steps) -> None:
    """Find what was reported for the slide at a moment, and open that result."""
    steps.click(steps.page.locator("nav a:has-text('Reported on a date')"), "*Reported on a date*")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    steps.fill(steps.page.locator("[name=date]"), now, "the moment")
    steps.click(steps.page.locator("main form button"), "*Show*")
    steps.click(steps.page.locator("tr:has-text('S26-0413') td a").first, "the version")
    expect(steps.page.locator(".report")).to_contain_text("S26-0413")


TASKS: Final[tuple[tuple[str, Callable[[Steps], None]], ...]] = (
    ("find the most urgent slide", most_urgent),
    ("correct three cells, by keyboard", correct_by_keyboard),
    ("correct three cells, by mouse", correct_by_mouse),
    ("see who changed a cell", who_changed),
    ("sign", sign),
    ("find what was reported on a date", reported),
)


def _finish(page: Page, truth: dict[str, str]) -> None:
    """Labels what is left, and has blasts read by the second person, which is no part of a task."""
    keys = {"neutrophil": "1", "eosinophil": "2", "lymphocyte": "4", "monocyte": "5", "ig": "6", "platelet": "8"}
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("[data-cell]")
    for cell in page.evaluate("JSON.parse(document.getElementById('slide').textContent).cells"):
        if cell["needs"] == "unclassified":
            page.locator(f"#cell-{cell['cell_id']}").focus()
            page.keyboard.press(keys[truth[cell["file_name"]]])
            page.wait_for_timeout(150)
    saved(page)


def _log_in(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")


def measured(work: Path) -> list[tuple[str, Steps]]:
    """Returns each task with its steps."""
    found = []
    with drawn_desk(work) as desk, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB").new_page()
        loaded: list[str] = []
        page.on("framenavigated", lambda frame: loaded.append(frame.url))
        _log_in(page, desk.url, "amartin")
        for name, task in TASKS:
            if task is sign:
                _finish(page, {file: drawn for (barcode, file), drawn in desk.truth.items() if barcode == "S26-0413"})
                other = browser.new_context().new_page()
                _log_in(other, desk.url, "bweber")
                other.goto(f"{desk.url}/second")
                read_all(other, "b")
                page.reload()
                page.wait_for_selector("#signing form")
            loaded.clear()
            steps = Steps(page)
            task(steps)
            steps.pages = len(loaded)
            found.append((name, steps))
        browser.close()
    return found


def main() -> int:
    """Reads the command line, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="an empty folder for the data")
    found = measured(parser.parse_args().work)
    rows = "".join(
        f"| {name} | {steps.total} | {steps.clicks} | {steps.keys} | {steps.drags} | {steps.fields} | {steps.pages} "
        f"| {steps.ways} |\n"
        for name, steps in found
    )
    head, others = RESULTS.read_text().split("<!-- steps -->\n")[::2]
    table = "| task | steps | clicks | keys | drags | fields | pages loaded | which |\n"
    table += "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n" + rows
    RESULTS.write_text(f"{head}<!-- steps -->\n{table}<!-- steps -->\n{others}")
    sys.stdout.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
