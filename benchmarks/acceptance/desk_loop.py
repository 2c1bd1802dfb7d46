"""The loop closed in a browser: labels of the desk, a retraining by the form, an approval by the link, a new champion.

    python -m benchmarks.acceptance.desk_loop WORK

Starts `bloodcell up` in the empty folder WORK with a model that learns small coloured cells within seconds. The first
person enters the desk by the link that `up` printed, and reads a night of twelve slides blind; somebody fills in
Airflow's form of the Dag retrain; the approver follows the link in Airflow's question to the validation at the desk,
and from there back to Airflow, and approves. The next night is then called by the new champion. Writes screenshots into
WORK/pictures; exit status 1 if it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from playwright.sync_api import expect, sync_playwright

from bloodcell.cells.classes import REPORT_ORDER, class_of_code
from bloodcell.ingest import ingest_night
from bloodcell.service.airflow_api import NIGHTLY_RUN, RETRAIN, AirflowApi
from bloodcell.storage.database import open_database
from tests.service.conftest import running_up, train_small_model, write_night

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.service.conftest import Up

PASSWORD: Final = "seven lamps under the bridge"  # noqa: S105 - of a person who exists only here
APPROVER: Final = "pathologist"
RUN_S: Final = 900


class Pictures:
    """Screenshots in the order in which things happened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n = 0

    def take(self, page: Page, what: str) -> None:
        self._n += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=self._folder / f"{self._n:02} {what}.png")


def classes_of(folder: Path) -> dict[str, str]:
    """Returns digest of the file -> class, as a person sees it in the picture."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): str(class_of_code(path.name.partition("_")[0]))
        for path in folder.glob("*/*.png")
    }


def enter(page: Page, up: Up) -> None:
    """Sets the first person's password by the link that `up` printed."""
    link = re.search(r"http\S+/enter/\S+", up.printed.read_text())
    assert link, up.printed.read_text()
    page.goto(link.group())
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=again]", PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Worklist").wait_for()


def read_blind(page: Page, up: Up, folder: Path, pictures: Pictures) -> int:
    """Reads every cell of the night's sample, as the picture shows it; returns how many."""
    known, n = classes_of(folder), 0
    page.goto(f"{up.settings.desk_url}/blind")
    while True:
        page.wait_for_timeout(50)
        picture = page.locator(".specimen img")
        if not picture.count():
            page.goto(f"{up.settings.desk_url}/blind")  # the next cells of the sample
            page.wait_for_timeout(1000)
            if not picture.count():
                return n
        source = str(picture.first.get_attribute("src"))
        body = page.request.get(f"{up.settings.desk_url}{source}").body()
        page.keyboard.press(str(1 + REPORT_ORDER.index(known[hashlib.sha256(body).hexdigest()])))
        n += 1
        if n == 1:
            pictures.take(page, "blind reading")
        if page.get_by_role("button", name="Finish").is_enabled() and not page.locator(".specimen img").count():
            page.get_by_role("button", name="Finish").click()
            page.wait_for_timeout(1500)


def airflow(browser: Browser, up: Up, user: str) -> Page:
    """Returns Airflow's page with a user logged in."""
    passwords = json.loads((up.settings.data_dir / "airflow" / "passwords.json").read_text())
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(30_000)
    page.goto(up.settings.airflow_url)
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", passwords[user])
    page.keyboard.press("Enter")
    page.get_by_text("Dags", exact=True).first.wait_for()
    return page


