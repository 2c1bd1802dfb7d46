"""Statistics of the desk: four slides signed by three people at known times, and every figure by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

import pytest

from bloodcell.cells.intervals import proportion
from bloodcell.review.desk_statistics import Period, PeriodError, Statistics, quartiles, read_period, read_statistics
from bloodcell.review.reader_agreement import cohens_kappa
from tests.review.desk import Reader, RunningDesk, Slide

MARCH = "from=2026-03-01&to=2026-03-31"
DAY = "2026-03-15"


def at(desk: RunningDesk, table: str, column: str, when: str, where: str) -> None:
    """Moves what people have just done to a known moment, which no role can do."""
    desk.rows(
        f"SET LOCAL session_replication_role = replica; UPDATE bloodcell.{table} SET {column} = '{DAY} {when}+00' "
        f"WHERE {where}"
    )


def opened(desk: RunningDesk, who: Reader, slide: Slide, when: str) -> None:
    who.open(slide)
    at(desk, "slide_opening", "opened_at", when, f"slide_id = {slide.slide_id} AND person = '{who.name}'")


def labelled(desk: RunningDesk, who: Reader, slide: Slide, labels: Mapping[int, str | None], when: str) -> None:
    answer = who.label(slide, labels)
    assert {each["outcome"] for each in answer["outcomes"]} == {"stored"}
    newest = "label_id IN (SELECT max(label_id) FROM bloodcell.label WHERE source = 'desk' GROUP BY cell_id) "
    for column in ("labelled_at", "recorded_at"):
        at(desk, "label", column, when, f"{newest} AND cell_id = ANY (ARRAY{list(labels)})")


def signed(desk: RunningDesk, who: Reader, slide: Slide, when: str) -> None:
    assert who.ask_sign(slide).status_code == 200
    at(desk, "result", "made_at", when, f"slide_id = {slide.slide_id} AND signed_by IS NOT NULL")
    at(desk, "slide_opening", "opened_at", "06:00:00", "opened_at > '2026-04-01'")


@pytest.fixture(scope="module")
def worked(running_desk: RunningDesk) -> Iterator[RunningDesk]:
    """Anna confirms a blast and names two cells, and relabels two; Clara overrules a blast; Ben only signs."""
    desk = running_desk
    laboratory = desk.laboratory
    a = desk.slide({"neutrophil": 40, "lymphocyte": 16, "monocyte": 4, "unclassified": 2, "BL": 1})
    b, d = desk.slide(), desk.slide()
    c = desk.slide({"neutrophil": 40, "lymphocyte": 16, "BL": 1})
    for slide in (a, b, c, d):
        at(desk, "result", "made_at", "03:00:00", f"slide_id = {slide.slide_id}")
    with desk.client("anna") as anna, desk.client("ben") as ben, desk.client("clara") as clara:
        opened(desk, anna, a, "09:00:00")
        named = dict(zip(a.cells["unclassified"], ("ig", "neutrophil"), strict=True))
        labelled(desk, anna, a, {**named, a.cells["BL"][0]: "BL"}, "09:02:00")
        signed(desk, anna, a, "09:04:00")
        at(desk, "slide_opening", "opened_at", "09:00:00", f"slide_id = {a.slide_id} AND person = 'anna'")

        opened(desk, anna, d, "09:20:00")
        first, second, third, fourth, *_ = d.cells["neutrophil"]
        said = {first: "monocyte", second: "monocyte", third: "neutrophil", fourth: "ig"}
        labelled(desk, anna, d, said, "09:21:00")
        labelled(desk, anna, d, {fourth: None}, "09:22:00")
        assert anna.ask_comment(d, "Smudges at the edge").status_code == 200
        at(desk, "slide_comment", "written_at", "09:30:00", f"slide_id = {d.slide_id}")
        signed(desk, anna, d, "09:31:00")
        at(desk, "slide_opening", "opened_at", "09:20:00", f"slide_id = {d.slide_id} AND person = 'anna'")

        opened(desk, ben, b, "10:00:00")
        signed(desk, ben, b, "10:06:00")
        at(desk, "slide_opening", "opened_at", "10:00:00", f"slide_id = {b.slide_id} AND person = 'ben'")

        opened(desk, clara, c, "11:00:00")
        opened(desk, clara, a, "11:01:00")
        labelled(desk, clara, c, {c.cells["BL"][0]: "lymphocyte"}, "11:03:30")
        signed(desk, clara, c, "11:04:00")
        at(desk, "slide_opening", "opened_at", "11:00:00", f"slide_id = {c.slide_id} AND person = 'clara'")
        at(desk, "slide_opening", "opened_at", "11:01:00", f"slide_id = {a.slide_id} AND person = 'clara'")
    cells = desk.slide({"neutrophil": 30}, count=False).all_cells
    laboratory.sample(cells, read_twice=cells[:25])
    anna_said = ["neutrophil"] * 15 + ["ig"] * 10
    ben_said = ["neutrophil"] * 13 + ["ig"] * 2 + ["ig"] * 8 + ["neutrophil"] * 2
    laboratory.label(cells[:25], anna_said, "anna", blind=True)
    laboratory.label(cells[:25], ben_said, "ben", blind=True)
    laboratory.label(cells[:5], ["neutrophil"] * 5, "clara", blind=True)
    yield desk


def figures(desk: RunningDesk, person: str | None = None) -> Statistics:
    def read(connection: object) -> Statistics:
        period = read_period(connection, date(2026, 3, 1), date(2026, 3, 31))  # type: ignore[arg-type]
        return read_statistics(connection, period, person)  # type: ignore[arg-type]

    return desk.app.state.services.desk.transact(read)  # type: ignore[no-any-return]


def test_calls_and_labels_are_counted_by_class(worked: RunningDesk) -> None:
    matrix = figures(worked).matrix
    assert matrix.columns == ("neutrophil", "lymphocyte", "monocyte", "ig", "BL")
    counts = {called: cells for called, cells, _ in matrix.rows}
    assert counts == {"neutrophil": (1, 0, 2, 0, 0), "lymphocyte": (0, 1, 0, 0, 1), "unclassified": (1, 0, 0, 1, 0)}
    assert (matrix.n_labels, matrix.differing.n, matrix.differing.total) == (7, 3, 5)
    shares = {called: (share.n, share.total) for called, _, share in matrix.rows}
    assert shares == {"neutrophil": (2, 3), "lymphocyte": (1, 2), "unclassified": (2, 2)}


def test_cells_that_a_person_changed_are_a_share_of_the_signed_slides(worked: RunningDesk) -> None:
    relabelled = figures(worked).relabelled
    assert (relabelled.n, relabelled.total) == (3, 63 + 60 + 57 + 60)


def test_each_reader_has_labels_signatures_and_minutes(worked: RunningDesk) -> None:
    found = {each.name: each for each in figures(worked).readers}
    assert list(found) == ["anna", "clara", "ben"]
    assert [(each.n_labels, each.differing.n, each.differing.total, each.n_signed) for each in found.values()] == [
        (6, 3, 4, 2),
        (1, 0, 1, 1),
        (0, 0, 0, 1),
    ]
    assert found["anna"].minutes.median == pytest.approx(3.5)
    assert found["clara"].minutes.median == pytest.approx(1.5)
    assert found["ben"].minutes.median is None


def test_minutes_leave_pauses_and_other_slides_out(worked: RunningDesk) -> None:
    """Of slides of 4, 3 and 1.5 minutes; Ben's only gap was six minutes long."""
    found = figures(worked)
    assert (found.minutes.n, found.n_unmeasured) == (3, 1)
    assert (found.minutes.lower, found.minutes.median, found.minutes.upper) == pytest.approx((2.25, 3.0, 3.5))


