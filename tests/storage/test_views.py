"""What the views show of slides and their results, and the queries about states and versions.

One laboratory has a slide for each case; test_queries.py tests the other views and queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import EmbeddedPostgres
from tests.laboratory import CHALLENGER, NIGHT, Laboratory
from tests.storage.test_queries import LATER, SINCE, Ask, asking, columns

NORMAL = {"neutrophil": 60, "lymphocyte": 30, "monocyte": 7, "eosinophil": 3}
"""Cells of a slide that no rule names and no flag marks."""


@pytest.fixture(scope="module")
def filled(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ask, Laboratory]]:
    """A laboratory whose results were labelled, signed and changed since, and a function that runs a query on it."""
    laboratories: list[Laboratory] = []

    def fill_it(database: Database, settings: Settings) -> None:
        laboratories.append(fill(database))

    with asking(postgres, template, "versions", tmp_path_factory.mktemp("versions"), fill_it) as ask:
        yield ask, laboratories[0]


@pytest.fixture(scope="module")
def ask(filled: tuple[Ask, Laboratory]) -> Ask:
    """Runs a query on that laboratory and returns the rows as psql prints them."""
    return filled[0]


@pytest.fixture(scope="module")
def laboratory(filled: tuple[Ask, Laboratory]) -> Laboratory:
    """That laboratory, to read its views."""
    return filled[1]


def fill(database: Database) -> Laboratory:
    """One night; each slide's name says what happened to it."""
    lab = Laboratory(database)
    lab.model(CHALLENGER, "vgg16", promote=False)
    lab.model()

    def slide(barcode: str, calls: dict[str, int], codes: Sequence[str] = (), **facts: object) -> list[int]:
        called = [name for name, n in calls.items() for _ in range(n)] + ["neutrophil"] * len(codes)
        slide_id = lab.slide(barcode, patient_key=f"p-{barcode}", **facts)
        cells = lab.cells(slide_id, [None] * (len(called) - len(codes)) + [*codes])
        lab.call(cells, called)
        return cells

    chain = slide("CHAIN", {"neutrophil": 60, "lymphocyte": 20, "monocyte": 20}, ["BL"])
    after, differs, plain = (slide(barcode, NORMAL) for barcode in ("AFTER", "DIFF", "PLAIN"))
    argued = slide("ARGUED", NORMAL, ["SMU"])
    lab.call(plain, ["ig"] * 100, CHALLENGER)
    slide("BLAST", NORMAL, ["BL", "ART"])
    slide("BLUR", {**NORMAL, "unclassified": 20})
    slide("FEW", {"neutrophil": 18, "lymphocyte": 9, "monocyte": 2, "ig": 1, "erythroblast": 1})
    small = {"neutrophil": 20, "lymphocyte": 12, "monocyte": 4, "ig": 18, "erythroblast": 12}
    slide("SMALL", small, wbc_10e9_per_l=9.0, wbc_is_corrected=False)
    slide("RANGE", {"neutrophil": 10, "lymphocyte": 90})
    lab.slide("EMPTY", patient_key="p-EMPTY")
    lab.file("AFTER/X_1.jpg", "cell", cell_id=after[0])
    lab.count()
    lab.cells(lab.slide("NEW", patient_key="p-NEW"), ["LY", "BL"])

    lab.label(chain[-1:], ["monocyte"])
    lab.label(argued[:1], ["PLY"], by="anna")
    lab.label(argued[:1], ["VLY"], by="ben")
    lab.count()
    lab.sign("CHAIN", 2)
    ((chain_id,),) = lab.rows("SELECT slide_id FROM bloodcell.slide WHERE barcode = 'CHAIN'")
    lab.call(lab.cells(int(str(chain_id)), [None] * 5), ["monocyte"] * 5)
    lab.count()
    lab.sign("CHAIN", 4, "corrected", "five cells came late")
    lab.sign("AFTER", 1)
    lab.sign("DIFF", 1)
    lab.label([after[0], differs[0]], ["BL", "lymphocyte"])
    lab.count()
    return lab


def test_slide_status_counts_the_cells_of_each_slide_and_those_out_of_scope(database: Database) -> None:
    lab = Laboratory(database)
    status = "SELECT barcode, n_cells, n_out_of_scope, status FROM bloodcell.slide_status ORDER BY barcode"
    assert lab.rows(status) == []
    lab.cells(lab.slide("S1"), ["LY", "BL", "VLY"])
    lab.slide("S2")
    assert lab.rows(status) == [("S1", 3, 2, "waiting"), ("S2", 0, 0, "no usable cell")]


