"""The page of the quality control: what it shows, and what a senior overrides there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from tests.review.desk import RunningDesk, Slide

INSERT = (
    "INSERT INTO bloodcell.quality_check (kind, subject, night, analyser, whole_night, passed, value, center, lower, "
    "upper, reason, figures, run_id) VALUES (:kind, :subject, :night, 'DM96', :whole_night, :passed, :value, :center, "
    ":lower, :upper, :reason, :figures, :run_id)"
)


def add_check(desk: RunningDesk, **values: object) -> None:
    defaults = {"kind": "figure", "subject": "brightness", "whole_night": False, "passed": True, "value": 230.0,
                "center": None, "lower": None, "upper": None, "reason": "r", "figures": "{}",
                "run_id": desk.laboratory.run_id}  # fmt: skip
    desk.rows(INSERT, **{**defaults, **values})


@pytest.fixture
def held(running_desk: RunningDesk) -> Iterator[Slide]:
    """A slide whose night a failed control holds."""
    slide = running_desk.slide({"neutrophil": 60})
    night = running_desk.laboratory.night
    add_check(running_desk, kind="control", subject="QC-N-1", night=night, passed=False, reason="off <b>target</b>")
    yield slide
    running_desk.rows(
        "INSERT INTO bloodcell.quality_check (kind, subject, night, analyser, whole_night, passed, reason, figures, "
        "run_id) SELECT q.kind, q.subject, q.night, q.analyser, q.whole_night, true, 'done again', '{}', q.run_id "
        "FROM bloodcell.failed_check JOIN bloodcell.quality_check q USING (check_id)"
    )


def check_id(desk: RunningDesk) -> int:
    with desk.laboratory.database.connect() as connection:
        return int(connection.scalar(sa.text("SELECT max(check_id) FROM bloodcell.quality_check")) or 0)


def test_a_held_slide_is_not_signed_until_a_senior_overrides_the_check(running_desk: RunningDesk, held: Slide) -> None:
    asked = {"check": str(check_id(running_desk)), "reason": "the repeat was on target"}
    with running_desk.client("anna") as anna:
        page = anna.http.get("/quality")
        assert "off &lt;b&gt;target&lt;/b&gt;" in page.text
        assert "/quality/override" not in page.text
        assert anna.ask_sign(held).status_code == 409
        assert anna.http.post("/quality/override", data={**asked, "csrf": anna.csrf}).status_code == 403
    with running_desk.client("clara") as clara:
        assert "/quality/override" in clara.http.get("/quality").text
        assert clara.http.post("/quality/override", data={**asked, "csrf": clara.csrf}).status_code == 303
        assert clara.http.post("/quality/override", data={**asked, "csrf": clara.csrf}).status_code == 422
        page = clara.http.get("/quality")
        assert "Nothing is held." in page.text
        assert "the repeat was on target" in page.text
    by = "SELECT overridden_by, session_id IS NOT NULL FROM bloodcell.quality_override ORDER BY 1 DESC LIMIT 1"
    assert running_desk.laboratory.rows(by) == [("clara", True)]
    with running_desk.client("anna") as anna:
        assert anna.ask_sign(held).status_code == 200


def test_a_slide_that_was_signed_before_its_night_failed_says_so(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 60})
    with running_desk.client("anna") as anna:
        assert anna.ask_sign(slide).status_code == 200
        pages = (f"/slides/{slide.slide_id}", f"/slides/{slide.slide_id}/versions/2")
        assert all("The quality control holds the slide." not in anna.http.get(page).text for page in pages)
        night = running_desk.laboratory.night
        add_check(running_desk, kind="control", subject="QC-N-9", night=night, passed=False, reason="too <few>")
        try:
            for page in pages:
                shown = anna.http.get(page).text
                assert "The quality control holds the slide." in shown and "too &lt;few&gt;" in shown, page
            in_force = "SELECT count(*) FROM bloodcell.result_in_force WHERE signed_by IS NOT NULL"
            ((n_signed,),) = running_desk.rows(in_force)
            assert f'<td class="number"><strong>{n_signed}</strong></td>' in anna.http.get("/quality").text
        finally:
            add_check(running_desk, kind="control", subject="QC-N-9", night=night, passed=True)


def test_a_reason_that_nobody_sees_is_refused(running_desk: RunningDesk, held: Slide) -> None:
    asked = {"check": str(check_id(running_desk)), "reason": "all \u202e well"}
    with running_desk.client("clara") as clara:
        assert clara.http.post("/quality/override", data={**asked, "csrf": clara.csrf}).status_code == 422


def test_each_figure_has_a_chart_whose_points_name_their_night(running_desk: RunningDesk) -> None:
    first = date(2026, 1, 1)
    for number in range(6):
        is_judged = number >= 3
        limits = {"center": 230.0, "lower": 228.0, "upper": 232.0} if is_judged else {}
        figures = '{"warned": ["2_2s"]}' if number == 4 else "{}"
        add_check(
            running_desk, night=first + timedelta(days=number), value=230.0 + number, passed=number != 5,
            figures=figures, **limits,
        )  # fmt: skip
    try:
        with running_desk.client("vera") as vera:
            page = vera.http.get("/quality").text
        assert "Brightness of the empty field" in page
        assert "<title>2026-01-06: 235.00 (228.00–232.00), failed</title>" in page
        assert "<title>2026-01-05: 234.00 (228.00–232.00), warning</title>" in page
        assert (page.count('class="learnt"'), page.count('class="band"')) == (3, 3)
    finally:
        add_check(running_desk, night=first + timedelta(days=5), passed=True)


def test_a_control_slide_is_not_in_the_worklist(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 60})
    barcode = slide.barcode
    with running_desk.client("vera") as vera:
        assert barcode in vera.http.get("/").text
        running_desk.rows(
            "INSERT INTO bloodcell.control_slide (slide_id, name, run_id) VALUES (:slide, 'C', :run)",
            slide=slide.slide_id,
            run=running_desk.laboratory.run_id,
        )
        assert barcode not in vera.http.get("/").text
