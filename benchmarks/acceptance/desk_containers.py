"""Reviews and signs a slide at the review desk in its container, behind the documented proxy, with the store on S3.

    python -m benchmarks.acceptance.desk_containers WORK [--shared ../shared] [--slides 3] [--cells 100]

The images must exist already (`python -m benchmarks.acceptance.container_images WORK`). What runs: each service as
confined as docker/compose.yaml says, with compose.outside.yaml, on podman; Debian's nginx with docker/nginx.conf at an
address of this machine, with a certificate of a private authority; an S3 server. A reader and a viewer use Debian's
Chromium, which has that authority in its store of certificates (certutil of libnss3-tools) and ignores no error of
certificates. Needs root. Prints what each person could do; screenshots are in WORK/screenshots. Exit status 1 if
something is not as it should be.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from benchmarks.acceptance.compose import CONTAINERS, LAN, _address, _make_images
from benchmarks.acceptance.confined import Engine
from tests.conftest import ROOT
from tests.reverse_proxy import DESK_NAME, Proxy, reverse_proxy
from tests.service.conftest import free_port

NIGHT = date(2026, 2, 2)
ORIGIN = f"https://{DESK_NAME}"
BUCKET, S3_PORT = "laboratory", 47102
S3_URL = f"http://{LAN}:{S3_PORT}"
KEYS = ("nobody", "nothing")
PASSWORD = "four words that nobody guesses"  # noqa: S105 - of containers that this script starts and ends
READER, VIEWER = "dr.reader", "dr.viewer"
SITE = {
    "BLOODCELL_DESK_PUBLIC_URL": ORIGIN,
    "BLOODCELL_STORE_URL": f"s3://{BUCKET}/bloodcell",
    "AWS_ENDPOINT_URL": S3_URL,
    "AWS_DEFAULT_REGION": "us-east-1",
}
CREDENTIALS = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
SIGNED = """
    SELECT r.number, r.state, r.signed_by, d.person, d.method
    FROM bloodcell.result r JOIN bloodcell.desk_session d USING (session_id) ORDER BY 1
"""
LABELS = "SELECT labelled_by, count(*) FROM bloodcell.label WHERE source = 'desk' GROUP BY 1 ORDER BY 1"
PEERS = r"""awk '$2 ~ /:1F9A$/ && $4 != "0A" {print $3}' /proc/net/tcp"""
"""Prints the other ends of the connections to port 8090, open or just closed, in hexadecimal."""
TRIES = """
    async ([slide, cell, token]) => {
        const key = () => crypto.randomUUID();
        const send = async (path, body, method = "POST") => (await fetch(`/api/slides/${slide}/${path}`, {method,
            headers: {"X-CSRF-Token": token, "Content-Type": "application/json"}, body: JSON.stringify(body)})).status;
        return {
            label: await send("labels", {changes: [{key: key(), cell_id: cell, label: "ig", seen: null}]}),
            comment: await send("comments", {key: key(), cell_id: null, text: "may I?"}),
            lease: await send("lease", {take_over: true}),
            sign: await send("sign", {digest: "0".repeat(64), state: "final", reason: null, ticked: [], password: ""}),
        };
    }
"""
FETCHED = "async path => { const told = await fetch(path); return [told.status, (await told.blob()).size]; }"


def main() -> int:
    """Starts everything, lets two people work, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.desk_containers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--slides", type=int, default=3)
    parser.add_argument("--cells", type=int, default=100)
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    for name in ("drops", "labels", "proxy", "screenshots", "home"):
        (work / name).mkdir(parents=True)
    (work / "containers.conf").write_text(CONTAINERS)
    os.environ |= {"CONTAINERS_CONF": str(work / "containers.conf"), "LANG": "C.UTF-8"}
    tool = [sys.executable, str(chosen.shared / "tools" / "make_drop.py"), str(work / "drops"), "--faults"]
    size = ["--slides", str(chosen.slides), "--cells", str(chosen.cells), "--night", str(NIGHT), "--seed", "3"]
    subprocess.run([*tool, *size], check=True, capture_output=True)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request to the S3 server
    _make_images(work)
    port = free_port()
    engine = Engine(
        work,
        ROOT / "docker" / "compose.yaml",
        overlay=ROOT / "docker" / "compose.outside.yaml",
        site=SITE,
        ports={"desk": port},
    )
    with _address(LAN), s3_server(), engine:
        engine.secret("s3_credentials").write_text(CREDENTIALS.format(*KEYS))
        classify(engine)
        engine.start("desk")
        engine.wait_for("desk")
        with reverse_proxy(work / "proxy", 443, 80, desk=f"http://127.0.0.1:{port}", address=LAN) as proxy:
            findings = [*review(engine, proxy, work, chosen.cells), *inspect(engine)]
    for finding, is_good in findings:
        print(f"{'ok ' if is_good else 'BAD'} {finding}", flush=True)
    return 0 if all(is_good for _, is_good in findings) else 1


