"""Takes the pictures of the review desk that `docs/review-desk.md` shows.

    python -m docs.generator.screenshots WORK

WORK is an empty folder for the data. It needs Debian's Chromium and takes about three minutes. A desk is started with a
drawn night, and three invented people work at it as the page tells. Moments are shown as if the work had begun on the
morning after the night, at seven.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from docs.generator.drawn_desk import NIGHT, PASSWORD, DrawnDesk, drawn_desk, read_all, saved

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES: Final[Mapping[str, str]] = {
    "blind-reading": "a cell of the random sample, without anything that could tell",
    "worklist": "the slides that wait, the most urgent first",
    "slide": "a slide: cells by class, and the differential",
    "labelling": "several cells selected, and the menu of all labels",
    "large-view": "one cell large",
    "missing": "what signing still needs",
    "signature": "the form to sign, with the reasons to tick",
    "differs": "a signed slide that differs by now",
    "signed-again": "the form to sign a result that was signed before",
    "adjudication": "a contested cell with what each person said",
    "history": "the versions and actions of a slide",
    "reported": "what was reported at a moment",
}
"""Name of each picture, without its ending -> what it shows."""
FOLDER: Final = Path(__file__).resolve().parents[1] / "images" / "desk"
MAX_BYTES: Final = 150_000
_WIDTH, _HEIGHT = 1280, 800
_COLOURS: Final = (256, 192, 128, 96, 64)
_KEYS: Final = {
    "neutrophil": "1", "eosinophil": "2", "basophil": "3", "lymphocyte": "4", "monocyte": "5", "ig": "6",
    "erythroblast": "7", "platelet": "8",
}  # fmt: skip
_CONFIRMED: Final = {"BL": "b", "VLY": "v"}
_TWO_FRAMES: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_MORNING: Final = datetime(NIGHT.year, NIGHT.month, NIGHT.day, 7, tzinfo=UTC) + timedelta(days=1)
# moments are written as 2026-11-22 07:03, and in a form as 2026-11-22T07:03:10
_SHIFT: Final = """([start, morning]) => {
    const moved = (text) => text.replace(
        /(\\d{4}-\\d\\d-\\d\\d)([ T])(\\d\\d:\\d\\d)(:\\d\\d)?/g,
        (whole, day, between, minute, second) => {
            const at = Date.parse(`${day}T${minute}${second ?? ":00"}Z`);
            if (at < start - 60000) return whole;
            const iso = new Date(morning + at - start).toISOString();
            return iso.slice(0, 10) + between + iso.slice(11, second ? 19 : 16);
        });
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode())
        if (!node.parentElement.closest("script")) {
            const text = moved(node.data);
            if (text !== node.data) node.data = text;
        }
    for (const field of document.querySelectorAll("input[type=datetime-local]")) field.value = moved(field.value);
}"""


@dataclass(slots=True)
class Tour:
    """Three people at a desk, and the pictures that are taken.

    Attributes:
        desk: The desk.
        browser: The browser.
        folder: Where pictures go.
        start: When the work began.
        taken: Names of the pictures that were taken.
    """

    desk: DrawnDesk
    browser: Browser
    folder: Path
    start: datetime
    taken: list[str] = field(default_factory=list)

    @contextmanager
    def person(self, name: str) -> Iterator[Page]:
        """Yields the browser of a person who has logged in."""
        context = self.browser.new_context(
            viewport={"width": _WIDTH, "height": _HEIGHT},
            color_scheme="light",
            locale="en-GB",
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(self.desk.url)
        page.fill("[name=name]", name)
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{self.desk.url}/")
        yield page
        context.close()

    def take(self, page: Page, name: str, *, part: str | None = None, height: int = _HEIGHT) -> None:
        """Takes a picture of the window, or of one part of the page."""
        if name not in PICTURES:
            raise ValueError(f"no picture is called {name}")
        page.set_viewport_size({"width": _WIDTH, "height": height})
        page.wait_for_load_state("networkidle")
        morning_ms, start_ms = _MORNING.timestamp() * 1000, self.start.timestamp() * 1000
        page.evaluate(_SHIFT, [start_ms, morning_ms])
        body = page.locator(part).screenshot() if part else page.screenshot()
        page.set_viewport_size({"width": _WIDTH, "height": _HEIGHT})
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.png").write_bytes(_small(body))
        self.taken.append(name)

    def open(self, page: Page, barcode: str) -> None:
        """Opens a slide from the worklist."""
        page.goto(f"{self.desk.url}/?state=all&barcode={barcode}")
        page.click(f"th a:has-text('{barcode}')")
        page.wait_for_selector("[data-cell]")
        saved(page)

    def label_the_doubtful(self, page: Page, barcode: str) -> None:
        """Labels by keyboard what needs a person: as it was drawn, or as the analyser says if that is out of scope."""
        page.keyboard.press("Escape")  # ends a selection, to which labels would go
        for cell in _cells(page):
            if cell["needs"] not in (None, "second_reader"):
                page.locator(f"#cell-{cell['cell_id']}").focus()
                drawn = self.desk.truth[barcode, cell["file_name"]]
                page.keyboard.press(_CONFIRMED.get(cell["analyser_code"] or "", _KEYS[drawn]))
                page.evaluate(_TWO_FRAMES)  # the focus goes to the next cell with the next frame
        saved(page)


def _cells(page: Page) -> list[dict[str, Any]]:
    """Returns the cells as the page was loaded with them."""
    cells: list[dict[str, Any]] = page.evaluate("JSON.parse(document.getElementById('slide').textContent).cells")
    return cells


def _small(body: bytes) -> bytes:
    """Returns a picture as a PNG of so few colours that it is small."""
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    for n in _COLOURS:
        buffer = io.BytesIO()
        picture.quantize(n, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


def _sign(page: Page, *, reason: str = "") -> None:
    """Ticks every reason, chooses the last state, and signs."""
    for box in page.locator("#signing [type=checkbox]").all():
        box.check()
    page.locator("#signing [name=state]").last.check()
    if reason:
        page.fill("#signing textarea", reason)
    page.fill("#signing [type=password]", PASSWORD)
    page.click("#signing button:has-text('Sign the slide')")
    expect(page.locator("#signing .success")).to_be_visible(timeout=20_000)


def first_slides(tour: Tour) -> None:
    """The second person signs a slide, so that the desk has confirmed cells to compare with."""
    with tour.person("bweber") as page:
        tour.open(page, "S26-0412")
        tour.label_the_doubtful(page, "S26-0412")
        _sign(page)


def blind_reading(tour: Tour) -> None:
    """The first person reads the random sample, then looks at the worklist."""
    with tour.person("amartin") as page:
        page.goto(f"{tour.desk.url}/blind")
        for _ in range(4):
            page.wait_for_selector(".specimen[aria-busy=false]")
            source = page.locator(".specimen img").get_attribute("src")
            drawn = tour.desk.drawn_as(page.request.get(f"{tour.desk.url}{source}").body())
            page.keyboard.press(_KEYS[drawn])
            expect(page.locator(".specimen img")).not_to_have_attribute("src", source or "")
        tour.take(page, "blind-reading", height=880)
        page.click("button:has-text('Finish')")
        saved(page)
        page.goto(tour.desk.url)
        tour.take(page, "worklist", height=620)


def review(tour: Tour) -> None:
    """The first person corrects the most urgent slide."""
    with tour.person("amartin") as page:
        tour.open(page, "S26-0413")
        tour.take(page, "slide", height=900)
        page.set_viewport_size({"width": _WIDTH, "height": 860})
        page.locator("section.cells:has(#of-unclassified) [data-cell]").first.click()
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("l")
        tour.take(page, "labelling", height=860)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.locator("section.cells:has(#of-unclassified) [data-cell]").nth(1).dblclick()
        page.wait_for_selector(".examples img")
        tour.take(page, "large-view", height=1120)
        page.keyboard.press("Escape")
        tour.take(page, "missing", part="#signing")
        tour.label_the_doubtful(page, "S26-0413")
        page.fill("#comment-slide", "Left shift with blasts. Second reading asked for.")
        page.click("button:has-text('Add comment')")
        expect(page.locator(".slide-comments .comments")).to_contain_text("Left shift")


def second_reading(tour: Tour) -> None:
    """The second person reads the blasts; the first one signs."""
    with tour.person("bweber") as page:
        page.goto(f"{tour.desk.url}/second")
        read_all(page, "b")
    with tour.person("amartin") as page:
        tour.open(page, "S26-0413")
        page.wait_for_selector("#signing form")
        page.locator("#signing [type=checkbox]").first.check()
        tour.take(page, "signature", part="#signing")
        _sign(page)


def after_the_signature(tour: Tour) -> None:
    """A cell of the signed slide is contested and settled; then the first person corrects it and signs again."""
    with tour.person("bweber") as page:
        tour.open(page, "S26-0413")
        _relabel(page, "ig", "5")
    with tour.person("cruiz") as page:
        page.goto(f"{tour.desk.url}/adjudication")
        page.wait_for_selector(".picture-view [aria-busy=false]")
        page.keyboard.press("6")
        page.fill(".disputes textarea", "Indented nucleus, granules: a metamyelocyte.")
        tour.take(page, "adjudication", height=820)
        page.click("button:has-text('Store the decision')")
        saved(page)
        tour.open(page, "S26-0411")
        tour.label_the_doubtful(page, "S26-0411")
        _sign(page)
    with tour.person("amartin") as page:
        tour.open(page, "S26-0413")
        _relabel(page, "VLY", "4")
        page.reload()
        page.wait_for_selector("[data-cell]")
        page.evaluate("scrollTo(0, 0)")
        tour.take(page, "differs")
        page.locator("#signing [name=state]").last.check()
        page.fill("#signing textarea", "The cell that was signed as VLY is a lymphocyte.")
        tour.take(page, "signed-again", part="#signing")
        _sign(page, reason="The cell that was signed as VLY is a lymphocyte.")


def _relabel(page: Page, line: str, key: str) -> None:
    """Labels the first labelled cell of a line otherwise."""
    cell = next(cell for cell in _cells(page) if cell["labels"] and cell["line"] == line)
    page.locator(f"#cell-{cell['cell_id']}").click()
    page.keyboard.press(key)
    saved(page)


def look_back(tour: Tour) -> None:
    """What happened to the slide, and what was reported."""
    with tour.person("amartin") as page:
        tour.open(page, "S26-0413")
        address = page.url
        page.goto(f"{address}/history")
        tour.take(page, "history", height=900)
        page.goto(f"{tour.desk.url}/reported")
        tour.take(page, "reported", height=560)


STEPS: Final[tuple[Callable[[Tour], None], ...]] = (
    first_slides,
    blind_reading,
    review,
    second_reading,
    after_the_signature,
    look_back,
)


def take_pictures(work: Path, folder: Path = FOLDER) -> list[str]:
    """Takes all pictures, and returns their names.

    Args:
        work: An empty folder for the data.
        folder: Where the pictures go.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise RuntimeError("Chromium is needed: apt-get install chromium")
    start = datetime.now(UTC)
    with drawn_desk(work) as desk, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tour = Tour(desk, browser, folder, start)
        for step in STEPS:
            step(tour)
        browser.close()
    return tour.taken


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK", help="an empty folder for the data")
    taken = take_pictures(parser.parse_args().work)
    missing = set(PICTURES) - set(taken)
    sys.stdout.write(f"{len(taken)} pictures in {FOLDER}\n" + "".join(f"missing: {name}\n" for name in sorted(missing)))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
