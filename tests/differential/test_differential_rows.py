"""Differentials are counted in Postgres, written once, and read back."""

from __future__ import annotations

import re
import threading

import pytest
import sqlalchemy as sa

from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules
from bloodcell.errors import DatabaseUnavailableError, UnknownRecordError
from bloodcell.results.due_results import write_results
from bloodcell.results.stored_result import read_result
from bloodcell.storage import tables
from bloodcell.storage.database import Database
from bloodcell.storage.statements import load_statements
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory

ALL_ROWS = """
    SELECT r.slide_id, r.model_id, d.class, d.n_cells, percentage, lower, upper, flag, r.n_cells, n_leucocytes,
           n_unclassified, is_sufficient, nrbc_per_100_wbc, nrbc_lower, nrbc_upper, n_compared, n_agree
    FROM bloodcell.newest_count c JOIN bloodcell.slide_report r USING (report_id)
    JOIN bloodcell.differential d USING (report_id) ORDER BY 1, 2, 3
"""


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model(CHALLENGER, "vgg16", promote=False)
    laboratory.model()
    return laboratory


def rules(sufficient_leucocytes: int) -> LaboratoryRules:
    changed = {"version": "stricter", "sufficient_leucocytes": sufficient_leucocytes}
    return read_rules(None).model_copy(update=changed)


def write(laboratory: Laboratory, *slides: int, sufficient_leucocytes: int | None = None) -> int:
    written = write_results(
        laboratory.database,
        slides=slides,
        run_id=laboratory.run("differential"),
        rules=rules(sufficient_leucocytes) if sufficient_leucocytes else read_rules(None),
    )
    return written.n_differentials


def called_slide(laboratory: Laboratory, barcode: str = "S-1") -> int:
    """A slide of 150 cells: 75 % neutrophils, 25 % lymphocytes, an erythroblast, a platelet, and 28 unclassified."""
    slide = laboratory.slide(barcode)
    cells = laboratory.cells(slide, ["SNE"] * 80 + ["LY"] * 40 + [None] * 30)
    called = ["neutrophil"] * 90 + ["lymphocyte"] * 30 + ["erythroblast", "platelet"] + ["unclassified"] * 28
    laboratory.call(cells, called)
    return slide


def test_a_written_differential_reads_back_completely(laboratory: Laboratory) -> None:
    assert write(laboratory, called_slide(laboratory)) == 1
    read = read_result(laboratory.database, "S-1")
    assert (read.slide.barcode, read.slide.patient_key, read.slide.night) == ("S-1", "p-17", laboratory.night)
    assert (read.model.model_id, read.model.variant, read.model.dataset_digest) == (
        CHAMPION,
        "inception_v3_svm",
        "d16e57",
    )
    assert read.is_reported
    assert read.code_version == "0.1.0+test"
    assert read.n_waiting == 0
    differential = read.differential
    assert (differential.n_cells, differential.n_leucocytes, differential.is_sufficient) == (150, 120, True)
    assert [line.share.n for line in differential.leucocytes] == [90, 0, 0, 30, 0, 0]
    assert [line.flag for line in differential.leucocytes] == [None, None, None, None, "low", None]
    assert differential.nrbc.per_100_wbc == pytest.approx(1 / 1.2)
    assert differential.nrbc.flag is None
    assert (differential.n_platelets, differential.unclassified.n) == (1, 28)


def test_agreement_counts_only_cells_that_both_gave_a_class(laboratory: Laboratory) -> None:
    write(laboratory, called_slide(laboratory))
    agreement = read_result(laboratory.database, "S-1").agreement
    # 80 SNE are called neutrophil; of 40 LY, 10 are called neutrophil and 30 lymphocyte; the other 30 have no code.
    assert (agreement.n, agreement.total) == (110, 120)


def test_rows_have_the_percentages_and_intervals_that_are_read(laboratory: Laboratory) -> None:
    write(laboratory, called_slide(laboratory))
    rows = {row[2]: row for row in laboratory.rows(ALL_ROWS)}
    assert len(rows) == 9
    line = read_result(laboratory.database, "S-1").differential.leucocytes[0]
    assert rows["neutrophil"][3:7] == (90, line.share.percentage, *(line.share.percentage_interval or ()))
    assert rows["basophil"][3:6] == (0, 0, 0)
    assert rows["unclassified"][3:8] == (28, None, None, None, None)
    assert rows["basophil"][7] is None
    assert rows["monocyte"][7] == "low"


