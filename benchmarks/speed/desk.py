"""Measures the review desk as a person meets it: a real server, a real browser, real pictures of cells.

    python -m benchmarks.speed.desk WORK IMAGES

WORK is an empty folder, IMAGES one with JPEGs of cells. Prints a table and writes DESK.md; exit status 1 if a target is
missed. Browser, server and Postgres share the machine, as they do for somebody who tries it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil
from playwright.sync_api import sync_playwright
from rich.console import Console

from benchmarks.speed.line import Line, as_markdown, as_table, machine
from bloodcell.review.local_users import add_user
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory
from tests.review.desk import PASSWORD, Reader, Slide

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESULTS: Final = Path(__file__).with_name("DESK.md")
N_READERS: Final = 20
N_REQUESTS: Final = 10_000
_RELABELS: Final = 40
_CALLS: Final = ("neutrophil",) * 12 + ("lymphocyte",) * 5 + ("monocyte", "eosinophil", "ig")
_FIRST_TILE: Final = """() => new Promise((done) => {
    const look = () => document.querySelector('[role=option]') && [...document.images].every((each) => each.complete)
        ? requestAnimationFrame(() => setTimeout(() => done(performance.now()))) : requestAnimationFrame(look);
    look();
})"""
_FIRST_PAINT: Final = (
    "() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The desk that is measured: its settings, its data, and its server's process."""

    settings: Settings
    laboratory: Laboratory
    images: list[str]
    server: psutil.Process

    @property
    def url(self) -> str:
        return self.settings.desk_url

    def slide(self, barcode: str, n_cells: int, *, n_unclassified: int = 0) -> Slide:
        """Makes a slide of real pictures with calls that nobody has looked at."""
        slide_id = self.laboratory.slide(barcode, patient_key=None)
        draw = random.Random(barcode)
        images = [self.images.pop() for _ in range(n_cells)]  # each is a cell of one slide
        cells = self.laboratory.cells(slide_id, [None] * n_cells, images=images)
        called = ["unclassified"] * n_unclassified + draw.choices(_CALLS, k=n_cells - n_unclassified)
        self.laboratory.call(cells, called, confidences=[0.4 if each == "unclassified" else 0.95 for each in called])
        self.laboratory.count(slide_id)
        return Slide(slide_id, barcode, {"all": cells})


