"""Looking back: who did what, each version as it was, and what was reported at a moment."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bloodcell.review.reported_results import parse_moment
from tests.review.desk import RunningDesk, Slide, new_desk

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}"


def page_of(desk: RunningDesk, path: str, name: str = "vera", status: int = 200) -> str:
    with desk.client(name) as person:
        answer = person.http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == status, answer.text[:500]
    return answer.text


@pytest.fixture(scope="module")
def corrected(running_desk: RunningDesk) -> Slide:
    """A slide that was counted, corrected and signed by Anna, and signed again by Clara."""
    slide = running_desk.slide({"neutrophil": 60, "unclassified": 1})
    first, second, *_ = slide.cells["neutrophil"]
    with running_desk.client("anna") as anna, running_desk.client("clara") as clara:
        anna.open(slide)
        anna.label(slide, {slide.cells["unclassified"][0]: "monocyte", first: "ig"})
        anna.label(slide, {second: "ig"})
        anna.label(slide, {second: None})
        anna.ask_comment(slide, f"First line\n{HOSTILE}").raise_for_status()
        anna.ask_comment(slide, "Toxic granules", first).raise_for_status()
        anna.ask_sign(slide).raise_for_status()
        anna.open(slide)
        anna.label(slide, {first: "neutrophil"})  # the first label after a signature makes a version
        clara.open(slide)
        clara.label(slide, {first: "neutrophil"})
        clara.ask_comment(slide, "Said after the first signature").raise_for_status()
        clara.ask_sign(slide, state="corrected", reason="The band was no metamyelocyte").raise_for_status()
    return slide


def history(desk: RunningDesk, slide: Slide, asked: str = "") -> str:
    return page_of(desk, f"/slides/{slide.slide_id}/history{asked}")


def test_history_has_every_version_with_its_address(running_desk: RunningDesk, corrected: Slide) -> None:
    page = history(running_desk, corrected)
    assert [f'id="version-{number}"' in page for number in range(1, 7)] == [True] * 5 + [False]
    assert [f'href="/slides/{corrected.slide_id}/versions/{number}"' in page for number in range(1, 6)] == [True] * 5
    assert "The band was no metamyelocyte" in page


def test_history_says_who_changed_a_cell(running_desk: RunningDesk, corrected: Slide) -> None:
    cell = corrected.cells["neutrophil"][0]
    page = history(running_desk, corrected)
    part = page.split(f'id="cell-{cell}"')[1].split("</li>\n  <li")[0]
    words = re.sub(r"<[^>]+>|\s+", " ", part)
    told = re.findall(r"(anna|clara) +(labelled|commented|took the own label back) +([\w ]+?) +\d", words)
    assert [(who, what, label) for who, what, label in told if what == "labelled"] == [
        ("anna", "labelled", "Immature granulocytes"),
        ("anna", "labelled", "Neutrophils"),
        ("clara", "labelled", "Neutrophils"),
    ]
    assert f'src="/slides/{corrected.slide_id}/cells/{cell}/image"' in part


def test_history_of_one_cell_that_nobody_labelled(running_desk: RunningDesk, corrected: Slide) -> None:
    cell = corrected.cells["neutrophil"][9]
    page = history(running_desk, corrected, f"?cell={cell}")
    assert f'id="cell-{cell}"' in page
    assert "Nobody has labelled this cell." in page
    assert page.count('class="cell-history"') == 1


def test_history_is_filtered_by_person_and_kind(running_desk: RunningDesk, corrected: Slide) -> None:
    def actions(asked: str) -> list[str]:
        table = history(running_desk, corrected, asked).split('id="actions"')[1].split("</table>")[0]
        return [re.sub(r"<[^>]+>|\s+", " ", row) for row in table.split("<tr>")[2:]]

    assert len(actions("?kind=comment")) == 3
    assert len(actions("?kind=comment&person=clara")) == 1
    assert len(actions("?kind=label_taken_back")) == 1
    assert len(actions("?kind=signed")) == 2
    assert all("clara" in row for row in actions("?person=clara"))
    assert "No action matches." in history(running_desk, corrected, "?person=nobody")


def test_a_cell_of_another_slide_is_not_shown(running_desk: RunningDesk, corrected: Slide) -> None:
    other = running_desk.slide({"neutrophil": 1})
    page_of(running_desk, f"/slides/{corrected.slide_id}/history?cell={other.all_cells[0]}", status=404)
    page_of(running_desk, "/slides/987654/history", status=404)
    page_of(running_desk, f"/slides/{corrected.slide_id}/versions/6", status=404)
    page_of(running_desk, "/slides/987654/versions/1", status=404)


def test_whoever_looks_back_has_opened_the_slide(running_desk: RunningDesk) -> None:
    """The labels of others and the calls are in sight there: no cell can be read blind after that."""
    for path in ("history", "versions/1"):
        slide = running_desk.slide()
        page_of(running_desk, f"/slides/{slide.slide_id}/{path}", "ben")
        found = running_desk.rows(
            "SELECT person FROM bloodcell.slide_opening WHERE slide_id = :slide", slide=slide.slide_id
        )
        assert found == [("ben",)]


def version(desk: RunningDesk, slide: Slide, number: int) -> str:
    return page_of(desk, f"/slides/{slide.slide_id}/versions/{number}")


def test_each_version_is_shown_as_it_was(running_desk: RunningDesk, corrected: Slide) -> None:
    def row(number: int) -> list[str]:
        page = version(running_desk, corrected, number)
        line = page.split("Neutrophils</th>")[1].split("</tr>")[0]
        return re.findall(r"<td[^>]*>([^<]*)</td>", line)[:2]

    assert [row(number) for number in (1, 2, 3, 4, 5)] == [
        ["60", "100.0"],
        ["59", "96.7"],
        ["59", "96.7"],
        ["60", "98.4"],
        ["60", "98.4"],
    ]


def test_a_version_says_that_it_must_not_be_used(running_desk: RunningDesk, corrected: Slide) -> None:
    stamps = {
        number: re.findall(r'<p class="stamp[^>]*>([A-Z ]+):', version(running_desk, corrected, number))
        for number in range(1, 6)
    }
    assert stamps == {
        1: ["SUPERSEDED", "NOT SIGNED"],
        2: ["SUPERSEDED", "NOT SIGNED"],
        3: ["SUPERSEDED"],
        4: ["NEVER IN FORCE", "NOT SIGNED"],
        5: [],
    }  # fmt: skip
    withheld = running_desk.slide({"neutrophil": 10})
    assert "WITHHELD" in version(running_desk, withheld, 1)


def test_a_signed_version_names_who_when_why_and_what_was_said_until_then(
    running_desk: RunningDesk, corrected: Slide
) -> None:
    first, last = version(running_desk, corrected, 3), version(running_desk, corrected, 5)
    assert "anna" in first and "Said after the first signature" not in first
    assert "The band was no metamyelocyte" in last and "Said after the first signature" in last
    assert re.search(r"<code>[0-9a-f]{64}</code>", last)


def test_a_withdrawn_slide_is_still_looked_back_on(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    running_desk.withdraw(slide)
    again = running_desk.slide(barcode=slide.barcode)
    assert "Withdrawn: do not use." in history(running_desk, slide)
    assert "slide withdrawn" in history(running_desk, slide)
    assert "WITHDRAWN: do not use." in version(running_desk, slide, 1)
    page = version(running_desk, again, 1)
    assert "WITHDRAWN" not in page


def test_hostile_text_is_shown_and_not_run(running_desk: RunningDesk, corrected: Slide) -> None:
    slide = running_desk.slide(barcode=HOSTILE, patient_key=HOSTILE, order_id="\u202eevil")
    running_desk.laboratory.label(slide.all_cells[:1], ["ig"], HOSTILE, note=HOSTILE)
    running_desk.laboratory.count(slide.slide_id)
    pages = (
        history(running_desk, slide),
        version(running_desk, slide, 2),
        history(running_desk, corrected),
        version(running_desk, corrected, 5),
        page_of(running_desk, "/reported"),
        page_of(running_desk, f"/slides/{slide.slide_id}/history?person=%3Cscript%3E&kind=%22%3E"),
    )
    for page in pages:
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert "{{7*7}}" in page or "%3Cscript" not in page
        assert "\u202e" not in page
        assert " style=" not in page
    assert "\\u202e" in pages[0]


def reported(desk: RunningDesk, moment: str, barcode: str) -> list[dict[str, str]]:
    with desk.client("vera") as vera:
        answer = vera.http.get("/reported.csv", params={"date": moment, "barcode": barcode}).raise_for_status()
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_what_was_reported_at_a_moment_is_the_version_in_force_then(
    running_desk: RunningDesk, corrected: Slide
) -> None:
    made = [
        row[0] for row in running_desk.rows(
            "SELECT made_at FROM bloodcell.result WHERE slide_id = :slide ORDER BY number", slide=corrected.slide_id)
    ]  # fmt: skip
    asked = [reported(running_desk, moment.isoformat(), corrected.barcode) for moment in made]
    found = [[(row["version"], row["state"]) for row in rows] for rows in asked]
    assert found == [[("1", "machine")], [("2", "machine")], [("3", "final")], [("3", "final")], [("5", "corrected")]]
    assert reported(running_desk, "2020-01-01", corrected.barcode) == []
    (row,) = asked[-1]
    assert (row["signed_by"], row["neutrophil_percent"], row["n_leucocytes"]) == ("clara", "98.36", "61")


def test_a_slide_is_not_reported_while_it_was_withdrawn(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    before = datetime.now(UTC).isoformat()
    running_desk.withdraw(slide)
    assert reported(running_desk, "", slide.barcode) == []
    assert [row["version"] for row in reported(running_desk, before, slide.barcode)] == ["1"]


def test_the_page_of_what_was_reported_leads_to_the_version(running_desk: RunningDesk, corrected: Slide) -> None:
    page = page_of(running_desk, f"/reported?barcode={corrected.barcode}")
    assert f'href="/slides/{corrected.slide_id}/versions/5"' in page
    assert "still in force" in page
    assert "Nothing was reported then." in page_of(running_desk, "/reported?date=2020-01-01")


def test_no_cell_of_the_table_is_a_formula(running_desk: RunningDesk) -> None:
    running_desk.slide(barcode="=HYPERLINK(1)")
    (row,) = reported(running_desk, "", "=HYPERLINK")
    assert row["barcode"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", "0001-01-01", "2026-11-28T25:00", "9999-12-31"])
def test_a_moment_that_is_none_is_told(running_desk: RunningDesk, moment: str) -> None:
    assert 'role="alert"' in page_of(running_desk, f"/reported?date={moment}", status=422)
    with running_desk.client("vera") as vera:
        assert vera.http.get("/reported.csv", params={"date": moment}).status_code == 422


def test_a_nul_byte_is_refused(running_desk: RunningDesk) -> None:
    with running_desk.client("vera") as vera:
        for path in ("/reported?barcode=%00", "/reported.csv?date=%00", "/slides/1/history?person=%00"):
            assert vera.http.get(path).status_code == 422


def test_a_date_means_the_end_of_its_day() -> None:
    assert parse_moment("2026-11-28") == ("2026-11-28T23:59:59.999999", None)
    assert parse_moment(" 2026-11-28T07:30+01:00 ") == ("2026-11-28T07:30:00+01:00", None)
    assert parse_moment("") == (None, None)


def test_an_empty_laboratory_has_every_page(database_url: str, tmp_path: Path) -> None:
    with new_desk(tmp_path, database_url) as desk:
        for path in ("/reported", "/statistics", "/training-queue"):
            page_of(desk, path, "clara")
        assert reported(desk, "", "") == []
        slide = desk.slide({})
        assert "The slide has no result yet." in history(desk, slide)
        page_of(desk, f"/slides/{slide.slide_id}/versions/1", status=404)