def test_writing_twice_leaves_the_same_rows_and_their_run(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    write(laboratory, slide)
    first = laboratory.rows(ALL_ROWS), laboratory.rows("SELECT run_id, written_at FROM bloodcell.slide_report")
    assert write(laboratory, slide, slide) == 0
    second = laboratory.rows(ALL_ROWS), laboratory.rows("SELECT run_id, written_at FROM bloodcell.slide_report")
    assert first == second


def test_changed_rules_add_a_differential_and_keep_the_former_one(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    write(laboratory, slide)
    assert write(laboratory, slide, sufficient_leucocytes=121) == 1
    assert not read_result(laboratory.database, "S-1").differential.is_sufficient
    assert read_result(laboratory.database, "S-1", version=1).differential.is_sufficient
    kept = "SELECT count(*), bool_and(document ->> 'version' = version) FROM bloodcell.laboratory_rules"
    assert laboratory.rows(kept) == [(2, True)]


def test_redone_calls_add_a_differential_and_keep_the_former_one_and_its_calls(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    write(laboratory, slide)
    laboratory.call_again("monocyte")
    assert write(laboratory, slide) == 1
    differential = read_result(laboratory.database, "S-1").differential
    assert [line.share.n for line in differential.leucocytes] == [0, 0, 0, 0, 150, 0]
    assert [line.flag for line in differential.leucocytes] == ["low", None, None, "low", "high", None]
    assert (differential.unclassified.n, differential.n_platelets, differential.nrbc.flag) == (0, 0, None)
    before = read_result(laboratory.database, "S-1", version=1).differential
    assert [line.share.n for line in before.leucocytes] == [90, 0, 0, 30, 0, 0]
    former = "SELECT count(*), count(*) FILTER (WHERE called_class = 'unclassified') FROM bloodcell.former_call"
    assert laboratory.rows(former) == [(150, 28)]


def test_calls_that_are_replaced_without_new_ones_are_refused(laboratory: Laboratory) -> None:
    called_slide(laboratory)
    replaced = (
        "SELECT bloodcell.replace_calls(array_agg(cell_id), array_agg(night), array_agg(model_id::text), :run) "
        "FROM bloodcell.cell_call"
    )
    with pytest.raises(sa.exc.IntegrityError, match="replaced without a new one"), laboratory.database.begin() as c:
        c.execute(sa.text(replaced), {"run": laboratory.run("classify")})
    assert laboratory.rows("SELECT count(*) FROM bloodcell.cell_call") == [(150,)]


def test_a_slide_with_a_cell_not_called_yet_gets_no_differential(laboratory: Laboratory) -> None:
    slide = laboratory.slide("S-2")
    cells = laboratory.cells(slide, ["SNE"] * 120)
    laboratory.call(cells[:-1], ["neutrophil"] * 119)
    laboratory.call(cells, ["neutrophil"] * 120, CHALLENGER)
    assert write(laboratory, slide) == 1
    assert {row[1] for row in laboratory.rows(ALL_ROWS)} == {CHALLENGER}
    with pytest.raises(UnknownRecordError, match=r"120 cells and no differential .* `bloodcell classify --slide S-2`"):
        read_result(laboratory.database, "S-2")
    laboratory.call(cells[-1:], ["neutrophil"])
    assert write(laboratory, slide) == 1
    assert {row[1] for row in laboratory.rows(ALL_ROWS)} == {CHALLENGER, CHAMPION}


def test_late_cells_leave_the_earlier_differential_and_are_counted_as_waiting(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    write(laboratory, slide)
    laboratory.cells(slide, ["LY"] * 5)
    assert write(laboratory, slide) == 0
    read = read_result(laboratory.database, "S-1")
    assert (read.differential.n_cells, read.n_waiting) == (150, 5)


def test_each_model_gets_its_own_differential(laboratory: Laboratory) -> None:
    slide = laboratory.slide("S-3")
    cells = laboratory.cells(slide, [None] * 100)
    laboratory.call(cells, ["neutrophil"] * 100)
    laboratory.call(cells, ["monocyte"] * 100, CHALLENGER)
    assert write(laboratory, slide) == 2
    assert read_result(laboratory.database, "S-3").differential.leucocytes[0].share.n == 100
    challenger = read_result(laboratory.database, "S-3", model_id="5a2")
    assert (challenger.model.model_id, challenger.is_reported) == (CHALLENGER, False)
    assert challenger.differential.leucocytes[4].share.n == 100
    assert challenger.agreement.value is None


def test_slides_are_written_in_chunks(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloodcell.results.due_results._CHUNK_SLIDES", 2)
    slides = [called_slide(laboratory, f"S-{i}") for i in range(5)]
    assert write(laboratory, *slides) == 5
    assert laboratory.rows("SELECT count(*), count(DISTINCT report_id) FROM bloodcell.differential") == [(45, 5)]


def test_nothing_to_write_writes_nothing(laboratory: Laboratory) -> None:
    assert write(laboratory) == 0
    assert write(laboratory, laboratory.slide("S-4"), 987_654) == 0


def test_unknown_slide_and_model_say_what_to_do(laboratory: Laboratory) -> None:
    write(laboratory, called_slide(laboratory))
    with pytest.raises(UnknownRecordError, match=r"No slide has the barcode 's-1'.*case-sensitive"):
        read_result(laboratory.database, "s-1")
    with pytest.raises(UnknownRecordError, match="no differential by model ff yet"):
        read_result(laboratory.database, "S-1", model_id="ff")
    with pytest.raises(UnknownRecordError, match="'' does not name one of the models"):
        read_result(laboratory.database, "S-1", model_id="")
    with pytest.raises(UnknownRecordError, match="no differential by model 5a2"):
        read_result(laboratory.database, "S-1", model_id=CHALLENGER)


def test_slide_without_usable_cells_is_an_error_that_names_the_report(laboratory: Laboratory) -> None:
    laboratory.slide("S-5")
    with pytest.raises(UnknownRecordError, match=r"no usable cell.*bloodcell report S-5"):
        read_result(laboratory.database, "S-5")


def test_old_slide_keeps_the_report_of_its_champion(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    write(laboratory, slide)
    laboratory.model("ee" + 62 * "3", "inception_v3")
    assert read_result(laboratory.database, "S-1").model.model_id == CHAMPION


def promote(laboratory: Laboratory, model_id: str) -> None:
    with laboratory.database.begin() as connection:
        row = {"model_id": model_id, "action": "promote", "promoted_by": "tests", "reason": "better"}
        connection.execute(tables.promotion.insert(), row)


def reported_then_challenger_promoted(laboratory: Laboratory) -> int:
    """A slide that the champion and a challenger called differently, added up before the challenger was promoted."""
    slide = laboratory.slide("S-1")
    cells = laboratory.cells(slide, ["SNE"] * 120)
    laboratory.call(cells, ["neutrophil"] * 120)
    laboratory.call(cells, ["ig"] * 120, CHALLENGER)
    write(laboratory, slide)
    promote(laboratory, CHALLENGER)
    return slide


def test_a_challenger_that_is_promoted_does_not_rewrite_the_slides_it_called_before(laboratory: Laboratory) -> None:
    slide = reported_then_challenger_promoted(laboratory)
    assert write(laboratory, slide) == 0
    assert read_result(laboratory.database, "S-1").model.model_id == CHAMPION


def test_changed_rules_for_the_same_calls_do_not_change_the_reported_model(laboratory: Laboratory) -> None:
    slide = reported_then_challenger_promoted(laboratory)
    assert write(laboratory, slide, sufficient_leucocytes=200) == 2
    read = read_result(laboratory.database, "S-1")
    assert (read.model.model_id, read.differential.is_sufficient) == (CHAMPION, False)


def test_a_slide_called_again_is_reported_by_the_present_champion(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    cells = [row[0] for row in laboratory.rows("SELECT cell_id FROM bloodcell.cell ORDER BY 1")]
    laboratory.call(cells, ["neutrophil"] * 150, CHALLENGER)  # type: ignore[arg-type]
    write(laboratory, slide)
    promote(laboratory, CHALLENGER)
    assert write(laboratory, slide) == 0
    laboratory.call_again("neutrophil", CHALLENGER)
    assert write(laboratory, slide) == 1
    read = read_result(laboratory.database, "S-1")
    assert read.model.model_id == CHALLENGER
    assert read.version is not None and read.version.why.startswith("model 5a2222222222 instead of c011")


def test_a_slide_added_up_before_any_champion_is_reported_once_there_is_one(database: Database) -> None:
    laboratory = Laboratory(database)
    laboratory.model(promote=False)
    slide = called_slide(laboratory)
    write(laboratory, slide)
    promote(laboratory, CHAMPION)
    with pytest.raises(UnknownRecordError):
        read_result(laboratory.database, "S-1")
    assert write(laboratory, slide) == 0  # the count is there, and now it is reported
    assert read_result(laboratory.database, "S-1").is_reported


def test_codes_out_of_scope_are_never_one_of_the_eight_however_confident_the_model_is(laboratory: Laboratory) -> None:
    slide = laboratory.slide("S-1")
    codes = ["BL"] * 80 + ["SMU", "NC", "XYZ"] + ["LY"] * 40
    laboratory.call(laboratory.cells(slide, codes), ["lymphocyte"] * 123)
    write(laboratory, slide)
    differential = read_result(laboratory.database, "S-1").differential
    (blasts,) = differential.other_leucocytes
    assert (blasts.cell_class, blasts.share.n, blasts.n_unverified) == ("BL", 80, 80)
    assert (differential.leucocytes[3].share.n, differential.n_leucocytes) == (40, 120)
    assert differential.not_leucocytes == (("SMU", 1),)
    assert differential.undecided == (("NC", 1), ("OTH", 1))
    assert differential.unclassified.n == 2
    queued = "SELECT count(*), min(review_reason), bool_and(is_out_of_scope) FROM bloodcell.review_queue"
    assert laboratory.rows(queued) == [(83, "out_of_scope", True)]


def test_a_persons_label_decides_before_the_code_and_the_call(laboratory: Laboratory) -> None:
    slide = laboratory.slide("S-1")
    cells = laboratory.cells(slide, ["BL", "BL", "LY", "LY", "SNE", "SNE", "LY"])
    laboratory.call(cells, ["lymphocyte"] * 4 + ["neutrophil", "unclassified", "lymphocyte"])
    laboratory.label(cells[:2], ["lymphocyte", "BL"])
    laboratory.label(cells[2:6], ["BL", "SMU", "ig", "neutrophil"])
    laboratory.label(cells[6:], ["BL"], by="anna")
    laboratory.label(cells[6:], ["VLY"], by="ben")
    write(laboratory, slide)
    read = read_result(laboratory.database, "S-1").differential
    counted = {line.cell_class: line.share.n for line in (*read.leucocytes, *read.other_leucocytes) if line.share.n}
    assert counted == {"lymphocyte": 1, "BL": 2, "ig": 1, "neutrophil": 1}
    assert read.not_leucocytes == (("SMU", 1),)
    assert (read.n_contested, read.unclassified.n, read.n_unverified) == (1, 1, 0)
    assert laboratory.rows("SELECT count(*) FROM bloodcell.review_queue") == [(0,)]
    assert laboratory.rows("SELECT count(*), min(label) FROM bloodcell.contested_cell") == [(2, "BL")]
    assert laboratory.rows("SELECT n_blasts FROM bloodcell.slide_summary") == [(3,)], "one of two people says blast"


def test_two_runs_count_a_slide_one_after_the_other(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    with laboratory.database.begin() as other:
        other.execute(sa.text("SELECT FROM bloodcell.slide WHERE slide_id = :id FOR UPDATE"), {"id": slide})
        thread = threading.Thread(target=write, args=(laboratory, slide))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert read_result(laboratory.database, "S-1").differential.n_cells == 150


def test_an_unavailable_postgres_is_an_error_to_retry() -> None:
    engine = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none", poolclass=sa.NullPool)
    with pytest.raises(DatabaseUnavailableError):
        read_result(Database(engine, patience_s=0), "S-1")


def test_a_count_reads_only_the_calls_of_its_nights(laboratory: Laboratory) -> None:
    slide = called_slide(laboratory)
    statement = load_statements("differential/differential_rows.sql")["counted_slides"]
    with laboratory.database.begin() as connection:
        connection.execute(sa.text("SELECT bloodcell.ensure_call_partition('2026-05-01')"))
        values = {"slides": [slide], "nights": [laboratory.night]}
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {statement}"), values))
    assert set(re.findall(r"cell_call_\d{4}_\d{2}(?= )", plan)) == {"cell_call_2026_03"}
