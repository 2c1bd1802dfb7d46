"""A patient or a slide is erased completely, once, and is not brought back."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import unicodedata
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from bloodcell.errors import ConfigurationError, StoreUnavailableError, UnknownRecordError
from bloodcell.ingest import ingest_night
from bloodcell.ingest import ingesting as ingesting_module
from bloodcell.removal import erase, erasing, finish_interrupted, leftovers, preview_erasure
from bloodcell.removal.airflow_texts import _blank
from bloodcell.report.night_page import write_night_page
from bloodcell.report.night_report import night_markdown, night_summary
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.store import Store
from bloodcell.verification import verify_store
from bloodcell.withdrawal import WithdrawalRequest, withdraw_slide
from tests.ingest.night import NIGHT, NightFolder, picture
from tests.removal.conftest import BARCODES, ORDER, OTHER, PATIENT, SHARED_SEED, Ward, digest, unmounted
from tests.storage.conftest import refused

NAMES = (PATIENT, unicodedata.normalize("NFD", PATIENT), ORDER, *BARCODES)
OWN_IMAGES = [digest(seed) for seed in (100, 101, 102, 200, 201, 202)]
FORBIDDEN = ("DELETE FROM bloodcell.label", "TABLE bloodcell.erasure_secret", "TABLE bloodcell.erased_slide")
WHY = "Consent withdrawn, request 12 of 2026"


def test_nothing_of_an_erased_patient_remains(ward: Ward) -> None:
    before = ward.counts()
    done = erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.traces([*NAMES, *OWN_IMAGES]) == []
    guesses = [hashlib.sha256(name.encode()).hexdigest() for name in (*NAMES, "barcode:" + BARCODES[0])]
    assert ward.traces(guesses) == []
    assert done.removed == {
        "slides": 2, "cells": 7, "calls": 7, "replaced calls": 7, "versions of results": 3, "reports": 2,
        "rows of differentials": 18, "labels": 7,
        "messages to other systems": 1, "attempts to deliver messages": 1, "decisions about messages": 1, "orders": 1,
        "cells of random samples": 7, "checked cells": 7, "images in snapshots": 2, "patients with a split": 1,
        "files in the ledger": 11,
        "earlier outcomes of files": 1, "images that no other slide has": 6, "texts in the database": 8,
        "stored images": 6, "sets of kept features": 1, "pages": 1, "names in logs and pages": 4,
    }  # fmt: skip
    assert done.unsearched == ()
    assert done.left_to_site == tuple(ward.night.path / barcode for barcode in BARCODES)
    after = ward.counts()
    assert {name for name in before if after[name] != before[name]} == {
        *("slide", "cell", "cell_call", "slide_report", "differential", "label", "checked_cell", "dataset_image"),
        *("data_split", "drop_file", "drop_file_history", "image", "former_call", "result", "sampled_cell"),
        *("erasure", "erasure_removal", "erasure_dataset", "erased_slide"),
        *("outgoing_message", "message_attempt", "message_action", "lab_order"),
    }
    # what belongs to the other patient is whole, the shared image included
    assert ward.rows("SELECT barcode, patient_key FROM bloodcell.slide") == [(OTHER, "P-2")]
    assert ward.rows("SELECT count(*) FROM bloodcell.cell_result WHERE barcode = 'S26-000009'") == [(2,)]
    assert ward.stored() == {digest(SHARED_SEED), digest(300)}
    log = next(ward.settings.data_dir.rglob("attempt=1.log")).read_text()
    assert log == f'{{"event": "Slides added up: **********, {OTHER}"}}\n' * 3


def test_the_page_of_its_night_is_written_again_without_the_slide(ward: Ward) -> None:
    page = write_night_page(ward.settings, night_summary(ward.database, NIGHT), {})
    assert page.read_text().count('<th scope="row"><bdi>S26-') == 3
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    text = page.read_text()
    assert text.count('<th scope="row"><bdi>S26-') == 1
    assert "****" not in text
    assert OTHER in text


def test_the_record_says_when_who_why_and_how_many(ward: Ward) -> None:
    done = erase(ward.settings, "patient", PATIENT, reason=WHY)
    rows = ward.rows(
        "SELECT erasure_id, kind, reason, erased_by = session_user, removed ->> 'cells', removed ->> 'stored images', "
        "n_pending, n_snapshots, n_snapshot_images FROM bloodcell.erasure_history"
    )
    assert rows == [(done.erasure_id, "patient", WHY, True, "7", "6", 0, 1, 2)]
    # the snapshot of the champion had two images of the patient, for the hold-out
    assert ward.rows("SELECT split, n_images FROM bloodcell.model_erasure") == [("holdout", 2)]
    assert done.n_models == 0


def test_a_preview_shows_the_same_rows_and_removes_nothing(ward: Ward) -> None:
    before, stored = ward.everything(), ward.stored()
    shown = preview_erasure(ward.settings, "patient", PATIENT)
    assert (ward.everything(), ward.stored()) == (before, stored)
    done = erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert shown.erasure_id is None
    assert shown.removed.items() <= done.removed.items()
    assert set(done.removed) - set(shown.removed) == {
        "stored images", "sets of kept features", "pages", "names in logs and pages",
    }  # fmt: skip


def test_one_slide_of_a_patient_leaves_the_patient(ward: Ward) -> None:
    erase(ward.settings, "slide", BARCODES[0], reason=WHY)
    assert ward.traces([BARCODES[0], *OWN_IMAGES[:3]]) == []
    assert ward.rows("SELECT barcode, patient_key, order_id FROM bloodcell.slide ORDER BY 1") == [
        (BARCODES[1], PATIENT, ORDER), (OTHER, "P-2", "ORDER-99"),
    ]  # fmt: skip
    assert ward.rows(f"SELECT count(*) FROM bloodcell.data_split WHERE split_key = '{PATIENT}'") == [(1,)]


def test_a_key_is_found_in_the_other_unicode_form(ward: Ward) -> None:
    assert (
        erase(ward.settings, "patient", f" {unicodedata.normalize('NFD', PATIENT)} ", reason=WHY).removed["slides"] == 2
    )


def test_erasing_twice_finds_nothing_the_second_time(ward: Ward) -> None:
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    after = ward.everything()
    with pytest.raises(UnknownRecordError, match="no patient"):
        erase(ward.settings, "patient", PATIENT, reason=WHY)
    with pytest.raises(UnknownRecordError, match="no slide"):
        preview_erasure(ward.settings, "slide", BARCODES[0])
    assert ward.everything() == after


def test_a_reason_that_is_empty_or_names_the_patient_is_refused(ward: Ward) -> None:
    before = ward.everything()
    for reason in ("", "  ", f"{PATIENT} asked", f"see {BARCODES[1]}"):
        with pytest.raises(ConfigurationError, match="reason"):
            erase(ward.settings, "patient", PATIENT, reason=reason)
    assert ward.everything() == before


def test_the_next_ingest_does_not_bring_the_slides_back(ward: Ward) -> None:
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    (ward.night.path / f"loose {BARCODES[0]}.png").unlink()  # the site's own: it names the slide
    late = ward.night.cell(BARCODES[0], 50)
    again = NightFolder(ward.settings.drops, date(2026, 11, 23))
    again.cell(BARCODES[1], 1, seed=200)
    again.complete()
    for folder, n in ((ward.night, 11), (again, 1)):
        summary = ingest_night(folder.path, ward.settings)
        assert summary.n_erased_files == n
        assert ward.traces([*NAMES, *OWN_IMAGES]) == []
    assert late.exists()  # the drop is the site's
    assert "11 files" in night_markdown(night_summary(ward.database, NIGHT))
    details = ward.rows("SELECT detail ->> 'erased_files' FROM bloodcell.run WHERE detail ? 'erased_files' ORDER BY 1")
    assert details == [("1",), ("11",)]


def test_the_same_barcode_with_another_identity_is_another_slide(ward: Ward) -> None:
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    later = NightFolder(ward.settings.drops, date(2026, 11, 24))
    same = {"patient_key": PATIENT, "order_id": ORDER, "acquired_at": "2026-11-21T07:00:00Z"}
    for number, other in enumerate(
        ({}, {"order_id": "ORDER-2"}, {"patient_key": "P-3"}, {"acquired_at": "2026-11-24T08:00:00Z"})
    ):
        later.record(BARCODES[0], **same | other)
        later.cell(BARCODES[0], number, seed=400 + number)
        later.complete()
        summary = ingest_night(later.path, ward.settings)
        assert (summary.n_cells, summary.n_erased_files) == ((number + 1, 0) if other else (0, 2))
        with connect(str(ward.settings.plain_database_url)).begin() as connection:  # or it contradicts the next
            connection.execute(
                sa.text("UPDATE bloodcell.slide SET (order_id, patient_key, acquired_at) = (NULL, NULL, NULL)")
            )


def test_an_erasure_that_is_killed_at_any_step_is_finished_by_the_next_one(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    steps = ("remove_images", "forget_features", "blank_names", "blank_airflow_texts", "_note_done")
    for number, step in enumerate(steps):
        with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
            broken.setattr(Store if step == "remove_images" else leftovers, step, killed)
            finish_interrupted(ward.settings) if number else erase(ward.settings, "patient", PATIENT, reason=WHY)
        assert ward.rows("SELECT n_pending > 0 FROM bloodcell.erasure_history") == [(True,)]
    assert finish_interrupted(ward.settings) == 1
    assert ward.traces([*NAMES, *OWN_IMAGES]) == []
    assert finish_interrupted(ward.settings) == 0


def test_an_erasure_that_is_killed_before_its_commit_changes_nothing(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ward.everything()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(erasing, "_Rows", killed)
        erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.everything() == before


def test_an_erasure_waits_for_an_ingest_that_is_writing_and_the_ingest_does_not_write_again(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slide is erased after its files were examined and stored, and before their rows are written."""
    late = NightFolder(ward.settings.drops, date(2026, 11, 22))
    late.cell(BARCODES[0], 20, seed=500)
    late.cell(OTHER, 21, seed=100)  # an image of the erased slide, now on another one
    late.complete()
    write = ingesting_module._Ingest._written

    def erased_first(self: ingesting_module._Ingest, slides: object) -> list[str]:
        monkeypatch.setattr(ingesting_module._Ingest, "_written", write)
        erase(ward.settings, "patient", PATIENT, reason=WHY)
        return write(self, slides)  # type: ignore[arg-type]

    monkeypatch.setattr(ingesting_module._Ingest, "_written", erased_first)
    with pytest.raises(StoreUnavailableError, match="1 image that this night brings again was just removed"):
        ingest_night(late.path, ward.settings)
    assert ingest_night(late.path, ward.settings).n_cells == 1
    assert ward.stored() == {digest(seed) for seed in (SHARED_SEED, 300, 100, 500)}
    # what the ingest had stored of the erased slide goes with the next erasure, what is in use stays
    assert finish_interrupted(ward.settings) in (0, 1)
    assert digest(100) in ward.stored()


