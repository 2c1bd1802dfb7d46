"""A real night at the review desk: corrections, a contested cell, adjudication, a second reading, an amended result.

    python -m benchmarks.acceptance.desk_night WORK SHARED

WORK is an empty folder; SHARED holds pbc/<class>/*.jpg and tools/make_drop.py. Ten slides of real cells with broken
files among them are ingested and called by the shipped champion; some cells get the analyser's codes of blasts and
variant lymphocytes. Four people then work at a real desk, each in a browser of their own, by keyboard. Prints time and
key strokes of each step, and writes a screenshot after each into WORK/pictures. Exit status 1 if a step did not do what
it should.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from playwright.sync_api import TimeoutError, expect, sync_playwright
from rich.console import Console

from bloodcell.presentation.tables import boxed_table
from bloodcell.review.local_users import add_user
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from bloodcell.review.people import Role

NIGHT: Final = "2026-11-28"
PASSWORD: Final = "seven lamps under the bridge"  # noqa: S105 - of people who exist only here
PEOPLE: Final[dict[str, Role]] = {"anna": "reader", "ben": "reader", "clara": "senior", "dora": "senior"}
PORT: Final = 8391
_LABELLED: Final = "[...document.querySelectorAll('[role=option]')].filter((each) => each.textContent.includes('✎'))"


@dataclass
class Person:
    """Somebody at the desk, in an own browser, whose keys are counted.

    Attributes:
        name: The person.
        page: The page that is open.
        n_keys: Keys so far.
    """

    name: str
    page: Page
    n_keys: int = 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.n_keys += 1

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)
        self.n_keys += len(text)

    def saved(self) -> None:
        """Waits until nothing waits to be saved."""
        while self.page.evaluate("Object.keys(localStorage).some((key) => key.includes(':labels:'))"):
            self.page.wait_for_timeout(20)

    def sign(self, *, state: str = "final", reason: str = "") -> None:
        """Signs the slide that is open, as a person does: every field is set by hand."""
        self.saved()
        self.press("s")
        while True:
            kind = self.page.evaluate("document.activeElement.type")
            if kind == "checkbox":
                self.press("Space", "Tab")
            elif kind == "radio":
                if self.page.evaluate("document.activeElement.value") != state:
                    self.press("ArrowDown")
                else:
                    self.press("Space")
                self.press("Tab")
            elif kind == "textarea":
                self.type(reason)
                self.press("Tab")
            else:
                break
        self.type(PASSWORD)
        self.press("Enter")
        expect(self.page.locator("#signing .success")).to_be_visible(timeout=10_000)


@dataclass
class Story:
    """What has been done so far.

    Attributes:
        desk: Address of the desk.
        pictures: Folder of the screenshots.
        steps: (what, who, keys, seconds).
    """

    desk: str
    pictures: Path
    steps: list[tuple[str, str, int, float]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str, person: Person) -> Iterator[None]:
        keys, started = person.n_keys, time.monotonic()
        yield
        self.steps.append((what, person.name, person.n_keys - keys, time.monotonic() - started))
        self.pictures.mkdir(exist_ok=True)
        person.page.screenshot(path=self.pictures / f"{len(self.steps):02} {what}.png")

    def open(self, person: Person, barcode: str) -> None:
        """Opens a slide from the worklist."""
        person.page.goto(f"{self.desk}/?state=all")
        person.page.get_by_role("link", name=barcode).click()
        person.page.locator("[role=option]").first.wait_for()
        person.page.wait_for_timeout(1000)
        with suppress(TimeoutError):  # whoever had the slide may give it back meanwhile
            if (take := person.page.get_by_role("button", name="Take over")).count():
                take.click(timeout=3000)
                person.page.wait_for_timeout(500)


def lay_out(work: Path, shared: Path) -> None:
    """Writes the night, and gives some of its cells codes that no model knows."""
    tool = [sys.executable, str(shared / "tools" / "make_drop.py"), str(work / "drops"), "--night", NIGHT]
    subprocess.run([*tool, "--slides", "10", "--cells", "120", "--seed", "21", "--faults"], check=True)
    slides = sorted(path for path in (work / "drops" / NIGHT).iterdir() if path.name.startswith("S26"))
    for slide, codes in zip(slides, (("BL", "BL", "VLY"), ("VLY", "SMU"), ("ART",)), strict=False):
        files = sorted(slide.glob("LY_*.jpg"))
        for path, code in zip(files, codes, strict=False):
            path.rename(path.with_name(path.name.replace("LY_", f"{code}_")))


def prepare(work: Path, shared: Path, environment: dict[str, str]) -> list[str]:
    """Ingests and classifies the night; returns its slides, the most urgent first."""
    rules = subprocess.run(bloodcell("rules", "show"), check=True, capture_output=True, text=True).stdout
    (work / "rules.toml").write_text(
        rules.replace("blasts = false", "blasts = true").replace("bloodcell defaults", "two readers")
    )
    lay_out(work, shared)
    code = (
        "from bloodcell.settings import Settings; from bloodcell.registry.shipped import install_shipped; "
        "from bloodcell.storage.database import open_database; s = Settings(); install_shipped(s, open_database(s))"
    )
    for command in (
        bloodcell("db", "upgrade"),
        [sys.executable, "-c", code],
        bloodcell("ingest", str(work / "drops" / NIGHT)),
    ):
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    models = json.loads(output(environment, "models", "list", "--json"))
    champion = next(each["model_id"] for each in _listed(models) if each["role"] == "champion")
    output(environment, "classify", "--night", NIGHT, "--model", champion)
    return [each["barcode"] for each in _listed(json.loads(output(environment, "slides", "--json")))]


def _listed(document: Any) -> list[dict[str, Any]]:
    found = (
        document if isinstance(document, list) else next(each for each in document.values() if isinstance(each, list))
    )
    return list(found)


def bloodcell(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bloodcell", *arguments]


def output(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(bloodcell(*arguments), check=True, env=environment, capture_output=True, text=True)
    return done.stdout


@contextmanager
def served(environment: dict[str, str], url: str) -> Iterator[None]:
    process = subprocess.Popen(bloodcell("desk"), env=environment)
    try:
        while True:
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def enter(browser: Browser, url: str, name: str) -> Person:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(15_000)
    page.goto(f"{url}/login")
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{url}/")
    return Person(name, page)


def work_through(story: Story, people: dict[str, Person], slides: Sequence[str]) -> None:
    """The night's work; `slides` has the one with blasts first."""
    anna, ben, clara, dora = (people[name] for name in PEOPLE)
    coded, other = slides[0], slides[1]
    with story.step("reads the random sample blind", dora):
        dora.page.get_by_role("link", name="Blind reading").click()
        dora.page.locator(".specimen").first.wait_for()
        for _ in range(5):
            dora.press("1")
        dora.page.get_by_role("button", name="Finish").click()
        dora.page.wait_for_timeout(500)
    with story.step("finds and opens the most urgent slide", anna):
        anna.page.goto(story.desk)
        anna.page.screenshot(path=story.pictures.parent / "worklist.png")
        story.open(anna, coded)
    with story.step("corrects twelve cells", anna):
        _look_at_all(anna)
        n = len(_labels(anna))
        anna.page.locator("section[data-line=neutrophil] [role=option]").first.focus()
        for key in ("2", "6", "1", "4", "5", "6", "2", "3", "6", "5", "4", "6")[: max(0, 12 - n)]:
            anna.press(key)
        anna.saved()
    with story.step("labels one of these cells otherwise", ben):
        story.open(ben, coded)
        ben.page.locator("section[data-line=eosinophil] [role=option]").last.focus()
        _choose_labelled(ben)
        ben.press("7")
        ben.saved()
    with story.step("settles the contested cell", clara):
        clara.page.goto(f"{story.desk}/adjudication")
        clara.page.get_by_text("What was said").wait_for()
        clara.press("1", "Enter")
        expect(clara.page.get_by_text("No contested cell is left.")).to_be_visible()
        clara.page.wait_for_timeout(500)
    with story.step("reads the blasts a second time", dora):
        dora.page.goto(f"{story.desk}/second")
        dora.page.locator(".specimen").first.wait_for()
        while dora.page.locator(".specimen img").count():
            dora.press("b")
            dora.page.wait_for_timeout(100)
        dora.page.get_by_role("button", name="Finish").click()
        dora.page.wait_for_timeout(800)
    with story.step("signs the slide", anna):
        story.open(anna, coded)
        anna.sign()
    with story.step("corrects and signs another slide", ben):
        story.open(ben, other)
        _look_at_all(ben)
        ben.sign()
    with story.step("changes a cell of the signed slide and signs it again", anna):
        story.open(anna, coded)
        anna.page.locator("section[data-line=neutrophil] [role=option]").first.focus()
        anna.press("5")
        anna.saved()
        anna.page.wait_for_timeout(500)
        anna.sign(state="amended", reason="one monocyte more")