def test_slide_status_says_which_version_counts_and_whether_a_newer_one_waits(laboratory: Laboratory) -> None:
    status = (
        "SELECT barcode, status, version, state, newest_version, withheld_for, review_for FROM bloodcell.slide_status"
    )
    assert laboratory.rows(f"{status} ORDER BY barcode") == [
        ("AFTER", "differs from what was signed", 2, "final", 3, [], []),
        ("ARGUED", "reported", 2, "machine", 2, [], []),
        ("BLAST", "reported", 1, "withheld", 1, ["blasts"], ["blasts", "other_leucocytes"]),
        ("BLUR", "reported", 1, "withheld", 1, ["unclassified"], ["unclassified"]),
        ("CHAIN", "reported", 5, "corrected", 5, [], []),
        ("DIFF", "differs from what was signed", 2, "final", 3, [], []),
        ("EMPTY", "no usable cell", None, None, None, None, None),
        ("FEW", "reported", 1, "withheld", 1, ["few_leucocytes"], ["nrbc"]),
        ("NEW", "waiting", None, None, None, None, None),
        ("PLAIN", "reported", 1, "machine", 1, [], []),
        ("RANGE", "reported", 1, "machine", 1, [], []),
        ("SMALL", "reported", 1, "machine", 1, [], ["nrbc", "immature_granulocytes"]),
    ]


def test_exactly_one_version_counted_at_each_moment_since_the_first(laboratory: Laboratory) -> None:
    as_of = """
        SELECT m.barcode, m.version, count(v.version), max(v.version)
        FROM bloodcell.result_version m
        LEFT JOIN bloodcell.result_version v ON v.slide_id = m.slide_id AND v.in_force_from <= m.made_at
             AND (v.in_force_until > m.made_at OR v.in_force_until IS NULL)
        GROUP BY m.barcode, m.version ORDER BY m.barcode, m.version
    """
    found = laboratory.rows(as_of)
    assert {n for _, _, n, _ in found} == {1}
    then = {barcode: [now for name, _, _, now in found if name == barcode] for barcode in ("AFTER", "CHAIN", "PLAIN")}
    assert then == {"AFTER": [1, 2, 2], "CHAIN": [1, 2, 3, 3, 5], "PLAIN": [1]}
    in_force = "SELECT barcode, version FROM bloodcell.result_version WHERE is_in_force AND version > 1 ORDER BY 1"
    assert laboratory.rows(in_force) == [("AFTER", 2), ("ARGUED", 2), ("CHAIN", 5), ("DIFF", 2)]


def test_what_is_reported_is_the_version_in_force_and_not_the_newest(laboratory: Laboratory) -> None:
    reported = "FROM bloodcell.slide_differential WHERE is_reported AND barcode = 'AFTER'"
    assert laboratory.rows(f"SELECT state, n_cells, n_labelled {reported} AND class = 'neutrophil'") == [
        ("final", 60, 0)
    ]
    assert laboratory.rows(f"SELECT count(*) {reported} AND class = 'BL'") == [(0,)]
    waiting = (
        "SELECT version, state, n_cells, n_labelled FROM bloodcell.result_line WHERE barcode = 'AFTER' AND class = 'BL'"
    )
    assert laboratory.rows(waiting) == [(3, "withheld", 1, 1)]
    summary = "SELECT state, withheld_for, n_blasts, n_labelled FROM bloodcell.slide_summary WHERE barcode = 'AFTER'"
    assert laboratory.rows(summary) == [("final", [], 0, 0)]


def test_a_challengers_count_has_no_state(laboratory: Laboratory) -> None:
    counts = (
        "SELECT is_reported, state, withheld_for, n_leucocytes FROM bloodcell.slide_summary WHERE barcode = 'PLAIN'"
    )
    assert laboratory.rows(f"{counts} ORDER BY is_reported") == [(False, None, None, 100), (True, "machine", [], 100)]
    lines = (
        "SELECT is_reported, state, n_cells FROM bloodcell.slide_differential WHERE barcode = 'PLAIN' AND class = 'ig'"
    )
    assert laboratory.rows(f"{lines} ORDER BY is_reported") == [(False, None, 100), (True, "machine", 0)]