def test_an_ingest_under_way_and_an_erasure_wait_for_each_other(ward: Ward) -> None:
    slide = sa.text("UPDATE bloodcell.slide SET analyser = analyser WHERE barcode = :barcode")
    erased = threading.Thread(target=lambda: erase(ward.settings, "patient", PATIENT, reason=WHY))
    with connect(str(ward.settings.plain_database_url), role="bloodcell_app").begin() as connection:
        connection.execute(slide, {"barcode": OTHER})
        erased.start()
        erased.join(0.5)
        assert erased.is_alive()
        assert ward.rows("SELECT count(*) FROM bloodcell.slide") == [(3,)]  # readers do not wait
    erased.join(30)
    assert ward.rows("SELECT count(*) FROM bloodcell.slide") == [(1,)]


def test_only_the_owner_erases_and_only_with_a_record(ward: Ward) -> None:
    url = sa.make_url(str(ward.settings.plain_database_url))
    for role in ("bloodcell_app", "bloodcell_reviewer", "bloodcell_reader"):
        with connect(str(ward.settings.plain_database_url)).begin() as connection:
            connection.execute(sa.text(f"DROP ROLE IF EXISTS login_{role}"))
            connection.execute(sa.text(f"CREATE ROLE login_{role} LOGIN IN ROLE {role}"))
        login = url.set(username=f"login_{role}").render_as_string(hide_password=False)
        before = ward.everything()
        with pytest.raises(Exception, match=r"may not erase|permission denied"):
            erase(ward.settings.model_copy(update={"database_url": login}), "patient", PATIENT, reason=WHY)
        assert ward.everything() == before
        for statement in (
            "DELETE FROM bloodcell.label",
            "TABLE bloodcell.erasure_secret",
            "TABLE bloodcell.erased_slide",
        ):
            with refused(), connect(login, role=role).begin() as connection:
                connection.execute(sa.text(statement))
    with refused(), connect(str(ward.settings.plain_database_url), role="bloodcell_owner").begin() as connection:
        connection.execute(sa.text("DELETE FROM bloodcell.label"))
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    for table in ("erasure", "erasure_removal", "erasure_dataset", "erased_slide", "erasure_secret", "model"):
        with refused(), connect(str(ward.settings.plain_database_url), role="bloodcell_owner").begin() as connection:
            connection.execute(
                sa.text("INSERT INTO bloodcell.erasure (kind, reason, requested_by) VALUES ('slide', 'x', 'x')")
            )
            connection.execute(sa.text(f"DELETE FROM bloodcell.{table}"))