@contextmanager
def s3_server() -> Iterator[None]:
    """Runs an S3 server with an empty bucket at the address that containers reach."""
    server = ThreadedMotoServer(ip_address=LAN, port=S3_PORT)
    server.start()
    try:
        bucket().mkdir(BUCKET)
        yield
    finally:
        server.stop()


def bucket() -> fsspec.AbstractFileSystem:
    """Returns a file system on the S3 server."""
    return fsspec.filesystem("s3", key=KEYS[0], secret=KEYS[1], endpoint_url=S3_URL, skip_instance_cache=True)


def classify(engine: Engine) -> None:
    """Migrates, and has the night ingested and classified in containers of the worker."""
    for service in ("postgres", "init"):
        engine.start(service)
    (model,) = engine.sql("SELECT model_id FROM bloodcell.champion").split()
    engine.run("worker", "bloodcell", "ingest", f"/var/lib/bloodcell/drops/{NIGHT}")
    began = time.monotonic()
    engine.run("worker", "bloodcell", "classify", "--night", str(NIGHT), "--model", model)
    n_objects = len(bucket().find(BUCKET))
    print(
        f"{NIGHT} is classified after {time.monotonic() - began:.0f} s; objects in the bucket: {n_objects}", flush=True
    )


def review(engine: Engine, proxy: Proxy, work: Path, n_cells: int) -> Iterator[tuple[str, bool]]:
    """Lets a reader sign a slide and a viewer look at it; yields each finding, and whether it is good."""
    links = {
        name: engine.in_service("desk", "bloodcell", "users", "add", name, "--role", role, "--link").strip()
        for name, role in ((READER, "reader"), (VIEWER, "viewer"))
    }
    yield f"the links lead to {ORIGIN}", all(link.startswith(f"{ORIGIN}/enter/") for link in links.values())
    with browser(proxy, work / "home") as chromium:
        reader, viewer = (Person(chromium, name, links[name], work / "screenshots") for name in (READER, VIEWER))
        yield from reader.get_in()
        yield from viewer.get_in()
        slide = reader.open_slide(n_cells)
        yield from reader.review(slide)
        yield from viewer.look_at(slide)
        yield from reader.leave_and_return()
        peers = {_ip(line) for line in engine.in_service("desk", "sh", "-c", PEERS).split()} - {"127.0.0.1"}
        believed = engine.variable("desk", "BLOODCELL_DESK_PROXY")
        is_believed = bool(peers) and peers <= {*believed.split(",")}
        yield f"whom the desk takes for its proxy: {believed}; connections come from {peers}", is_believed
        for person in (reader, viewer):
            yield f"{person.name}: the browser's console: {person.said or 'silent'}", not person.said
    shown = engine.run("worker", "bloodcell", "result", slide)
    print(shown)
    yield f"bloodcell result shows the signature of {READER}", READER in shown


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, chromium: Browser, name: str, link: str, screenshots: Path) -> None:
        self.name = name
        self.said: list[str] = []
        self._link = link
        self._screenshots = screenshots
        self._context: BrowserContext = chromium.new_context(viewport={"width": 1280, "height": 900})
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda line: self.said.append(line.text) if line.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def get_in(self) -> Iterator[tuple[str, bool]]:
        """Sets the password by the link, which logs the person in."""
        self.page.goto(self._link)
        self._keep("1-link")
        self.page.get_by_label("New password").fill(PASSWORD)
        self.page.get_by_label("The same again").fill(PASSWORD)
        self.page.get_by_role("button", name="Set the password and log in").click()
        self.page.wait_for_url(f"{ORIGIN}/")
        self._keep("2-worklist")
        protocol = self.page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        yield f"{self.name}: logged in by the link, over {protocol}", protocol == "h2"
        (cookie,) = (each for each in self._context.cookies() if "bloodcell" in each["name"])
        kept = {name: cookie.get(name) for name in ("name", "domain", "path", "secure", "httpOnly", "sameSite")}
        wanted = {"name": "__Host-bloodcell", "domain": DESK_NAME, "path": "/", "secure": True, "httpOnly": True}
        yield f"{self.name}: cookie {kept}", kept == {**wanted, "sameSite": "Strict"}
        again = self._context.browser.new_context().new_page() if self._context.browser else self.page
        again.goto(self._link)
        yield f"{self.name}: the link works once", again.get_by_label("New password").count() == 0
        again.context.close()

    def open_slide(self, n_cells: int) -> str:
        """Opens the first slide of the worklist with so many cells, and returns its barcode."""
        link = self.page.get_by_role("row").filter(has_text=f"{n_cells}").locator("a[href^='/slides/']").first
        barcode = link.inner_text().strip()
        link.click()
        self.page.wait_for_url("**/slides/*")
        expect(self.page.locator("[role=option]").first).to_be_visible()
        self.page.wait_for_load_state("networkidle")
        self._keep("3-slide")
        return barcode

    def review(self, barcode: str) -> Iterator[tuple[str, bool]]:
        """Labels what has to be labelled, and one cell more, then signs."""
        keys = {line["line"]: line["key"] for line in self._slide()["lines"] if line["key"]}
        n_labelled = 0
        while self.page.get_by_text("Before this slide can be signed").count() and n_labelled < 200:
            self.page.keyboard.press("n")
            cell = self._cell(int(self.page.evaluate("Number(document.activeElement.dataset.cell)")))
            label = cell["analyser_code"] if cell["analyser_code"] in keys else cell["analyser_class"]
            self._label(keys.get(label, "m"))
            n_labelled += 1
        self.page.locator("[role=option]").first.click()
        self._label(keys["monocyte"])
        yield f"{self.name}: labelled {n_labelled + 1} cells of {barcode}", n_labelled < 200
        self._keep("4-labelled")
        sign = self.page.get_by_role("region", name=re.compile("^Sign"))
        for box in sign.get_by_role("checkbox").all():
            box.check()
        sign.get_by_role("radio").first.check()
        sign.get_by_label("Your password").fill("not the password at all")
        sign.get_by_role("button", name="Sign the slide").click()
        expect(sign.get_by_role("alert")).to_have_text("The password is wrong.")
        self.said = [text for text in self.said if "403" not in text]  # the browser's own line about that answer
        sign.get_by_label("Your password").fill(PASSWORD)
        self._keep("5-signing")
        sign.get_by_role("button", name="Sign the slide").click()
        told = self.page.get_by_text(re.compile(r"Signed: version \d+, final"))
        expect(told.first).to_be_visible()
        self._keep("6-signed")
        yield f"{self.name}: {told.first.inner_text().strip()}", True

    def look_at(self, barcode: str) -> Iterator[tuple[str, bool]]:
        """Opens the signed slide, and tries everything that only a reader may do."""
        self.page.goto(f"{ORIGIN}/?state=all")
        link = self.page.get_by_role("link", name=barcode)
        self.page.goto(f"{ORIGIN}{link.first.get_attribute('href')}" if link.count() else f"{ORIGIN}/slides/1")
        expect(self.page.locator("[role=option]").first).to_be_visible()
        self.page.wait_for_load_state("networkidle")
        self._keep("3-slide")
        slide = self._slide()
        state = (slide["slide"]["barcode"], slide["result"]["state"], slide["result"]["signed_by"])
        yield f"{self.name}: sees {state}", state == (barcode, "final", READER)
        pictures = "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
        loaded = self.page.evaluate(pictures)
        yield f"{self.name}: pictures on the page: {len(loaded)}", all(loaded)
        n_buttons = self.page.get_by_role("button", name="Sign the slide").count()
        yield (
            f"{self.name}: buttons to sign: {n_buttons}; may {slide['may']}",
            not n_buttons and not any(slide["may"].values()),
        )
        token = self.page.evaluate("JSON.parse(document.getElementById('page').textContent).csrf")
        statuses = self.page.evaluate(TRIES, [slide["slide"]["slide_id"], slide["cells"][0]["cell_id"], token])
        self.said = [text for text in self.said if "403" not in text]
        yield f"{self.name}: tries to label, comment, take over, sign: {statuses}", set(statuses.values()) == {403}
        picture = f"/slides/{slide['slide']['slide_id']}/cells/{slide['cells'][0]['cell_id']}/image"
        status, n_bytes = self.page.evaluate(FETCHED, picture)
        yield f"{self.name}: the original pixels of a cell: {status}, {n_bytes:,} bytes", status == 200

    def leave_and_return(self) -> Iterator[tuple[str, bool]]:
        """Logs out, and in again by the form."""
        self.page.goto(ORIGIN)
        menu = self.page.locator("details.menu-of-person summary")
        if menu.count():
            menu.click()
        self.page.get_by_role("button", name="Log out", exact=True).click()
        self.page.wait_for_url("**/login*")
        self.page.get_by_label("Name").fill(self.name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(f"{ORIGIN}/")
        self._keep("7-worklist")
        yield f"{self.name}: logged out, and in again by the form", True

    def _slide(self) -> dict[str, Any]:
        number = self.page.url.rpartition("/")[2].split("#")[0].split("?")[0]
        found: dict[str, Any] = self.page.evaluate("async path => (await fetch(path)).json()", f"/api/slides/{number}")
        return found

    def _cell(self, cell_id: int) -> dict[str, Any]:
        return next(each for each in self._slide()["cells"] if each["cell_id"] == cell_id)

    def _label(self, key: str) -> None:
        with self.page.expect_response("**/labels") as answered:
            self.page.keyboard.press(key)
        assert answered.value.ok, answered.value.text()
        expect(self.page.locator(".saving-state")).to_have_text("✔ Saved")

    def _keep(self, what: str) -> None:
        self.page.screenshot(path=self._screenshots / f"{self.name}-{what}.png")


def inspect(engine: Engine) -> Iterator[tuple[str, bool]]:
    """Yields what the database and the container say afterwards, and whether it is good."""
    signed = engine.sql(SIGNED).splitlines()
    yield f"signed versions: {signed}", [line.split("|")[1:4] for line in signed] == [["final", READER, READER]]
    labels = engine.sql(LABELS).splitlines()
    yield f"labels of the desk: {labels}", [line.split("|")[0] for line in labels] == [READER]
    stored = engine.in_service("desk", "find", "/var/lib/bloodcell/store", "-type", "f").split()
    yield f"files in the volume of the store: {len(stored)}", not stored
    kept = engine.in_service(
        "desk", "find", "/var/lib/bloodcell/desk", "-type", "f", "-printf", "%m %u %f\n"
    ).splitlines()
    are_closed = all(line.startswith("600 bloodcell ") for line in kept)
    yield f"files in the volume of the desk: {len(kept)}, for its user only", are_closed and bool(kept)
    escapes = set(engine.escapes("desk")) - {"reaches an address outside"}  # with compose.outside.yaml it does
    yield f"attempts to escape: {', '.join(escapes) or 'none succeeds'}", not escapes
    memory = engine.in_service("desk", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes")
    yield f"memory at most: {int(memory) / 2**20:.0f} MB of 1024, caches included", int(memory) < 2**30
    yield f"processes and threads at most: {engine.peak['desk']}", engine.peak["desk"] < 256


@contextmanager
def browser(proxy: Proxy, home: Path) -> Iterator[Browser]:
    """Yields Chromium, which trusts the authority of the proxy and finds the desk's name at the proxy's address."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    trusted = [*certutil, "-A", "-t", "C,,", "-n", "laboratory", "-i", str(proxy.authority)]
    subprocess.run(trusted, check=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", f"--host-resolver-rules=MAP {DESK_NAME} {proxy.address}"],
            env={**os.environ, "HOME": str(home)},
        )
        try:
            yield chromium
        finally:
            chromium.close()


def _ip(end: str) -> str:
    """Returns the address of an end of a connection as /proc/net/tcp writes it."""
    number = bytes.fromhex(end.split(":")[0])
    return ".".join(str(byte) for byte in reversed(number))


if __name__ == "__main__":
    sys.exit(main())