def test_signatures_are_counted_by_day(worked: RunningDesk) -> None:
    by_day = dict(figures(worked).signed_by_day)
    assert len(by_day) == 31
    assert {day: n for day, n in by_day.items() if n} == {date(2026, 3, 15): 4}


def test_a_reason_is_worth_what_people_changed_where_it_named_a_slide(worked: RunningDesk) -> None:
    """Of two slides with a blast code one was confirmed, and one was no blast."""
    reasons = {each.reason: each for each in figures(worked).reasons}
    blasts = reasons["blasts"]
    assert (blasts.changed.n, blasts.changed.total, blasts.held.n) == (1, 2, 1)
    assert "immature_granulocytes" not in reasons  # only the person's own label brought it up


def test_agreement_of_blind_readers_is_cohens_kappa(worked: RunningDesk) -> None:
    found = figures(worked)
    (pair,) = found.pairs
    assert (pair.one, pair.other, pair.kappa.agreement.n, pair.kappa.agreement.total) == ("anna", "ben", 21, 25)
    assert pair.kappa.expected == pytest.approx(0.52)
    assert pair.kappa.value == pytest.approx((0.84 - 0.52) / 0.48)
    assert found.n_pairs_few == 2


def test_progress_of_blind_reading_counts_no_reading_that_was_not_wanted(worked: RunningDesk) -> None:
    (night,) = figures(worked).nights
    assert (night.n_cells, night.n_wanted, night.n_read) == (30, 55, 50)