def test_every_table_that_refers_to_a_slide_or_cell_is_erased_from() -> None:
    from bloodcell.removal.erasing import _SQL

    named = ("slide", "cell", "label", "image")
    referring = {
        table.name
        for table in tables.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in named
    } | {
        table.name
        for table in tables.metadata.sorted_tables
        if {"barcode", "patient_key", "split_key"} & set(table.c.keys())
    }
    emptied = set(re.findall(r"DELETE FROM bloodcell\.(\w+)", " ".join(str(s) for s in _SQL.values())))
    assert referring - {"erased_slide"} <= emptied


def test_a_slide_of_which_only_the_ledger_knows_is_erased(ward: Ward) -> None:
    ward.night.record("S26-000005", barcode="S26-000006")  # contradicts its folder
    ward.night.cell("S26-000005", 1, seed=600)
    ingest_night(ward.night.path, ward.settings)
    assert ward.traces(["S26-000005"]) != []
    assert erase(ward.settings, "slide", "S26-000005", reason=WHY).removed["files in the ledger"] == 2
    assert ward.traces(["S26-000005"]) == []


def test_a_name_that_is_too_short_to_be_searched_for_is_named(ward: Ward) -> None:
    ward.night.cell("S1", 1, seed=700)
    ingest_night(ward.night.path, ward.settings)
    log = next(ward.settings.data_dir.rglob("attempt=1.log"))
    log.write_text("S1 and S1")
    done = erase(ward.settings, "slide", "S1", reason=WHY)
    assert done.unsearched == ("S1",)
    assert log.read_text() == "S1 and S1"
    assert replace(done, unsearched=()).removed["slides"] == 1