@contextmanager
def running(work: Path, folder: Path) -> Iterator[Measured]:
    """Yields a desk of its own process with a store of real pictures."""
    port = 8390
    settings = Settings(data_dir=work / "data", desk_url=f"http://127.0.0.1:{port}", settle_s=0)
    server = embedded_database(settings)
    upgrade(server.url())
    store, digests = Store.of(settings), []
    for path in sorted(folder.rglob("*.jpg"))[:8000]:
        body = path.read_bytes()
        digests.append(hashlib.sha256(body).hexdigest())
        store.put_image(digests[-1], body)
    store.flush()
    laboratory = Laboratory(Database(connect(server.url(), role="bloodcell_app"), patience_s=0))
    laboratory.model()
    for name in ("anna", *(f"reader {number}" for number in range(N_READERS))):
        add_user(settings.users_file, name, ["reader"], PASSWORD)
    # as under `bloodcell up`: the desk does not own Postgres, so that it stops when the measurement ends
    own = {**settings.as_variables(), "BLOODCELL_DATABASE_URL": server.url()}
    process = subprocess.Popen([sys.executable, "-m", "bloodcell", "desk"], env={**os.environ, **own})
    try:
        while True:
            try:
                httpx.get(f"{settings.desk_url}/healthz")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield Measured(settings, laboratory, list(dict.fromkeys(digests)), psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()
        server.stop()


def log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")


def first_paint(desk: Measured, browser: Browser) -> Iterator[Line]:
    """A slide of 500 cells, in a browser that has cached nothing, against the page to log in."""
    slides = [desk.slide(f"PAINT-{number}", 500, n_unclassified=10) for number in range(5)]
    empty: list[float] = []
    first: list[float] = []
    again: list[float] = []
    for slide in slides:
        for figures in (first, again):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = context.new_page()
            log_in(page, desk.url)
            page.goto(f"{desk.url}/slides/{slide.slide_id}")
            figures.append(float(page.evaluate(_FIRST_TILE)) / 1000)
            context.close()
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.goto(f"{desk.url}/login")
        empty.append(float(page.evaluate(_FIRST_PAINT)) / 1000)
        context.close()
    for figures, what in ((first, "never opened before"), (again, "opened before, by somebody else")):
        told = f"{_told(figures)} s against {_told(empty)} s"
        yield Line(f"Gallery of 500 cells with its pictures, {what}", "", median(figures), told, at_most=1.0, unit=" s")
    yield Line("The same", "the page to log in", median(again) / median(empty), f"{_told(again)} s, {_told(empty)} s")


def relabel(desk: Measured, browser: Browser) -> Iterator[Line]:
    """Time from a key to the server's answer, on a slide of 500 cells."""
    slide = desk.slide("RELABEL", 500, n_unclassified=5)
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    log_in(page, desk.url)
    page.goto(f"{desk.url}/slides/{slide.slide_id}")
    page.evaluate(_FIRST_TILE)
    page.locator("section[data-line=neutrophil] [role=option]").first.click()
    took = []
    for _ in range(_RELABELS):
        started = time.perf_counter()
        with page.expect_response(lambda response: response.url.endswith("/labels")) as answer:
            page.keyboard.press("5")
        answer.value.finished()
        took.append(time.perf_counter() - started)
    empty = []
    with httpx.Client(base_url=desk.url) as client:
        for _ in range(_RELABELS):
            started = time.perf_counter()
            client.get("/healthz")
            empty.append(time.perf_counter() - started)
    told = f"{_told(took)} s"
    yield Line("A label is acknowledged, 500 cells", "", 1000 * median(took), told, at_most=100, unit=" ms")
    yield Line("The same", "an empty answer of the server", median(took) / median(empty), f"{told}, {_told(empty)} s")


def key_strokes(desk: Measured, browser: Browser) -> Line:
    """A slide of 200 cells with 12 corrections, reviewed and signed by keyboard alone."""
    slide = desk.slide("KEYS", 200, n_unclassified=12)
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    log_in(page, desk.url)
    page.goto(f"{desk.url}/slides/{slide.slide_id}")
    page.evaluate(_FIRST_TILE)
    n = 0

    def press(*keys: str) -> None:
        nonlocal n
        for key in keys:
            page.keyboard.press(key)
            n += 1

    page.wait_for_timeout(1000)  # the slide is the person's a moment after it is shown
    started = time.monotonic()
    for number in range(12):
        press("n", str(1 + number % 3))
        page.wait_for_timeout(100)  # as fast as a hand
    while page.evaluate("Object.keys(localStorage).some((key) => key.includes(':labels:'))"):
        page.wait_for_timeout(20)
    press("s")
    while page.evaluate("document.activeElement.type") in ("checkbox", "radio"):
        press("Space", "Tab")
    page.keyboard.type(PASSWORD)
    n += len(PASSWORD)
    press("Enter")
    page.locator("#signing .success").wait_for()
    raw = f"12 corrections and the signature, {len(PASSWORD)} of them the password; {time.monotonic() - started:.1f} s"
    return Line("Key strokes of a review, 200 cells", "", n, raw, at_most=60)


def many_readers(desk: Measured) -> Iterator[Line]:
    """Twenty readers at once behind one address, each with an own slide: log in, open, 12 labels, sign.

    Nobody works on another's slide, so that no answer but a good one is expected. Prints those that are not.
    """
    slides = [desk.slide(f"MANY-{number}", 200, n_unclassified=12) for number in range(N_READERS)]
    failed: list[str] = []
    n_answers = 0

    def note(answer: httpx.Response) -> None:
        nonlocal n_answers
        n_answers += 1
        if answer.is_error:
            failed.append(f"{answer.request.url.path}: {answer.status_code} {answer.read()[:300]!r}")

    def work(number: int, http: httpx.Client) -> list[float]:
        took = []
        http.post("/login", data={"name": f"reader {number}", "password": PASSWORD})
        page = http.get(f"/slides/{slides[number].slide_id}", headers={"accept": "text/html"}).text
        csrf = page.partition('"csrf": "')[2].partition('"')[0]
        http.headers["x-csrf-token"] = csrf
        reader = Reader(f"reader {number}", http, csrf)
        cells = [each for each in reader.open(slides[number])["cells"] if each["needs"]]
        for cell in cells:
            started = time.perf_counter()
            reader.ask_label(slides[number], {cell["cell_id"]: "neutrophil"})
            took.append(time.perf_counter() - started)
        reader.ask_sign(slides[number])
        return took

    def try_work(number: int) -> list[float]:
        hooks = {"response": [note]}
        with httpx.Client(base_url=desk.url, timeout=60, headers={"origin": desk.url}, event_hooks=hooks) as http:
            try:
                return work(number, http)
            except httpx.TransportError as error:  # no answer
                failed.append(f"reader {number}: {error!r}")
            except httpx.HTTPStatusError:
                pass  # noted
        return []

    with ThreadPoolExecutor(N_READERS) as threads:
        took = [each for times in threads.map(try_work, range(N_READERS)) for each in times]
    print(*failed, sep="\n", end="\n" if failed else "")
    slow = quantiles(took, n=20)[-1]
    told = f"a label: median {median(took):.3f} s, 95 % below {slow:.3f} s; {n_answers} answers, {len(took)} to labels"
    yield Line("Errors of twenty readers at once", "", len(failed), told, at_most=0)


def memory(desk: Measured) -> Line:
    """Memory of the server after 10,000 requests against that after the first 1,000: pages, pictures and labels."""
    slide = desk.slide("MEMORY", 120)
    sizes = []
    with httpx.Client(base_url=desk.url, timeout=60, headers={"origin": desk.url}) as http:
        http.post("/login", data={"name": "anna", "password": PASSWORD})
        reader = Reader("anna", http, http.get("/api/session").json()["csrf"])
        http.headers["x-csrf-token"] = reader.csrf
        sprite = reader.open(slide)["sprites"][0]["url"]
        for number in range(N_REQUESTS):
            cell = slide.all_cells[number // 8 % 120]
            addresses = (
                f"/slides/{slide.slide_id}", "/", f"/api/slides/{slide.slide_id}/cells/{cell}",
                f"/slides/{slide.slide_id}/cells/{cell}/image", sprite, "/blind", "/statistics",
            )  # fmt: skip
            if place := number % 8:
                http.get(addresses[place - 1]).raise_for_status()
            else:
                reader.label(slide, {cell: "monocyte" if number // 8 % 2 else "ig"})
            if number + 1 in (N_REQUESTS // 10, N_REQUESTS):
                sizes.append(desk.server.memory_info().rss / 1e6)
    raw = f"{sizes[0]:.0f} MB, then {sizes[1]:.0f} MB"
    return Line("Memory of the server after 10,000 requests", "after 1,000", sizes[1] / sizes[0], raw, at_most=1.1)


def _told(figures: list[float]) -> str:
    return f"{median(figures):.3f} ({min(figures):.3f} to {max(figures):.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("images", type=Path, help="a folder with JPEGs of cells")
    chosen = parser.parse_args()
    facts = machine()
    lines: list[Line] = []
    console = Console()

    def show(found: Any) -> None:
        for line in [found] if isinstance(found, Line) else found:
            lines.append(line)
            console.print(f"{line.what}: {line.cells[2]}  {line.target}  {line.raw}")

    with running(chosen.work, chosen.images) as desk, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        show(first_paint(desk, browser))
        show(relabel(desk, browser))
        show(key_strokes(desk, browser))
        show(many_readers(desk))
        show(memory(desk))
        browser.close()
    console.print(as_table(lines))
    RESULTS.write_text(as_markdown(lines, facts).replace("make bench", "python -m benchmarks.speed.desk"))
    return int(any(line.is_met is False for line in lines))


if __name__ == "__main__":
    sys.exit(main())
