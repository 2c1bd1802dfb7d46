"""The pages that the server writes, in a browser: on every screen, on paper, and for people who cannot see them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from bloodcell.storage import tables
from tests.laboratory import NIGHT
from tests.review.desk import RunningDesk, Slide
from tests.review.vendor import axe_source

pytestmark = pytest.mark.slow
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
LONG = "S" + 80 * "x"
CANDIDATE = "b" * 64
GATES = (
    ("no_class_more_unclassified", False, "ig: 13.5 points more often unclassified."),
    ("enough_holdout_cells", True, "At least 30 cells of each class."),
    ("calibrated", True, "2.1 points."),
)


@pytest.fixture(scope="module")
def slide(running_desk: RunningDesk) -> Slide:
    """A slide with a long barcode that was labelled, commented, signed, and labelled again."""
    slide = running_desk.slide({"neutrophil": 50, "BL": 1, "SMU": 2, "lymphocyte": 12}, barcode=LONG)
    with running_desk.client("anna") as anna:
        anna.open(slide)
        anna.label(slide, {slide.cells["BL"][0]: "BL", slide.cells["neutrophil"][0]: "ig"})
        anna.ask_comment(slide, 40 * "Toxic granules. ").raise_for_status()
        anna.ask_sign(slide).raise_for_status()
        anna.label(slide, {slide.cells["neutrophil"][1]: "ig"})
    sampled = running_desk.slide({"neutrophil": 30})
    running_desk.laboratory.sample(sampled.all_cells)
    for who in ("anna", "ben"):
        running_desk.laboratory.label(sampled.all_cells[:25], ["neutrophil"] * 24 + ["ig"], who, blind=True)
    running_desk.laboratory.count()
    validate(running_desk)
    return slide


def validate(running_desk: RunningDesk) -> None:
    """Records a validation that waits for an answer."""
    laboratory = running_desk.laboratory
    laboratory.model(CANDIDATE, "vgg16", promote=False)
    laboratory.dataset("d" * 64, [])
    training_run_id = uuid.uuid4()
    common = {"model_id": CANDIDATE, "run_id": laboratory.run_id, "training_run_id": training_run_id}
    gates = [{"gate": gate, "passed": passed, "reason": reason} for gate, passed, reason in GATES]
    with laboratory.database.begin() as connection:
        connection.execute(
            tables.training_run.insert().values(
                training_run_id=training_run_id,
                requested_by="anna",
                reason="weekly",
                variants=["vgg16"],
                base="champion",
                seed=0,
                min_new_labels=1,
                state="running",
                dataset_digest="d" * 64,
                airflow_run="manual__2026-03-07",
            )
        )
        connection.execute(tables.candidate.insert().values(variant="vgg16", **common))
        connection.execute(
            tables.validation.insert().values(
                validation_id=uuid.uuid4(),
                dataset_digest="d" * 64,
                gates=gates,
                passed=False,
                report="reports/1.html",
                **common,
            )
        )


def paths(slide: Slide) -> dict[str, str]:
    return {
        "history": f"/slides/{slide.slide_id}/history",
        "withheld": f"/slides/{slide.slide_id}/versions/1",
        "signed": f"/slides/{slide.slide_id}/versions/3",
        "waiting": f"/slides/{slide.slide_id}/versions/4",
        "reported": "/reported",
        "statistics": "/statistics",
        "statistics of March": "/statistics?from=2026-03-01&to=2026-03-31",
        "training queue": f"/training-queue?night={NIGHT}",
        "worklist": "/",
        "people": "/sessions",
        "messages": "/messages",
        "validation": f"/validations/{CANDIDATE}",
        "missing": "/slides/999999",
        "log-in": "/login",
    }


NAMES = tuple(paths(Slide(1, "", {})))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the console says, which has to be nothing."""
    told: list[str] = []
    yield told
    assert [text for text in told if "status of 404" not in text] == []  # what Chromium itself says of a missing page


