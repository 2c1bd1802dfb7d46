"""A review desk with a drawn night, for pictures of it: no image of it is a photograph, and no name is a person's."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from PIL import Image
from playwright.sync_api import expect

from bloodcell.drawing import make_drop
from bloodcell.registry.shipped import MODEL_IDS

if TYPE_CHECKING:
    from playwright.sync_api import Page

NIGHT: Final = date(2026, 11, 21)
PASSWORD: Final = "seven lamps under the bridge"  # noqa: S105 - of people who exist only in pictures
PEOPLE: Final[Mapping[str, tuple[str, ...]]] = {
    "amartin": ("reader",),
    "bweber": ("senior",),
    "cruiz": ("senior", "administrator"),
}
"""Name -> roles."""
CHAMPION: Final = MODEL_IDS["inception_v3"]
_SEED: Final = 7
_SLIDES: Final[tuple[tuple[str, int, str, float], ...]] = (
    ("S26-0411", 44, "female", 7.2),
    ("S26-0412", 61, "male", 11.4),
    ("S26-0413", 69, "male", 24.0),
    ("S26-0414", 72, "female", 38.5),
)
"""Barcode, age in years, sex and leucocytes in 10⁹ per litre of each slide."""
_START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class DrawnDesk:
    """A running desk.

    Attributes:
        url: Its address.
        truth: (barcode, file name) -> the class that was drawn.
        pixels: Digest of the pixels of each image -> the class that was drawn.
        environment: Variables with which `bloodcell` works on the same data.
    """

    url: str
    truth: Mapping[tuple[str, str], str]
    pixels: Mapping[str, str]
    environment: Mapping[str, str]

    def drawn_as(self, image: bytes) -> str:
        """Returns the class that an image of the desk was drawn as."""
        return self.pixels[_digest(image)]


@contextmanager
def drawn_desk(work: Path) -> Iterator[DrawnDesk]:
    """Yields a desk with a drawn night of four slides, called by the shipped champion, and three people.

    Args:
        work: An empty folder for the data.
    """
    data = work / "data"
    rules = work / "rules.toml"
    url = f"http://127.0.0.1:{_free_port()}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "BLOODCELL_DATA_DIR": str(data),
        "BLOODCELL_DESK_URL": url,
        "BLOODCELL_DESK_UM_PER_PX": "0.1",
        "BLOODCELL_RULES_FILE": str(rules),
        "BLOODCELL_SETTLE_S": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    work.mkdir(parents=True, exist_ok=True)
    shown = run({name: text for name, text in environment.items() if name != "BLOODCELL_RULES_FILE"}, "rules", "show")
    changed = shown.replace("blasts = false", "blasts = true", 1)
    if changed == shown:
        raise RuntimeError("the rules that come with bloodcell have no line `blasts = false`")
    rules.write_text(changed)
    truth = _night(data / "drops")
    night = data / "drops" / NIGHT.isoformat()
    pixels = {_digest((night / barcode / name).read_bytes()): drawn for (barcode, name), drawn in truth.items()}
    run(environment, "db", "upgrade")
    run(environment, "ingest", str(night))
    run(environment, "classify", "--night", NIGHT.isoformat(), "--model", CHAMPION)
    for name, roles in PEOPLE.items():
        given = [part for role in roles for part in ("--role", role)]
        run(environment, "users", "add", name, *given, "--password-stdin", text=PASSWORD + "\n")
    with (work / "desk.log").open("w") as log:
        desk = subprocess.Popen(_command("desk"), env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(url)
            yield DrawnDesk(url, truth, pixels, environment)
        finally:
            desk.terminate()
            desk.wait(20)


def saved(page: Page) -> None:
    """Waits until the server has everything that was done on a page."""
    expect(page.locator(".saving-state")).to_have_text("✔ Saved", timeout=20_000)


def read_all(page: Page, key: str) -> None:
    """Gives every cell of a blind or second reading the same label, each once its picture is shown, and finishes."""
    for n_read in range(int((page.locator(".progress label").text_content() or "").split()[-1])):
        page.wait_for_selector(f".progress label:has-text('Read: {n_read} of')")
        page.wait_for_selector(".specimen[aria-busy=false]")
        page.keyboard.press(key)
    page.click("button:has-text('Finish')")
    saved(page)


def run(environment: Mapping[str, str], *arguments: str, text: str = "") -> str:
    """Runs a command of bloodcell, and returns what it prints."""
    done = subprocess.run(
        _command(*arguments), env=dict(environment), input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"bloodcell {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("bloodcell")), *arguments]


def _night(drops: Path) -> dict[tuple[str, str], str]:
    """Draws the night, gives its slides short barcodes and facts, and returns what was drawn."""
    drop = make_drop(drops, night=NIGHT, n_slides=len(_SLIDES), cells_per_slide=120, seed=_SEED)
    drawn = drop.drawn_as()
    barcodes = {}
    for slide, (barcode, age, sex, wbc) in zip(drop.slides, _SLIDES, strict=True):
        barcodes[slide.barcode] = barcode
        facts_file = drop.folder / slide.barcode / "slide.json"
        facts = json.loads(facts_file.read_text())
        facts |= {"barcode": barcode, "order_id": barcode.replace("S", "A"), "analyser": "DM-1"}
        facts |= {"age_years": age, "sex": sex, "wbc_10e9_per_l": wbc, "wbc_is_corrected": False}
        facts_file.write_text(json.dumps(facts))
        facts_file.parent.rename(drop.folder / barcode)
    return {(barcodes[barcode], name): cell_class for (barcode, name), cell_class in drawn.items()}


def _digest(image: bytes) -> str:
    """Returns a digest of pixels, since images are stored without their metadata."""
    return hashlib.sha256(Image.open(io.BytesIO(image)).tobytes()).hexdigest()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _wait_for(url: str) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
        time.sleep(0.2)