def test_figures_of_one_person_are_that_persons(worked: RunningDesk) -> None:
    found = figures(worked, "Clara")
    assert [each.name for each in found.readers] == ["clara"]
    assert (found.n_signed, found.relabelled.n, found.relabelled.total) == (1, 1, 57)
    assert found.pairs == ()


def test_another_period_has_nothing(worked: RunningDesk) -> None:
    with worked.client("clara") as clara:
        page = clara.http.get("/statistics?from=2026-05-01&to=2026-05-31")
    assert page.status_code == 200
    assert "Nobody has labelled a cell in this period." in page.text


def test_a_reader_sees_the_laboratory_and_the_own_figures(worked: RunningDesk) -> None:
    with worked.client("anna") as anna:
        page = anna.http.get(f"/statistics?{MARCH}").text
        assert "anna" in page and "another reader" in page
        assert not re.search(r"\b(ben|clara)\b", page)
        assert anna.http.get(f"/statistics?{MARCH}&person=anna").status_code == 200
        refused = anna.http.get(f"/statistics?{MARCH}&person=ben")
    assert refused.status_code == 403
    with worked.client("vera") as vera:
        page = vera.http.get(f"/statistics?{MARCH}").text
    assert not re.search(r"\b(anna|ben|clara)\b", page)


@pytest.mark.parametrize("name", ["clara", "adam"])
def test_seniors_and_administrators_see_everybody(worked: RunningDesk, name: str) -> None:
    with worked.client(name) as person:
        page = person.http.get(f"/statistics?{MARCH}").text
        assert person.http.get(f"/statistics?{MARCH}&person=ben").status_code == 200
    assert all(re.search(rf"\b{each}\b", page) for each in ("anna", "ben", "clara"))


@pytest.mark.parametrize(
    "asked",
    ["from=2026-03-31&to=2026-03-01", "from=2025-01-01&to=2026-01-01", "from=soon", "from=0001-01-01", "to=%00"],
)
def test_a_period_that_cannot_be_used_is_told_and_not_an_error(worked: RunningDesk, asked: str) -> None:
    with worked.client("clara") as clara:
        page = clara.http.get(f"/statistics?{asked}")
    assert page.status_code == 422
    assert 'role="alert"' in page.text


def test_a_period_has_whole_days(worked: RunningDesk) -> None:
    def read(connection: object) -> Period:
        with pytest.raises(PeriodError):
            read_period(connection, date(2026, 1, 1), date(2026, 4, 3))  # type: ignore[arg-type]
        return read_period(connection, date(2026, 1, 1), date(2026, 4, 2))  # type: ignore[arg-type]

    period: Period = worked.app.state.services.desk.transact(read)
    assert period.until - period.since == timedelta(days=92)


def test_kappa_of_perfect_agreement_has_an_interval_with_a_width() -> None:
    """Twenty of twenty: the exact interval of the agreement begins at 0.8316, and half is expected by chance."""
    kappa = cohens_kappa({("ig", "ig"): 10, ("neutrophil", "neutrophil"): 10})
    assert (kappa.value, kappa.upper, kappa.expected) == (1, 1, 0.5)
    assert kappa.lower == pytest.approx((0.831567 - 0.5) / 0.5, abs=1e-5)


@pytest.mark.parametrize("pairs", [{}, {("ig", "ig"): 30}])
def test_kappa_is_unknown_where_chance_alone_gives_agreement(pairs: dict[tuple[str, str], int]) -> None:
    kappa = cohens_kappa(pairs)
    assert kappa.value is None
    assert kappa.agreement == proportion(sum(pairs.values()), sum(pairs.values()))


def test_quartiles_of_nothing_and_of_one() -> None:
    assert quartiles([None]).median is None
    assert (quartiles([2.0]).lower, quartiles([2.0]).upper) == (2.0, 2.0)