def test_files_in_the_label_inbox_that_name_the_slide_are_left_to_the_site(ward: Ward, tmp_path: Path) -> None:
    ward.settings.labels.mkdir(parents=True)
    csv = ward.settings.labels / "anna.csv"
    csv.write_text(f"barcode,file_name,class\n{BARCODES[0]},SNE_1.png,neutrophil\n")
    (ward.settings.labels / "bert.csv").write_text("barcode,file_name,class\n")
    assert csv in erase(ward.settings, "patient", PATIENT, reason=WHY).left_to_site


def test_a_number_that_equals_a_name_stays_and_does_not_stop_the_erasure(ward: Ward) -> None:
    """The count of a run, in the database and in an XCom: without quotes, what is blanked would be no JSON."""
    detail = '{"files": 1204, "failed": {"1204": "order 1204"}, "notes": ["1204", 1204.0]}'
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        renumbered = sa.text("UPDATE bloodcell.slide SET order_id = '1204' WHERE patient_key = :key")
        connection.execute(renumbered, {"key": PATIENT})
        counted = sa.text("UPDATE bloodcell.run SET detail = CAST(:detail AS jsonb) WHERE state = 'failed'")
        connection.execute(counted, {"detail": detail})
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.rows("SELECT detail FROM bloodcell.run WHERE state = 'failed'") == [
        ({"files": 1204, "failed": {"[erased]": "order [erased]"}, "notes": ["[erased]", 1204.0]},)
    ]
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE public.xcom (value jsonb, extra text)")
        connection.exec_driver_sql('INSERT INTO xcom VALUES (\'{"n_cells": 1204, "order": "1204"}\', \'x\')')
        assert _blank(connection, ["1204"]) == 1
        assert connection.exec_driver_sql("SELECT value FROM xcom").one() == ({"n_cells": 1204, "order": "[erased]"},)