def test_summary_counts_other_leucocytes_contested_and_labelled_cells(laboratory: Laboratory) -> None:
    summary = """
        SELECT barcode, n_cells, n_leucocytes, n_other_leucocytes, n_unverified, n_blasts, n_unclassified, n_contested,
               n_labelled
        FROM bloodcell.slide_summary WHERE is_reported AND barcode IN ('ARGUED', 'BLAST', 'CHAIN') ORDER BY barcode
    """
    assert laboratory.rows(summary) == [
        ("ARGUED", 101, 99, 0, 0, 0, 1, 1, 1),
        ("BLAST", 102, 101, 1, 1, 1, 0, 0, 0),
        ("CHAIN", 106, 106, 0, 0, 0, 0, 0, 1),
    ]


def test_a_cell_counts_as_its_label_or_else_its_code_out_of_scope(laboratory: Laboratory, ask: Ask) -> None:
    decided = "SELECT s.barcode, d.is_labelled, d.line FROM bloodcell.decided_cell d JOIN bloodcell.standing_slide s "
    assert laboratory.rows(f"{decided} USING (slide_id) ORDER BY 1, 3") == [
        ("AFTER", True, "BL"),
        ("ARGUED", False, "SMU"),
        ("ARGUED", True, "contested"),
        ("BLAST", False, "ART"),
        ("BLAST", False, "BL"),
        ("CHAIN", True, "monocyte"),
        ("DIFF", True, "lymphocyte"),
        ("NEW", False, "BL"),
    ]
    (file,) = ask(20, barcode="AFTER")
    assert columns([file], "path", "called_class", "counts_as") == [("AFTER/X_1.jpg", "neutrophil", "BL")]


def test_review_queue_has_the_cells_that_nobody_has_labelled(laboratory: Laboratory, ask: Ask) -> None:
    queue = "SELECT barcode, review_reason, count(*) FROM bloodcell.review_queue GROUP BY 1, 2 ORDER BY 1"
    assert laboratory.rows(queue) == [
        ("ARGUED", "out_of_scope", 1),
        ("BLAST", "out_of_scope", 2),
        ("BLUR", "low_confidence", 20),
    ]
    # blasts, then the other cells of withheld slides, then the rest
    rows = columns(ask(3), "barcode", "analyser_code", "state", "n_in_all")
    assert rows[:2] == [("BLAST", "BL", "withheld", "23"), ("BLAST", "ART", "withheld", "23")]
    assert rows[2:] == [("BLUR", "", "withheld", "23")] * 20 + [("ARGUED", "SMU", "machine", "23")]


def test_night_summary_counts_withheld_and_signed_slides(laboratory: Laboratory) -> None:
    night = """
        SELECT n_slides, n_slides_reported, n_slides_withheld, n_slides_signed, n_slides_insufficient, n_unclassified
        FROM bloodcell.night_summary
    """
    # of the two signed slides that differ by now, what was signed counts: neither is withheld
    assert laboratory.rows(night) == [(12, 10, 3, 3, 3, 21)]


def test_unclassified_cells_bound_the_percentages(ask: Ask) -> None:
    rows = {row["class"]: row for row in ask(1, barcode="BLUR")}
    # 60 of 100 leucocytes beside 20 unclassified cells: 60 to 80 of 120
    bounds = ("n_cells", "percentage", "bound_lower", "bound_upper", "withheld_for")
    assert columns([rows["neutrophil"]], *bounds) == [("60", "60.0", "50.0", "66.7", "unclassified")]
    assert columns([rows["basophil"]], *bounds[:-1]) == [("0", "0.0", "0.0", "16.7")]
    assert columns([rows["unclassified"]], *bounds[:-1]) == [("20", "", "", "")]


def test_immature_granulocytes_of_a_small_count_are_listed(ask: Ask) -> None:
    # 18 of 54 leucocytes: once, a small count switched everything off; a withheld slide comes first with 1 of 30
    rows = ask(2, **SINCE)
    assert columns(rows, "barcode", "withheld_for", "ig_percentage", "n_leucocytes", "sufficient", "definite") == [
        ("FEW", "few_leucocytes", "3.3", "30", "f", "f"),
        ("SMALL", "", "33.3", "54", "f", "t"),
    ]


