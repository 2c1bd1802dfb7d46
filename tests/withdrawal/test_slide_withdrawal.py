"""A slide under a wrong barcode is withdrawn, renamed, swapped or restored, and nothing that was reported is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from bloodcell.cli.withdraw import _show
from bloodcell.errors import AlreadyDoneError, ConfigurationError, UnknownRecordError
from bloodcell.ingest.slide_record import SlideRecord
from bloodcell.report.night_page import summaries_folder, write_night_page
from bloodcell.report.night_report import night_summary
from bloodcell.service.due_nights import ingest_due_nights
from bloodcell.storage.connections import connect
from bloodcell.withdrawal import WithdrawalRequest, plan_withdrawal
from bloodcell.withdrawal.slide_withdrawal import _carry_out
from tests.ingest.night import NIGHT, NightFolder
from tests.laboratory import at_once
from tests.storage.conftest import refused
from tests.withdrawal.conftest import Clinic

NEUTROPHILS = ("p-A", "O-A", 4, "neutrophil")
LYMPHOCYTES = ("p-B", "O-B", 4, "lymphocyte")


def test_a_withdrawn_slide_is_not_reported_and_what_was_reported_stays(clinic: Clinic) -> None:
    before = clinic.rows("SELECT * FROM bloodcell.differential d JOIN bloodcell.slide_report r USING (report_id)")
    calls = clinic.rows("SELECT * FROM bloodcell.cell_call ORDER BY cell_id, model_id")
    done = clinic.withdraw("A", reason="  wrong rack ")
    assert [(c.barcode, c.action, c.n_cells, c.reported_variant) for c in done.changes] == [
        ("A", "withdraw", 4, "inception_v3_svm")
    ]
    assert clinic.reported() == {"B": list(LYMPHOCYTES)}
    assert clinic.rows(
        "SELECT barcode, action, reason, requested_by, recorded_by = session_user, renamed_to "
        "FROM bloodcell.withdrawal_history"
    ) == [("A", "withdraw", "wrong rack", "anna", True, None)]
    # another night adds everything up again
    assert clinic.classify() == []
    after = clinic.rows("SELECT * FROM bloodcell.differential d JOIN bloodcell.slide_report r USING (report_id)")
    assert sorted(map(str, after)) == sorted(map(str, before))
    assert clinic.rows("SELECT * FROM bloodcell.cell_call ORDER BY cell_id, model_id") == calls
    assert ingest_due_nights(clinic.settings).nights == ()


def test_renamed_cells_count_for_the_right_barcode_without_the_wrong_patient(clinic: Clinic) -> None:
    done = clinic.withdraw("A", "R")
    assert done.reported == ("R",)
    assert clinic.reported() == {"B": list(LYMPHOCYTES), "R": [None, None, 4, "neutrophil"]}
    assert clinic.rows(
        "SELECT barcode, n_cells, patient_key, withdrawn_at IS NOT NULL, is_reported FROM bloodcell.slide_summary "
        "WHERE variant = 'inception_v3_svm' ORDER BY barcode"
    ) == [("A", 4, "p-A", True, False), ("B", 4, "p-B", False, True), ("R", 4, None, False, True)]
    assert clinic.rows(
        "SELECT barcode, status, withdrawn_reason, renamed_to, delivered_as, n_cells, n_cells_reported "
        "FROM bloodcell.slide_status ORDER BY barcode"
    ) == [
        ("A", "withdrawn", "the label was scanned from the wrong rack", "R", None, 0, 4),
        ("B", "reported", None, None, None, 4, 4),
        ("R", "reported", None, None, "A", 4, 4),
    ]
    assert clinic.rows("SELECT DISTINCT s.patient_key FROM bloodcell.cell_provenance s WHERE barcode = 'R'") == [
        (None,)
    ]


def test_the_pages_of_its_nights_say_so_and_no_other_page_is_made(clinic: Clinic) -> None:
    later = NightFolder(clinic.settings.drops, NIGHT + timedelta(days=1))
    clinic.deliver("A", range(10, 12), "SNE", later)
    clinic.ingest(later)
    clinic.classify()
    pages = [
        write_night_page(clinic.settings, night_summary(clinic.database, night), {})
        for night in (NIGHT, NIGHT + timedelta(days=1))
    ]
    clinic.withdraw("A", "R", reason="wrong rack")
    for page in pages:
        assert "<bdi>R</bdi></th>" in page.read_text()
        assert "<bdi>A</bdi></th>" not in page.read_text()
    assert "<b><bdi>A</bdi></b>: wrong rack (its cells are slide <bdi>R</bdi> now)" in pages[0].read_text()
    clinic.withdraw("B")
    assert len(list(summaries_folder(clinic.settings).iterdir())) == 2
    assert "Withdrawn: nothing is reported for them" in pages[0].read_text()


def test_the_right_record_gives_order_and_patient(clinic: Clinic) -> None:
    clinic.withdraw("A", "R", record=SlideRecord("R", order_id="O-R", patient_key="p-R"))
    assert clinic.reported()["R"] == ["p-R", "O-R", 4, "neutrophil"]
    # a wrong patient under the right barcode is corrected in the same way
    record = SlideRecord("B", order_id="O-B", patient_key="p-other")
    clinic.withdraw("B", "B", record=record)
    assert clinic.reported()["B"] == ["p-other", "O-B", 4, "lymphocyte"]
    with pytest.raises(AlreadyDoneError, match="already has this order and this patient"):
        clinic.withdraw("B", "B", record=record)


def test_without_a_record_order_and_patient_stay_empty_and_the_command_says_so(
    clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    clinic.withdraw("B", reason="its patient is wrong")
    _show(plan_withdrawal(clinic.database, WithdrawalRequest("A", "wrong rack", "anna", "B")))
    assert "Slide B will have order: none, patient: none." in capsys.readouterr().out
    record = SlideRecord("B", order_id="O-2", patient_key="p-2")
    _show(plan_withdrawal(clinic.database, WithdrawalRequest("A", "wrong rack", "anna", "B", record)))
    assert "Slide B will have order: O-2, patient: p-2." in capsys.readouterr().out
    clinic.withdraw("A", "B")
    assert clinic.reported() == {"B": [None, None, 4, "neutrophil"]}


def test_two_slides_that_were_swapped_get_each_others_barcode(clinic: Clinic) -> None:
    done = clinic.withdraw("A", "B", swap=True)
    swapped = {"A": ["p-A", "O-A", 4, "lymphocyte"], "B": ["p-B", "O-B", 4, "neutrophil"]}
    assert clinic.reported() == swapped
    assert sorted(done.reported) == ["A", "B"]
    # the time belongs to the cells, order and patient to the barcode
    assert clinic.rows(
        "SELECT barcode, to_char(acquired_at AT TIME ZONE 'UTC', 'HH24:MI') FROM bloodcell.standing_slide ORDER BY 1"
    ) == [("A", "20:10"), ("B", "20:00")]
    with pytest.raises(AlreadyDoneError, match="were swapped already"):
        clinic.withdraw("B", "A", swap=True)
    clinic.withdraw("A", undo=True, reason="they had not been swapped")
    assert clinic.reported() == {"A": list(NEUTROPHILS), "B": list(LYMPHOCYTES)}
    assert clinic.rows("SELECT action, count(*) FROM bloodcell.withdrawal_history GROUP BY 1 ORDER BY 1") == [
        ("rename", 4),
        ("withdraw", 4),
    ]


@pytest.mark.parametrize("renamed_to", [None, "R"])
def test_a_withdrawal_in_error_is_taken_back_by_further_rows(clinic: Clinic, renamed_to: str | None) -> None:
    clinic.withdraw("A", renamed_to)
    with pytest.raises(AlreadyDoneError, match=r"was withdrawn on .* for anna \(\"the label"):
        clinic.withdraw("A", renamed_to)
    clinic.withdraw("A", undo=True, reason="the barcode was right")
    assert clinic.reported() == {"A": list(NEUTROPHILS), "B": list(LYMPHOCYTES)}
    assert [
        row[1] for row in clinic.rows("SELECT barcode, action FROM bloodcell.withdrawal_history ORDER BY withdrawal_id")
    ] == (["withdraw", "restore"] if renamed_to is None else ["withdraw", "rename"] * 2)
    with pytest.raises(AlreadyDoneError):
        clinic.withdraw("A", undo=True)
    clinic.withdraw("A", renamed_to)
    assert "A" not in clinic.reported()


def test_a_slide_can_be_withdrawn_first_and_renamed_once_its_barcode_is_known(clinic: Clinic) -> None:
    clinic.withdraw("A")
    # the right slide A comes in another night, so the barcode alone no longer says which slide is meant
    later = NightFolder(clinic.settings.drops, clinic.laboratory.night.replace(day=23))
    later.record("A", order_id="O-A", patient_key="p-A", acquired_at="2026-11-23T20:00:00Z")
    later.cell("A", 200, code="MO")
    clinic.ingest(later)
    clinic.classify()
    assert clinic.reported()["A"] == ["p-A", "O-A", 1, "monocyte"]
    with pytest.raises(
        ConfigurationError, match="2 slides have or had the barcode 'A', of the nights 2026-11-21, 2026-11-23"
    ):
        clinic.withdraw("A", "R")
    with pytest.raises(ConfigurationError, match="Another slide of night 2026-11-23 has this barcode now"):
        clinic.withdraw("A", undo=True)
    clinic.withdraw("A", "R", night=clinic.laboratory.night)
    assert clinic.reported()["R"] == [None, None, 4, "neutrophil"]
    assert clinic.reported()["A"] == ["p-A", "O-A", 1, "monocyte"]


REFUSED: list[tuple[str, str | None, dict[str, object], type[Exception], str]] = [
    ("A", "B", {}, ConfigurationError, "has 4 cells of its own, and two slides are never added up"),
    ("A", "A", {}, ConfigurationError, "already has this barcode"),
    ("A", "R", {"swap": True}, ConfigurationError, "--swap needs two slides"),
    ("A", "A", {"swap": True}, ConfigurationError, "--swap needs two slides"),
    ("A", None, {"swap": True}, ConfigurationError, "need the right barcode"),
    ("A", "B", {"undo": True}, ConfigurationError, "--undo knows the former barcode"),
    ("A", "../B", {}, ConfigurationError, "without slashes"),
    ("A", " R", {}, ConfigurationError, "blanks at its ends"),
    ("A", "R\u202e", {}, ConfigurationError, "control characters"),
    ("A", None, {"reason": " "}, ConfigurationError, "needs a reason"),
    ("C", None, {}, UnknownRecordError, "No slide has or had the barcode 'C'"),
    ("A", None, {"undo": True}, AlreadyDoneError, "is not withdrawn"),
]


def test_what_would_report_a_wrong_result_is_refused_and_changes_nothing(clinic: Clinic) -> None:
    for barcode, renamed_to, more, error, message in REFUSED:
        with pytest.raises(error, match=message):
            clinic.withdraw(barcode, renamed_to, **more)
    assert clinic.reported() == {"A": list(NEUTROPHILS), "B": list(LYMPHOCYTES)}
    assert clinic.rows("SELECT count(*) FROM bloodcell.withdrawal_history") == [(0,)]
    assert clinic.rows("SELECT count(*) FROM bloodcell.run_history WHERE stage = 'withdraw'") == [(0,)]


def test_a_slide_without_cells_gets_the_cells_only_if_it_may_be_the_same(clinic: Clinic) -> None:
    clinic.folder.write("R/LY_1.png", b"")
    clinic.folder.record("R", order_id="O-R", patient_key="p-R", acquired_at="2026-11-21T21:00:00Z")
    clinic.ingest()
    with pytest.raises(ConfigurationError, match="contradict each other in acquired_at"):
        clinic.withdraw("A", "R")
    clinic.folder.write("Q/LY_1.png", b"")
    clinic.folder.record("Q", order_id="O-Q", patient_key="p-Q")
    clinic.ingest()
    with pytest.raises(ConfigurationError, match="contradict each other in patient_key") as caught:
        clinic.withdraw("A", "Q", record=SlideRecord("Q", patient_key="p-A"))
    assert "p-A" not in str(caught.value)
    clinic.withdraw("A", "Q")
    assert clinic.reported()["Q"] == ["p-Q", "O-Q", 4, "neutrophil"]


def test_two_withdrawals_at_once_leave_one(clinic: Clinic) -> None:
    errors = at_once(4, lambda: clinic.withdraw("A", "R"))
    assert len(errors) == 3
    assert {type(error) for error in errors} == {AlreadyDoneError}
    assert clinic.reported()["R"] == [None, None, 4, "neutrophil"]


def test_a_withdrawal_that_is_killed_leaves_nothing_or_everything(clinic: Clinic) -> None:
    code = (
        "from bloodcell.settings import Settings; from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide;"
        "withdraw_slide(Settings(), WithdrawalRequest('A', 'wrong rack', 'anna', renamed_to='R'))"
    )
    variables = {
        "BLOODCELL_DATA_DIR": str(clinic.settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(clinic.settings.plain_database_url),
    }
    with connect(str(clinic.settings.plain_database_url)).connect() as holder:
        holder.execute(sa.text("SELECT FROM bloodcell.cell WHERE analyser_class = 'neutrophil' FOR KEY SHARE"))
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | variables)
        moving = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid')"
        deadline = time.monotonic() + 60
        while clinic.rows(moving) == [(0,)]:  # the rows are written, and the cells are about to be moved
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert clinic.reported() == {"A": list(NEUTROPHILS), "B": list(LYMPHOCYTES)}
    # killed after the change and before the cells are added up: the next nightly run does that
    with clinic.database.begin() as connection:
        run_id = clinic.laboratory.run("withdraw")
        _carry_out(connection, WithdrawalRequest("A", "wrong rack", "anna", renamed_to="R"), run_id)
    assert "R" not in clinic.reported()
    assert ingest_due_nights(clinic.settings).nights == (clinic.laboratory.night,)
    assert clinic.classify() == ["R"]
    assert clinic.reported()["R"] == [None, None, 4, "neutrophil"]


def test_a_plan_says_what_the_cells_were_used_for(clinic: Clinic) -> None:
    cells = [
        row[0] for row in clinic.rows("SELECT cell_id FROM bloodcell.cell_result WHERE barcode = 'A' AND is_reported")
    ]
    clinic.laboratory.label(cells, ["neutrophil"] * 4)  # type: ignore[arg-type]
    clinic.laboratory.dataset("d16e57", [(cells[0], "training")])  # type: ignore[list-item]
    (change,) = plan_withdrawal(clinic.database, WithdrawalRequest("A", "wrong rack", "anna")).changes
    assert (change.n_labels, change.n_snapshots, len(change.trained_models)) == (4, 1, 2)
    assert clinic.rows("SELECT count(*) FROM bloodcell.withdrawal_history") == [(0,)]


FORBIDDEN = [
    ("UPDATE bloodcell.slide SET withdrawn_at = now()", "42501"),
    ("UPDATE bloodcell.slide SET barcode = 'X'", "42501"),
    ("UPDATE bloodcell.cell SET slide_id = 1", "42501"),
    ("INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id, recorded_by) "
     "SELECT slide_id, 'withdraw', 'r', 'anna', run_id, 'someone' FROM bloodcell.slide", "42501"),
    ("INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
     "SELECT slide_id, 'restore', 'r', 'anna', run_id FROM bloodcell.slide", "23514"),
    ("INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id, renamed_to) "
     "SELECT slide_id, 'rename', 'r', 'anna', run_id, 2 FROM bloodcell.slide WHERE barcode = 'A'", "23514"),
    ("INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
     "SELECT slide_id, 'withdraw', ' ', 'anna', run_id FROM bloodcell.slide", "23514"),
]  # fmt: skip


def test_the_app_withdraws_only_by_a_row_that_names_the_login(clinic: Clinic) -> None:
    for statement, code in FORBIDDEN:
        with refused(code), clinic.database.begin() as connection:
            connection.execute(sa.text(statement))