def retrain_by_form(page: Page, up: Up, pictures: Pictures) -> str:
    """Fills in Airflow's form of the Dag retrain; returns the run's id."""
    page.goto(f"{up.settings.airflow_url}/dags/{RETRAIN}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_text("Reason").first.wait_for()
    page.wait_for_timeout(1000)
    pictures.take(page, "form of the retraining")
    page.locator("input[name=element_reason], textarea[name=element_reason]").first.fill("labels of the desk")
    page.locator("input[name=element_min_new_labels]").fill("1")
    pictures.take(page, "form filled in")
    page.get_by_role("button", name="Trigger").last.click()
    page.wait_for_timeout(3000)
    with AirflowApi(up.settings) as api:
        found = api._json("GET", f"/api/v2/dags/{RETRAIN}/dagRuns", params={"order_by": "-run_after", "limit": 1})
    return str(found["dag_runs"][0]["dag_run_id"])


def approve_by_link(page: Page, desk: Page, up: Up, run_id: str, pictures: Pictures) -> None:
    """Follows the link in the question to the desk, back to Airflow, and approves."""
    page.goto(f"{up.settings.airflow_url}/dags/{RETRAIN}/runs/{run_id}/tasks/approve/required_actions")
    link = page.get_by_role("link", name="Look at the whole validation at the review desk")
    link.wait_for(timeout=60_000)
    pictures.take(page, "question with the link")
    address = str(link.get_attribute("href"))
    desk.goto(address)
    expect(desk.get_by_text("Passed every gate")).to_be_visible()
    pictures.take(desk, "validation at the desk")
    desk.get_by_role("link", name="The whole page, with plots and cells").click()
    desk.wait_for_timeout(1000)
    pictures.take(desk, "the whole page")
    desk.go_back()
    back = str(desk.get_by_role("link", name="Answer in Airflow").get_attribute("href"))
    assert back.startswith(up.settings.airflow_url), back
    page.bring_to_front()
    page.locator("input[name=element_reason], textarea[name=element_reason]").first.fill("all gates passed")
    pictures.take(page, "answer")
    page.get_by_role("button", name="Approve").click()
    page.wait_for_timeout(2000)


def champion(up: Up) -> str:
    with open_database(up.settings).connect() as connection:
        return str(connection.scalar(sa.text("SELECT model_id FROM bloodcell.champion")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    work = parser.parse_args().work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(work / "pictures")
    bundle = train_small_model(work)
    with running_up(work, bundle, approvers=APPROVER) as up, sync_playwright() as play:
        first = champion(up)
        folder = write_night(work / "elsewhere", "2026-11-20", slides=12, cells_per_class=3)
        ingest_night(folder, up.settings)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            desk = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            enter(desk, up)
            pictures.take(desk, "first person")
            n = read_blind(desk, up, folder, pictures)
            print(f"read blind at the desk: {n} cells")
            form = airflow(browser, up, "admin")
            run_id = retrain_by_form(form, up, pictures)
            print(f"retraining {run_id}, started by the form")
            with AirflowApi(up.settings) as api:
                waiting = api.wait(RETRAIN, run_id, timeout_s=RUN_S, for_a_person=False)
                assert waiting.waits_for_a_person, waiting
                approve_by_link(airflow(browser, up, APPROVER), desk, up, run_id, pictures)
                api.wait(RETRAIN, run_id, timeout_s=RUN_S)
                new = champion(up)
                print(f"champion: {first[:12]} -> {new[:12]}")
                night = "2026-11-21"
                write_night(up.settings.drops, night)
                ended = api.wait(NIGHTLY_RUN, api.trigger(NIGHTLY_RUN, conf={"night": night}), timeout_s=RUN_S)
                print(f"night {night}: {ended.state}")
            with open_database(up.settings).connect() as connection:
                statement = "SELECT DISTINCT model_id FROM bloodcell.cell_result WHERE night = :night AND is_reported"
                callers = list(connection.scalars(sa.text(statement), {"night": night}))
            desk.goto(up.settings.desk_url)
            time.sleep(1)
            pictures.take(desk, "worklist with the next night")
            print(f"reported calls of {night} are by {[each[:12] for each in callers]}")
        finally:
            browser.close()
    return 0 if new != first and callers == [new] else 1


if __name__ == "__main__":
    sys.exit(main())