def test_a_leucocyte_count_is_never_corrected_twice(ask: Ask) -> None:
    # 12 erythroblasts beside 54 leucocytes: 22.2 per 100, so 9 x 100 / 122.2; a factor is offered only without a count
    names = ("barcode", "state", "wbc_received", "wbc_is_corrected", "wbc_10e9_per_l", "wbc_factor")
    assert columns(ask(12, **SINCE), *names) == [
        ("FEW", "withheld", "", "", "", "0.968"),
        ("SMALL", "machine", "9", "f", "7.36", ""),
    ]


def test_flagged_slides_are_ordered_by_urgency_and_signed_ones_come_last(ask: Ask) -> None:
    rows = ask(13, night=NIGHT)
    assert columns(rows, "barcode", "state", "signed_version") == [
        ("AFTER", "withheld", "2"),  # a blast was found after it had been signed
        ("BLAST", "withheld", ""),
        ("BLUR", "withheld", ""),
        ("FEW", "withheld", ""),
        ("NEW", "", ""),  # not counted yet, and the analyser coded a blast
        ("RANGE", "machine", ""),
        ("SMALL", "machine", ""),
        ("CHAIN", "corrected", ""),
    ]


def test_monthly_statistics_count_what_was_signed(ask: Ask) -> None:
    (row,) = ask(19, **SINCE)
    # of 10 slides three are withheld and three signed; what was signed counts; 21 of 926 cells are unclassified
    assert columns([row], "n_reported", "percent_withheld", "percent_signed", "percent_unclassified") == [
        ("10", "30.00", "30.00", "2.27")
    ]


def test_what_is_no_leucocyte_is_in_no_share(ask: Ask) -> None:
    (night,) = ask(22, **SINCE)
    # CHAIN 106, AFTER and DIFF 100 as signed, PLAIN, BLUR and RANGE 100, ARGUED 99, BLAST 101, FEW 30, SMALL 54
    assert columns([night], "n_slides", "n_leucocytes", "other") == [("10", "890", "0.11")]


def test_worklist_has_the_slides_that_wait_for_a_person_in_their_order(ask: Ask) -> None:
    rows = ask(37)  # the default has all nights: a slide does not leave the list by growing old
    assert columns(rows, "barcode", "waits_for", "signed_version") == [
        ("AFTER", "withheld", "2"),
        ("BLAST", "withheld", ""),
        ("BLUR", "withheld", ""),
        ("FEW", "withheld", ""),
        ("DIFF", "differs from what was signed", "2"),
        ("EMPTY", "no usable cell", ""),
        ("RANGE", "review", ""),
        ("SMALL", "review", ""),
        ("ARGUED", "signature", ""),  # its contested cell has to be settled first
        ("PLAIN", "signature", ""),
    ]
    found = {row["barcode"]: row for row in rows}
    assert columns([found["AFTER"]], "version", "withheld_for", "why") == [
        ("3", "blasts", "cells that labels of people decide: 1 instead of 0")
    ]
    assert columns([found["BLUR"]], "review_for", "n_unclassified", "percent_unclassified") == [
        ("unclassified", "20", "16.7")
    ]
    assert found["RANGE"]["findings"] == "lymphocyte high (90.0), monocyte low (0.0), neutrophil low (10.0)"
    assert found["SMALL"]["findings"] == "ig high (33.3)"  # 37 % neutrophils are possibly low
    assert columns([found["PLAIN"]], "withheld_for", "review_for", "findings", "why") == [("", "", "", "")]
    assert columns([found["ARGUED"]], "n_contested", "n_unclassified", "percent_unclassified") == [("1", "1", "1.0")]
    assert ask(37, since=LATER) == []


def test_versions_of_a_result_say_why_each_differs(ask: Ask) -> None:
    rows = ask(38, barcode="CHAIN")
    assert columns(rows, "version", "state", "signed_by", "reason", "why", "withheld_for", "counts_now") == [
        ("1", "withheld", "", "", "first count", "blasts", "f"),
        ("2", "machine", "", "", "cells that labels of people decide: 1 instead of 0", "", "f"),
        ("3", "final", "signer", "", "version 2 was signed by signer", "", "f"),
        ("4", "machine", "", "", "5 cells more than in version 3", "", "f"),
        ("5", "corrected", "signer", "five cells came late", "version 4 was signed by signer", "", "t"),
    ]
    made = [row["made_at"] for row in rows]
    assert [row["in_force_from"] for row in rows] == [*made[:3], "", made[4]]  # the fourth waited for the signature
    assert [row["in_force_until"] for row in rows] == [made[1], made[2], made[4], made[4], ""]
    assert columns(rows, "n_cells", "n_labelled", "n_blasts") == [
        ("101", "0", "1"), ("101", "1", "0"), ("101", "1", "0"), ("106", "1", "0"), ("106", "1", "0"),
    ]  # fmt: skip
    assert len({row["digest"] for row in rows}) == 3  # a signature changes nothing that was counted


