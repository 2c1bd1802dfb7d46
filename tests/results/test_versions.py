"""A slide's result is a chain of versions: what makes a new one, which one counts, and why they differ."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.differential.laboratory_rules import DEFAULT_RULES
from bloodcell.errors import ConfigurationError, UnknownRecordError
from bloodcell.results.due_results import write_due_results
from bloodcell.results.result_display import state_text
from bloodcell.results.stored_result import SlideResult, read_result
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory
from tests.storage.conftest import as_superuser

CODES = ["SNE"] * 70 + ["LY"] * 35 + ["MO"] * 8 + ["EO"] * 3


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    laboratory.model()
    return laboratory


def counted_slide(laboratory: Laboratory, barcode: str = "S-1", codes: list[str] = CODES) -> tuple[int, list[int]]:
    slide = laboratory.slide(barcode)
    cells = laboratory.cells(slide, codes)
    names = {"SNE": "neutrophil", "LY": "lymphocyte", "MO": "monocyte", "EO": "eosinophil"}
    laboratory.call(cells, [names.get(code, "lymphocyte") for code in codes])
    laboratory.count(slide)
    return slide, cells


def read(laboratory: Laboratory, version: int | None = None) -> SlideResult:
    return read_result(laboratory.database, "S-1", version=version)


def story(laboratory: Laboratory) -> list[tuple[object, ...]]:
    return laboratory.rows(
        "SELECT version, state, array_to_string(causes, ' '), is_in_force FROM bloodcell.result_version "
        "WHERE barcode = 'S-1' ORDER BY 1"
    )


def promote(laboratory: Laboratory, model_id: str) -> None:
    with laboratory.database.begin() as connection:
        row = {"model_id": model_id, "action": "promote", "promoted_by": "tests", "reason": "better"}
        connection.execute(tables.promotion.insert(), row)


def test_the_first_count_is_a_machine_result(laboratory: Laboratory) -> None:
    counted_slide(laboratory)
    assert story(laboratory) == [(1, "machine", "first", True)]
    version = read(laboratory).version
    assert version is not None
    assert (version.why, version.signed_by, version.withheld_for) == ("first count", None, ())


def test_counting_again_makes_no_version(laboratory: Laboratory) -> None:
    slide, _ = counted_slide(laboratory)
    laboratory.count(slide)
    laboratory.call_again("neutrophil")
    laboratory.count(slide)
    laboratory.call_again("neutrophil")
    laboratory.count(slide)
    assert story(laboratory) == [(1, "machine", "first", False), (2, "machine", "calls", True)]


def test_late_cells_labels_a_redo_another_champion_and_new_facts_each_make_a_version(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    late = laboratory.cells(slide, ["LY"])
    laboratory.call(late, ["lymphocyte"])
    laboratory.count(slide)
    laboratory.label(cells[:2], ["ig", "neutrophil"])
    laboratory.count(slide)
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET wbc_10e9_per_l = 7.5, wbc_is_corrected = false"))
    laboratory.count(slide)
    laboratory.call_again("monocyte")
    laboratory.count(slide)
    promote(laboratory, CHALLENGER)
    laboratory.call([*cells, *late], ["neutrophil"] * 117, CHALLENGER)
    laboratory.count(slide)
    assert [row[2] for row in story(laboratory)] == ["first", "cells", "labels", "facts", "calls", "model"]
    assert [row[3] for row in story(laboratory)] == [False] * 5 + [True]
    assert [version.why for version in read(laboratory).versions] == [
        "first count",
        "1 cell more than in version 1",
        "cells that labels of people decide: 2 instead of 0",
        "slide.json or the order gives another age, sex or leucocyte count",
        "the cells were classified again",
        "model 5a2222222222 instead of c01111111111",
    ]
    assert read(laboratory, 3).differential.leucocytes[5].share.n == 1
    assert read(laboratory, 4).differential.leucocytes[0].absolute is not None
    assert read(laboratory, 1).differential.n_cells == 116


def test_after_a_signature_a_new_version_waits_and_the_signed_one_counts(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    assert laboratory.sign("S-1", 1) == 2
    laboratory.label(cells[:1], ["ig"])
    laboratory.count(slide)
    assert story(laboratory) == [
        (1, "machine", "first", False),
        (2, "final", "signature", True),
        (3, "machine", "labels", False),
    ]
    found = read(laboratory)
    assert found.version is not None and found.waiting_version is not None
    assert (found.version.number, found.version.state, found.waiting_version.number) == (2, "final", 3)
    assert found.differential.leucocytes[5].share.n == 0
    status = "SELECT status, version, newest_version FROM bloodcell.slide_status"
    assert laboratory.rows(status) == [("differs from what was signed", 2, 3)]
    reported = "SELECT n_cells FROM bloodcell.slide_differential WHERE is_reported AND class = 'ig'"
    assert laboratory.rows(reported) == [(0,)]

    assert laboratory.sign("S-1", 3, "corrected", "cell 1 is a myelocyte") == 4
    assert read(laboratory).differential.leucocytes[5].share.n == 1
    assert laboratory.rows(reported) == [(1,)]
    assert read(laboratory).waiting_version is None


def test_the_result_of_any_moment_can_be_read(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    laboratory.sign("S-1", 1)
    laboratory.label(cells[:1], ["ig"])
    laboratory.count(slide)
    laboratory.sign("S-1", 3, "amended", "one cell was added")
    made = [version.made_at for version in read(laboratory).versions]
    as_of = [read_result(laboratory.database, "S-1", as_of=moment).version for moment in made]
    assert [each and each.number for each in as_of] == [1, 2, 2, 4]
    with pytest.raises(UnknownRecordError, match="had no result on 2020-01-01"):
        read_result(laboratory.database, "S-1", as_of=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(UnknownRecordError, match="has no version 9; its versions are 1 to 4"):
        read(laboratory, 9)


def test_blasts_too_many_unclassified_and_too_few_leucocytes_withhold_a_result(laboratory: Laboratory) -> None:
    _, cells = counted_slide(laboratory, "S-1", [*CODES, "BL"])
    few = laboratory.slide("few")
    laboratory.call(laboratory.cells(few, ["SNE"] * 49), ["neutrophil"] * 49)
    blurred = laboratory.slide("blurred")
    laboratory.call(laboratory.cells(blurred, [None] * 176), ["neutrophil"] * 106 + ["unclassified"] * 70)
    laboratory.count()
    withheld = "SELECT barcode, state, withheld_for FROM bloodcell.slide_status ORDER BY 1"
    assert laboratory.rows(withheld) == [
        ("S-1", "withheld", ["blasts"]),
        ("blurred", "withheld", ["unclassified"]),
        ("few", "withheld", ["few_leucocytes"]),
    ]
    laboratory.label(cells[-1:], ["BL"])
    laboratory.count()
    assert read(laboratory).is_withheld, "a blast that a person has confirmed is still a blast"
    laboratory.label(cells[-1:], ["lymphocyte"], by="ben", adjudication=True, at="2026-03-16 09:00+00")
    laboratory.count()
    assert not read(laboratory).is_withheld


def test_a_change_since_the_patients_last_signed_result_is_for_review(laboratory: Laboratory) -> None:
    counted_slide(laboratory)
    laboratory.sign("S-1", 1)
    counted_slide(laboratory, "S-2", ["LY"] * 100)
    other = laboratory.slide("S-3", patient_key="p-18")
    laboratory.call(laboratory.cells(other, ["LY"] * 100), ["lymphocyte"] * 100)
    laboratory.count()
    named = "SELECT barcode FROM bloodcell.slide_status WHERE 'delta' = ANY (review_for)"
    assert laboratory.rows(named) == [("S-2",)]


def test_an_outside_script_finds_the_same_digest_from_the_views_alone(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory, "S-1", [*CODES, "BL", "xyz"])
    laboratory.label(cells[:3], ["ig", "BL", "SMU"])
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE bloodcell.slide SET wbc_10e9_per_l = 7.25, wbc_is_corrected = true, age_months = 30, "
                "sex = 'male'"
            )
        )
    laboratory.count(slide)

    def sha256(lines: list[str]) -> str:
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    calls = laboratory.rows(
        "SELECT sha256, called_class, coalesce(analyser_code, '-') FROM bloodcell.cell_result "
        "WHERE barcode = 'S-1' AND is_reported"
    )
    labels = laboratory.rows(
        "SELECT sha256, CASE state WHEN 'confirmed' THEN class WHEN 'out_of_scope' THEN sub_label ELSE 'contested' END "
        "FROM bloodcell.current_label WHERE barcode = 'S-1'"
    )
    ((rules, digest),) = laboratory.rows(
        "SELECT rules_digest, digest FROM bloodcell.result_version WHERE barcode = 'S-1' AND is_in_force"
    )
    assert digest == sha256(
        [
            f"model {CHAMPION}",
            f"calls {sha256([' '.join(map(str, row)) for row in sorted(calls)])}",
            f"labels {sha256([' '.join(map(str, row)) for row in sorted(labels)])}",
            f"rules {rules}",
            "age_months 30",
            "sex male",
            "wbc_10e9_per_l 7.250000",
            "wbc_is_corrected yes",
        ]
    )


def test_a_withdrawn_slides_versions_stay_readable_and_none_counts(laboratory: Laboratory) -> None:
    counted_slide(laboratory)
    with laboratory.database.begin() as connection:
        connection.execute(
            tables.slide_withdrawal.insert().values(
                slide_id=1, action="withdraw", reason="wrong rack", requested_by="anna", run_id=laboratory.run_id
            )
        )
    assert story(laboratory) == [(1, "machine", "first", False)]
    found = read(laboratory)
    assert not found.is_reported
    assert found.differential.n_leucocytes == 116


def test_of_two_slides_with_one_barcode_as_of_shows_the_one_that_stood_then(laboratory: Laboratory) -> None:
    first, _ = counted_slide(laboratory)
    before = read(laboratory).versions[0].made_at
    with laboratory.database.begin() as connection:
        connection.execute(
            tables.slide_withdrawal.insert().values(
                slide_id=first, action="withdraw", reason="wrong rack", requested_by="anna", run_id=laboratory.run_id
            )
        )
    withdrawn = datetime.now(UTC)
    with pytest.raises(UnknownRecordError, match=r"Slide S-1 had no result on .* or was withdrawn then"):
        read_result(laboratory.database, "S-1", as_of=withdrawn)
    second, _ = counted_slide(laboratory, "S-1", ["LY"] * 100)
    found = {
        moment: read_result(laboratory.database, "S-1", as_of=moment).slide.slide_id
        for moment in (before, datetime.now(UTC))
    }
    assert list(found.values()) == [first, second]
    with pytest.raises(UnknownRecordError, match="had no result on 2020-01-01"):
        read_result(laboratory.database, "S-1", as_of=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_second_reader_who_agrees_makes_no_version_and_no_obstacle_to_signing(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    laboratory.label(cells[:1], ["SNE"], by="anna")
    laboratory.count(slide)
    laboratory.label(cells[:1], ["neutrophil"], by="ben")
    laboratory.count(slide)
    assert [row[0] for row in story(laboratory)] == [1, 2]
    assert laboratory.sign("S-1", 2) == 3


def test_late_cells_of_a_signed_slide_are_no_longer_waiting_once_they_are_counted(laboratory: Laboratory) -> None:
    slide, _ = counted_slide(laboratory)
    laboratory.sign("S-1", 1)
    late = laboratory.cells(slide, ["LY"])
    status = "SELECT status FROM bloodcell.slide_status"
    assert laboratory.rows(status) == [("cells came later",)]
    laboratory.call(late, ["lymphocyte"])
    laboratory.count(slide)
    assert laboratory.rows(status) == [("differs from what was signed",)]


def test_a_blast_that_one_more_person_sees_in_a_contested_cell_withholds_the_slide(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    laboratory.label(cells[:1], ["neutrophil"], by="anna")
    laboratory.label(cells[:1], ["monocyte"], by="ben")
    laboratory.count(slide)
    assert not read(laboratory).is_withheld
    laboratory.label(cells[:1], ["BL"], by="carl")
    laboratory.count(slide)
    assert read(laboratory).is_withheld


def test_a_version_that_equals_the_signed_one_does_not_wait(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    laboratory.label(cells[:1], ["ig"], by="anna")
    laboratory.count(slide)
    laboratory.sign("S-1", 2)
    laboratory.label(cells[:1], ["monocyte"], by="ben")
    laboratory.count(slide)
    assert read(laboratory).waiting_version is not None
    laboratory.label(cells[:1], ["ig"], by="cleo", adjudication=True, at="2026-03-16 09:00+00")
    laboratory.count(slide)
    assert len(read(laboratory).versions) == 5
    assert read(laboratory).waiting_version is None
    assert laboratory.rows("SELECT status FROM bloodcell.slide_status") == [("reported",)]


def test_a_version_that_another_took_the_place_of_says_so(laboratory: Laboratory) -> None:
    slide, cells = counted_slide(laboratory)
    laboratory.sign("S-1", 1)
    laboratory.label(cells[:1], ["BL"])
    laboratory.count(slide)
    laboratory.sign("S-1", 3, "corrected", "a blast")
    former = read(laboratory, 2)
    assert former.superseding is not None and former.superseding.number == 4
    assert "SUPERSEDED by version 4 (corrected)" in state_text(former)
    assert read(laboratory).superseding is None


def test_other_facts_of_slide_json_make_a_version_without_new_cells(laboratory: Laboratory, settings: Settings) -> None:
    counted_slide(laboratory)
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET age_months = 5"))
    assert write_due_results(settings, only_labelled=True) == ["S-1"]
    assert story(laboratory)[1][2] == "facts"
    assert write_due_results(settings, only_labelled=True) == []
    assert write_due_results(settings) == []


@pytest.mark.parametrize("only_labelled", [True, False])
def test_facts_that_slide_json_no_longer_gives_make_a_version(
    laboratory: Laboratory, settings: Settings, only_labelled: bool
) -> None:
    slide = laboratory.slide("S-1", age_months=5)
    laboratory.call(laboratory.cells(slide, CODES), ["neutrophil"] * len(CODES))
    laboratory.count(slide)
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET age_months = NULL"))
    assert write_due_results(settings, only_labelled=only_labelled) == ["S-1"]
    assert story(laboratory)[1][2] == "facts"
    assert write_due_results(settings, only_labelled=only_labelled) == []


def test_a_count_that_lacks_cells_is_not_counted_again_for_other_facts(
    laboratory: Laboratory, settings: Settings
) -> None:
    slide, _ = counted_slide(laboratory)
    laboratory.cells(slide, ["LY"])
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.slide SET age_months = 5"))
    assert write_due_results(settings, only_labelled=True) == []


def test_what_an_earlier_release_counted_is_due_and_cannot_be_signed(
    laboratory: Laboratory, settings: Settings
) -> None:
    slide = laboratory.slide("S-1")
    laboratory.call(laboratory.cells(slide, ["BL"] * 60), ["lymphocyte"] * 60)
    laboratory.count(slide)
    with as_superuser(str(settings.plain_database_url)).connect() as connection:
        for statement in (
            "SET session_replication_role = replica",
            "UPDATE bloodcell.slide_report SET rules_digest = NULL, calls_digest = NULL, labels_digest = NULL",
            "UPDATE bloodcell.result SET digest = NULL, state = 'machine', withheld_for = '{}'",
        ):
            connection.execute(sa.text(statement))
    with pytest.raises(sa.exc.DBAPIError, match="was counted by an earlier release"):
        laboratory.sign("S-1", 1)
    assert write_due_results(settings) == ["S-1"]
    assert read(laboratory).is_withheld
    assert write_due_results(settings) == []


def test_a_laboratorys_rules_are_not_forgotten_where_they_are_not_set(
    laboratory: Laboratory, settings: Settings, tmp_path: Path
) -> None:
    counted_slide(laboratory)
    own = tmp_path / "rules.toml"
    own.write_text(DEFAULT_RULES.read_text().replace("bloodcell defaults, 2026-11", "ours 1"))
    ours = settings.model_copy(update={"rules_file": own})
    assert write_due_results(ours, slides=["S-1"]) == ["S-1"]
    assert story(laboratory)[1][2] == "rules"
    with pytest.raises(ConfigurationError, match="made with the rules 'ours 1', and BLOODCELL_RULES_FILE is not set"):
        write_due_results(settings, slides=["S-1"])
    assert write_due_results(ours, slides=["S-1"]) == ["S-1"]
    assert len(story(laboratory)) == 2


def test_other_rules_make_a_version_of_recent_slides_that_nobody_has_signed(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    recent, old = Laboratory(database, today), Laboratory(database, today - timedelta(days=40))
    recent.model()
    counted_slide(recent, "S-1")
    counted_slide(recent, "signed")
    counted_slide(old, "old")
    recent.sign("signed", 1)
    own = tmp_path / "rules.toml"
    own.write_text(DEFAULT_RULES.read_text().replace("bloodcell defaults, 2026-11", "ours 1"))
    ours = settings.model_copy(update={"rules_file": own})
    assert write_due_results(ours, only_labelled=True) == ["S-1"]
    assert [row[2] for row in story(recent)] == ["first", "rules"]
    assert write_due_results(ours, only_labelled=True) == []
    assert write_due_results(ours, slides=["old", "signed"]) == ["old", "signed"]
    waiting = recent.rows("SELECT barcode FROM bloodcell.slide_status WHERE status = 'differs from what was signed'")
    assert waiting == [("signed",)]


@pytest.mark.parametrize(
    "forged",
    [
        "INSERT INTO bloodcell.differential (report_id, class, n_cells, n_labelled, n_unverified) "
        "VALUES (1, 'BL', 9, 0, 0)",
        "INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, run_id) "
        "SELECT slide_id, 3, 'machine', report_id, '{calls}', '{}', '{}', run_id FROM bloodcell.result",
        "INSERT INTO bloodcell.result (slide_id, number, state, report_id, causes, withheld_for, review_for, run_id) "
        "SELECT 2, 1, 'machine', report_id, '{first}', '{}', '{}', run_id FROM bloodcell.result",
    ],
)
def test_not_even_the_app_adds_to_a_count_or_breaks_the_chain(laboratory: Laboratory, forged: str) -> None:
    counted_slide(laboratory)
    laboratory.slide("S-2")
    with pytest.raises(sa.exc.DBAPIError), laboratory.database.begin() as connection:
        connection.execute(sa.text(forged))
    assert story(laboratory) == [(1, "machine", "first", True)]
    assert read(laboratory).differential.other_leucocytes == ()


def test_two_counts_at_once_make_one_version(laboratory: Laboratory) -> None:
    from tests.laboratory import at_once

    slide = laboratory.slide("S-1")
    laboratory.call(laboratory.cells(slide, ["SNE"] * 120), ["neutrophil"] * 120)
    assert at_once(4, lambda: laboratory.count(slide)) == []
    assert story(laboratory) == [(1, "machine", "first", True)]