def test_images_of_files_that_became_no_cell_go_too(ward: Ward) -> None:
    first = BARCODES[0]
    ward.night.write(f"{first}/SNE_0.png", picture(901))  # name_taken
    bitmap = io.BytesIO()
    Image.open(io.BytesIO(picture(100))).save(bitmap, "BMP")
    ward.night.write(f"{first}/SNE_00000000.bmp", bitmap.getvalue())  # same_cell
    ward.night.cell(first, 1, seed=902)  # changed_after_ingest
    ward.night.record("S26-000005", barcode="S26-000006", patient_key=PATIENT)
    ward.night.cell("S26-000005", 1, seed=903)  # slide_identity
    ward.night.cell("S26-000005", 2, seed=300)  # an image that the other patient has
    ingest_night(ward.night.path, ward.settings)
    ward.night.cell("S26-000005", 1, seed=904)  # another image, as long as the first is set aside
    ward.night.write(f"{OTHER}/SNE_8.png", picture(202))  # set aside, and an image of the erased patient
    ingest_night(ward.night.path, ward.settings)
    assert {digest(seed) for seed in (901, 902, 903, 904)} < ward.stored()
    assert verify_store(ward.settings).n_orphans == 0
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    erase(ward.settings, "slide", "S26-000005", reason=WHY)
    assert ward.stored() == {digest(seed) for seed in (SHARED_SEED, 300, 202)}
    assert ward.traces([digest(seed) for seed in (901, 902, 903, 904)]) == []


def test_nothing_is_erased_while_the_store_is_not_mounted(ward: Ward) -> None:
    before = ward.everything()
    with unmounted(ward.settings), pytest.raises(StoreUnavailableError, match="holds neither images nor models"):
        erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.everything() == before


def test_what_people_wrote_about_a_retraining_and_a_withdrawal_is_blanked(ward: Ward) -> None:
    first, second = BARCODES
    withdraw_slide(ward.settings, WithdrawalRequest(OTHER, "wrong rack", f"anna, as for {first}"))
    values = {"by": f"anna, see {second}", "approval": f'{{"by": "a", "reason": "see {first}"}}'}
    values["evidence"] = f'{{"approval": {{"reason": "looked at {first}"}}}}'
    with connect(str(ward.settings.plain_database_url)).begin() as connection:
        connection.exec_driver_sql("SET session_replication_role = replica")  # promotion is append-only
        connection.execute(sa.text("UPDATE bloodcell.promotion SET evidence = CAST(:evidence AS jsonb)"), values)
        retraining = sa.text(
            "INSERT INTO bloodcell.training_run (training_run_id, requested_by, reason, variants, base, seed, state, "
            "approval, min_new_labels) VALUES (gen_random_uuid(), :by, 'r', '{vgg16}', 'imagenet', 1, 'rejected', "
            "CAST(:approval AS jsonb), 1)"
        )
        connection.execute(retraining, values)
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.traces(BARCODES) == []
    assert ward.rows("SELECT approval ->> 'reason', requested_by FROM bloodcell.training_run") == [
        ("see [erased]", "anna, see [erased]")
    ]


def test_another_patient_who_has_the_barcode_now_keeps_everything(ward: Ward) -> None:
    withdraw_slide(ward.settings, WithdrawalRequest(BARCODES[0], "wrong rack", "anna"))
    later = NightFolder(ward.settings.drops, date(2026, 11, 24))
    later.record(BARCODES[0], patient_key="P-77", order_id="ORDER-77", acquired_at="2026-11-24T08:00:00Z")
    later.cell(BARCODES[0], 1, seed=801)
    later.complete()
    assert ingest_night(later.path, ward.settings).n_cells == 1
    page = ward.settings.data_dir / "reports" / f"{BARCODES[0]}.html"
    page.write_text("the report of P-77")
    erase(ward.settings, "patient", PATIENT, reason=WHY)
    assert ward.rows("SELECT barcode, patient_key FROM bloodcell.slide ORDER BY 1") == [
        (BARCODES[0], "P-77"), (OTHER, "P-2")
    ]  # fmt: skip
    assert ward.rows("SELECT night::text, path FROM bloodcell.drop_file WHERE barcode <> 'S26-000009' ORDER BY 2") == [
        ("2026-11-24", f"{BARCODES[0]}/SNE_00000001.png"), ("2026-11-24", f"{BARCODES[0]}/slide.json")
    ]  # fmt: skip
    assert page.exists()


def test_a_folder_that_the_site_wrote_in_the_other_unicode_form_is_named(ward: Ward) -> None:
    decomposed = unicodedata.normalize("NFD", "SÄ-12345")
    ward.night.cell(decomposed, 1, seed=970)
    ingest_night(ward.night.path, ward.settings)
    assert erase(ward.settings, "slide", "SÄ-12345", reason=WHY).left_to_site == (ward.night.path / decomposed,)