def test_result_as_of_a_moment_before_and_after_each_version(ask: Ask) -> None:
    made = [datetime.fromisoformat(row["made_at"]) for row in ask(38, barcode="CHAIN")]

    def reported(moment: datetime) -> set[tuple[str, ...]]:
        names = ("version", "state", "counts_now", "n_leucocytes")
        return set(columns(ask(39, barcode="CHAIN", as_of=moment), *names))

    just_before = timedelta(microseconds=1)
    first, labelled, final = ("1", "withheld", "f", "101"), ("2", "machine", "f", "101"), ("3", "final", "f", "101")
    assert [reported(moment) for moment in made] == [
        {first}, {labelled}, {final}, {final}, {("5", "corrected", "t", "106")}
    ]  # fmt: skip
    assert [reported(moment - just_before) for moment in made] == [set(), {first}, {labelled}, {final}, {final}]

    before = {row["class"]: row for row in ask(39, barcode="CHAIN", as_of=made[0])}
    after = {row["class"]: row for row in ask(39, barcode="CHAIN", as_of=made[1])}
    shown = ("n_cells", "percentage", "n_labelled", "n_unverified", "withheld_for")
    assert columns([before["monocyte"], before["BL"]], *shown) == [
        ("20", "19.8", "0", "0", "blasts"), ("1", "1.0", "0", "1", "blasts")
    ]  # fmt: skip
    assert columns([after["monocyte"]], *shown) == [("21", "20.8", "1", "0", "")]
    assert "BL" not in after
    # without a moment it is the result of now, line by line as query 1 has it
    now = ask(39, barcode="CHAIN")
    assert columns(now, *shown) == columns(ask(1, barcode="CHAIN"), *shown)
    assert {row["version"] for row in now} == {"5"}


def test_nothing_was_reported_while_a_slide_was_withdrawn(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    moments: list[str] = []

    def withdrawn_and_restored(database: Database, settings: Settings) -> None:
        lab = Laboratory(database)
        lab.model()
        slides = {barcode: lab.slide(barcode) for barcode in ("BACK", "GONE")}
        for slide_id in slides.values():
            lab.call(lab.cells(slide_id, [None] * 60), ["neutrophil"] * 60)
        lab.count()
        for barcode, action in (("BACK", "withdraw"), ("GONE", "withdraw"), ("BACK", "restore")):
            row = {"slide_id": slides[barcode], "action": action, "reason": "wrong rack", "requested_by": "anna"}
            with database.begin() as connection:
                connection.execute(tables.slide_withdrawal.insert().values(**row, run_id=lab.run_id))
        again = lab.slide("GONE", patient_key="p-18")
        lab.call(lab.cells(again, [None] * 70), ["lymphocyte"] * 70)
        lab.count()
        steps = (
            "SELECT made_at::text FROM bloodcell.result UNION SELECT recorded_at::text FROM bloodcell.slide_withdrawal"
        )
        moments.extend(str(moment) for (moment,) in lab.rows(f"{steps} ORDER BY 1"))

    with asking(postgres, template, "withdrawn", tmp_path, withdrawn_and_restored) as ask:

        def reported(barcode: str) -> list[list[tuple[str, ...]]]:
            found = [ask(39, barcode=barcode, as_of=moment) for moment in moments]
            return [
                columns([row for row in rows if row["n_cells"] != "0"], "n_cells", "class", "counts_now")
                for rows in found
            ]

        # BACK is counted, then GONE; BACK is withdrawn, then GONE; BACK is restored; another slide has the barcode GONE
        before, back = [("60", "neutrophil", "f")], [("60", "neutrophil", "t")]
        assert reported("BACK") == [back, back, [], [], back, back]
        assert reported("GONE") == [[], before, before, [], [], [("70", "lymphocyte", "t")]]
        assert [row["withdrawn_at"] != "" for row in ask(38, barcode="GONE")] == [True, False]
        assert columns(ask(36), "barcode", "version", "state") == [("GONE", "1", "machine")]
        assert columns(ask(37), "barcode", "waits_for") == [("BACK", "review"), ("GONE", "review")]