@pytest.fixture
def context(running_desk: RunningDesk, browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A person in a browser: a senior, the administrator among the people, or nobody at the log-in."""
    callspec = getattr(request.node, "callspec", None)
    page = str(callspec.params.get("name")) if callspec else ""
    name = {"people": "adam", "log-in": None}.get(page, "clara")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True, reduced_motion="reduce")
    if name:
        context.add_cookies([{"name": "bloodcell_desk", "value": running_desk.token(name), "url": running_desk.url}])
    yield context
    context.close()


def opened(context: BrowserContext, running_desk: RunningDesk, path: str, said: list[str]) -> Page:
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(running_desk.url + path)
    return page


@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_no_violation(
    name: str, running_desk: RunningDesk, slide: Slide, context: BrowserContext, said: list[str]
) -> None:
    page = opened(context, running_desk, paths(slide)[name], said)
    page.add_script_tag(content=axe_source(Path(gettempdir()) / "bloodcell-axe"))
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = page.evaluate("rules => axe.run(document, rules)", RULES)
        assert [(theme, one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_page_scrolls_sideways(
    name: str, running_desk: RunningDesk, slide: Slide, context: BrowserContext, said: list[str]
) -> None:
    page = opened(context, running_desk, paths(slide)[name], said)
    for width in (1280, 820, 640):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width


def test_a_validation_shows_failed_gates_first_and_leads_to_the_question(
    running_desk: RunningDesk, slide: Slide, context: BrowserContext, said: list[str]
) -> None:
    page = opened(context, running_desk, paths(slide)["validation"], said)
    expect(page.locator("tbody th")).to_have_text(
        ["No class more often unclassified", "Enough hold-out cells of each class", "Confidence is calibrated"]
    )
    link = page.get_by_role("link", name="Answer in Airflow").get_attribute("href") or ""
    assert link.endswith("/dags/retrain/runs/manual__2026-03-07/tasks/approve/required_actions")


def test_a_signed_result_is_one_page_of_a4(
    running_desk: RunningDesk, slide: Slide, context: BrowserContext, said: list[str]
) -> None:
    """On paper are the state, who signed, and what it was made from; not the buttons."""
    page = opened(context, running_desk, paths(slide)["signed"], said)
    printed = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1
    (size,) = set(re.findall(rb"/MediaBox\s*\[0 0 (\d+)[\d.]* (\d+)", printed))
    assert (int(size[0]), int(size[1])) in {(594, 841), (595, 841), (595, 842)}
    page.emulate_media(media="print")
    text = page.locator("body").inner_text()
    assert "anna" in text and "final" in text
    assert "History of the slide" not in text


def test_what_nobody_may_overlook_is_printed(
    running_desk: RunningDesk, slide: Slide, context: BrowserContext, said: list[str]
) -> None:
    page = opened(context, running_desk, paths(slide)["withheld"], said)
    page.emulate_media(media="print")
    text = page.locator("body").inner_text()
    assert "SUPERSEDED" in text and "WITHHELD" in text and "NOT SIGNED" in text


def test_a_cell_that_the_model_finds_like_the_blasts_of_the_laboratory_says_so(
    running_desk: RunningDesk, context: BrowserContext, said: list[str], tmp_path: Path
) -> None:
    slide = running_desk.slide({"neutrophil": 40, "lymphocyte": 16, "unclassified": 2}, resembles={0: "BL"})
    alike, other = slide.cells["unclassified"]
    page = opened(context, running_desk, f"/slides/{slide.slide_id}", said)
    expect(page.locator(f"#cell-{alike}")).to_contain_text("like your BL")
    expect(page.locator(f"#cell-{other}")).not_to_contain_text("like your")
    expect(page.get_by_role("option", name=re.compile("not classified: like your BL"))).to_have_count(1)
    page.screenshot(path=tmp_path / "gallery.png")
    page.locator(f"#cell-{alike}").dblclick()
    expect(page.get_by_role("dialog")).to_contain_text("like your BL")
    page.screenshot(path=tmp_path / "large view.png")
    page.goto(f"{running_desk.url}/slides/{slide.slide_id}/history?cell={alike}")
    expect(page.locator("body")).to_contain_text("like your BL")