def _look_at_all(person: Person) -> None:
    """Labels every cell that this person has to look at: as the analyser says, or as a neutrophil."""
    keys = {"BL": "b", "VLY": "v", "SMU": "m", "ART": "a"}
    for _ in range(60):
        person.saved()
        slide = person.page.evaluate("fetch(location.pathname.replace('/slides', '/api/slides')).then((r) => r.json())")
        left = {cell["cell_id"] for cell in slide["cells"] if cell["needs"] not in (None, "second_reader")}
        if not left:
            return
        person.press("n")
        focused = person.page.evaluate("document.activeElement.closest('[data-cell]')?.dataset.cell ?? ''")
        if focused.isdigit() and int(focused) in left:
            told = person.page.evaluate("document.activeElement.closest('section').dataset.line")
            person.press(keys.get(told, "1"))
    raise RuntimeError("cells are left that nobody could reach by the key n")


def _labels(person: Person) -> list[str]:
    """Returns the cells that somebody has labelled."""
    return list(person.page.evaluate(f"() => {_LABELLED}.map((each) => each.id)"))


def _choose_labelled(person: Person) -> None:
    """Focuses the first cell that somebody has labelled as one of the eight classes."""
    person.page.evaluate(
        f"() => {{ const found = {_LABELLED}"
        ".find((each) => !['BL', 'VLY'].includes(each.closest('section').dataset.line)); found.click(); found.focus() }"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("shared", type=Path, help="a folder with pbc and tools")
    chosen = parser.parse_args()
    work, console = chosen.work.resolve(), Console()
    work.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        data_dir=work / "data", desk_url=f"http://127.0.0.1:{PORT}", settle_s=0, rules_file=work / "rules.toml"
    )
    environment = {**os.environ, **settings.as_variables()}
    slides = prepare(work, chosen.shared.resolve(), environment)
    console.print("Most urgent first:", ", ".join(slides))
    for name, role in PEOPLE.items():
        add_user(settings.users_file, name, [role], PASSWORD)
    story = Story(settings.desk_url, work / "pictures")
    coded = [barcode for barcode in slides if barcode.startswith("S26")]
    with served(environment, settings.desk_url), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        people = {name: enter(browser, settings.desk_url, name) for name in PEOPLE}
        try:
            work_through(story, people, coded)
        except Exception:
            for name, person in people.items():
                person.page.screenshot(path=work / f"failed {name}.png")
            raise
        finally:
            browser.close()
    table = boxed_table("Step", "who", "keys", "s", right=("keys", "s"))
    for what, who, keys, seconds in story.steps:
        table.add_row(what, who, str(keys), f"{seconds:.1f}")
    console.print(table)
    result = json.loads(output(environment, "result", coded[0], "--json"))
    version = result["version"]
    console.print(f"{coded[0]}: version {version['number']}, {version['state']}, signed by {version['signed_by']}")
    return 0 if version["state"] == "amended" else 1


if __name__ == "__main__":
    sys.exit(main())
