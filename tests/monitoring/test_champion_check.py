"""The champion is checked on the labels and nights since its last check: each counts once, all rows or none."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import astuple
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.errors import BundleError, ConfigurationError, DatabaseUnavailableError, StoreUnavailableError
from bloodcell.monitoring import ChampionCheck, Check, check_champion
from bloodcell.registry.bundle import Bundle, images_of
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.store import Store
from tests.classified_nights import called_cells, classified_night, crown, rows, with_reference
from tests.ingest.night import NIGHT
from tests.laboratory import Laboratory

DRIFT = ("class_mix", "confidence", "novelty", "embedding")
NEXT_NIGHT = NIGHT + timedelta(days=1)


def only(check: ChampionCheck, kind: str, cell_class: str | None = None) -> Check:
    (found,) = [each for each in check.checks if (each.kind, each.cell_class) == (kind, cell_class)]
    return found


def wrong(cell_class: str) -> str:
    return "monocyte" if cell_class == "lymphocyte" else "lymphocyte"


class BlindReaders(Laboratory):
    """A laboratory whose people read blind unless they say otherwise."""

    def label(self, cells: Sequence[int], labels: Sequence[str], by: str = "anna", **more: Any) -> list[int]:
        return super().label(cells, labels, by, **({"blind": True} | more))


@pytest.fixture
def lab(database: Database) -> Laboratory:
    return BlindReaders(database)


def test_a_night_like_the_validation_images_crosses_no_threshold(settings: Settings, champion: str) -> None:
    classified_night(settings)
    check = check_champion(settings)
    assert check.failed == ()
    assert check.model_id == champion
    for kind in DRIFT:
        found = only(check, kind)
        assert found.measured is not None
        assert (found.n_cells, found.since_night, found.until_night) == (80, NIGHT, NIGHT)
    assert only(check, "agreement").measured is None  # nobody has labelled anything yet


def test_a_night_out_of_focus_is_detected_without_any_label(settings: Settings, champion: str) -> None:
    classified_night(settings)
    check_champion(settings)
    classified_night(settings, NEXT_NIGHT, blur_px=4)
    check = check_champion(settings)
    embedding = only(check, "embedding")
    assert (embedding.since_night, embedding.until_night) == (NEXT_NIGHT, NEXT_NIGHT)
    assert embedding.lower is not None
    assert embedding.lower > settings.check_max_mmd
    assert not embedding.passed
    assert "check staining, focus, light" in embedding.reason
    assert not only(check, "novelty").passed
    assert embedding.reason in check.failed


def test_another_class_mix_changes_the_class_mix_and_not_the_embedding(settings: Settings, champion: str) -> None:
    classified_night(settings, classes=("lymphocyte", "lymphocyte", "lymphocyte", "monocyte"))
    check = check_champion(settings)
    assert {each.kind for each in check.checks if not each.passed} == {"class_mix"}
    assert only(check, "embedding", "lymphocyte").measured == pytest.approx(0, abs=0.02)


def test_the_view_has_every_figure_and_its_run(settings: Settings, database: Database, champion: str) -> None:
    classified_night(settings)
    check = check_champion(settings, airflow_run="scheduled__1")
    reader = Database(connect(str(settings.plain_database_url), role="bloodcell_reader"), patience_s=0)
    shown = rows(
        reader,
        "SELECT kind, class, n_cells, measured, lower_95, upper_95, threshold, passed, reason, since_night, "
        "until_night FROM bloodcell.champion_check",
    )
    assert shown == [astuple(each) for each in check.checks]
    state = rows(
        database, "SELECT stage, state, airflow_run, detail ->> 'model' FROM bloodcell.run WHERE stage = 'check'"
    )
    assert state == [("check", "succeeded", "scheduled__1", champion)]


def test_agreement_is_counted_by_class_and_among_the_called(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings, n_striped=2)
    called = called_cells(database, champion)
    unclassified = rows(database, "SELECT cell_id FROM bloodcell.cell_call WHERE called_class = 'unclassified'")
    assert len(unclassified) >= 2
    lymphocytes = [cell for cell, cell_class in called if cell_class == "lymphocyte"]
    # two of the cells called lymphocytes are read as monocytes; what the same person says later changes no evidence
    lab.label(lymphocytes[:2], ["monocyte"] * 2)
    lab.label([cell for cell, _ in called], [said for _, said in called], at="2026-03-16 09:00+00")
    lab.label([int(str(cell)) for (cell,) in unclassified], ["ig"] * len(unclassified))
    check = check_champion(settings)
    n_called = len(called)
    overall = only(check, "agreement")
    assert (overall.n_cells, overall.measured) == (n_called, (n_called - 2) / n_called)
    assert overall.passed
    assert f"{n_called - 2} of {n_called}" in overall.reason
    assert only(check, "agreement", "lymphocyte").measured == 1
    monocyte = only(check, "agreement", "monocyte")
    assert monocyte.measured == (monocyte.n_cells - 2) / monocyte.n_cells
    without_call = only(check, "unclassified")
    assert (without_call.n_cells, without_call.measured) == (80, (80 - n_called) / 80)


def test_an_agreement_fails_only_if_its_upper_end_is_below_the_threshold(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)[:60]
    # 52 of 60 agree: 86.7 %; the exact interval is 75.4 to 94.1 %, that over the few slides is wider
    lab.label(
        [cell for cell, _ in called],
        [wrong(cell_class) if n in range(0, 60, 8) else cell_class for n, (_, cell_class) in enumerate(called)],
    )
    found = only(check_champion(settings), "agreement")
    assert (found.measured, found.passed) == (pytest.approx(52 / 60), True)
    assert (found.lower, found.upper) == (pytest.approx(0.71, abs=0.03), pytest.approx(0.96, abs=0.02))

    stricter = settings.model_copy(update={"check_min_agreement": 0.95})
    lab.label([cell for cell, _ in called], [wrong(cell_class) for _, cell_class in called], at="2026-03-17 09:00+00")
    again = only(check_champion(stricter), "agreement")
    assert again.measured is None  # each cell counts once for each champion


def test_too_low_an_agreement_is_an_alarm_with_a_reason_and_the_next_step(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label(
        [cell for cell, _ in called],
        [wrong(cell_class) if n % 2 else cell_class for n, (_, cell_class) in enumerate(called)],
    )
    check = check_champion(settings)
    reason = only(check, "agreement").reason
    assert reason in check.failed
    assert (
        "Even the upper end of the interval is below the threshold of 90.0 % (BLOODCELL_CHECK_MIN_AGREEMENT)" in reason
    )
    assert "bloodcell models rollback" in reason


def test_too_few_labels_are_left_for_the_next_check(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called[:30]], [cell_class for _, cell_class in called[:30]])
    waiting = only(check_champion(settings), "agreement")
    assert (waiting.n_cells, waiting.measured, waiting.passed) == (30, None, True)
    assert "30 blind-read cells of the random samples with a call, 40 are needed" in waiting.reason
    lab.label([cell for cell, _ in called[30:50]], [cell_class for _, cell_class in called[30:50]])
    assert only(check_champion(settings), "agreement").n_cells == 50
    assert only(check_champion(settings), "agreement").n_cells == 0


def test_a_label_that_becomes_visible_late_is_not_lost(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    slow, quick = called[:20], called[20:65]
    with database.connect() as importing:  # takes its ids first and is committed last
        row = {"labelled_by": "anna", "labelled_at": "2026-03-15", "is_blind": True, "source": "csv"}
        importing.execute(tables.label.insert(), [{"cell_id": c, "class": g, **row} for c, g in slow])
        lab.label([cell for cell, _ in quick], [cell_class for _, cell_class in quick])
        assert only(check_champion(settings), "agreement").n_cells == 45
        importing.commit()
    generous = settings.model_copy(update={"check_min_cells": 10})
    assert only(check_champion(generous), "agreement").n_cells == 20


def test_contested_cells_wait_until_they_are_settled(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    cell, cell_class = called[0]
    lab.label([cell], [wrong(cell_class)], "boris")
    assert only(check_champion(settings), "agreement").n_cells == len(called) - 1
    lab.label([cell], [cell_class], "carla", at="2026-03-18 09:00+00", adjudication=True)
    generous = settings.model_copy(update={"check_min_cells": 1})
    assert only(check_champion(generous), "agreement").n_cells == 1


def test_cells_of_the_training_data_are_left_out_and_counted(
    settings: Settings, database: Database, champion: str, lab: Laboratory, watched_bundle: Bundle
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label(
        [cell for cell, _ in called],
        [wrong(cell_class) if n < 20 else cell_class for n, (_, cell_class) in enumerate(called)],
    )
    # the first twenty are in the data set that the model was trained on, ten of them on the hold-out
    lab.dataset(
        watched_bundle.manifest.data.dataset_digest,
        [(cell, "training" if n < 10 else "holdout") for n, (cell, _) in enumerate(called[:20])],
    )
    found = only(check_champion(settings), "agreement")
    assert (found.n_cells, found.measured) == (len(called) - 10, pytest.approx(1 - 10 / (len(called) - 10)))
    assert "Left out: 10 cells from the champion's training data." in found.reason
    counted = rows(database, "SELECT is_training, count(*) FROM bloodcell.checked_label GROUP BY 1 ORDER BY 1")
    assert counted == [(False, len(called) - 10), (True, 10)]


def test_the_training_images_of_a_model_trained_on_a_folder_come_from_its_bundle(
    settings: Settings, database: Database, champion: str, lab: Laboratory, watched_bundle: Bundle
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    digest = sorted(images_of(watched_bundle))[0]
    with connect(str(settings.plain_database_url)).begin() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.cell DISABLE TRIGGER ALL"))
        connection.execute(
            sa.text("UPDATE bloodcell.cell SET sha256 = :d WHERE cell_id = :c"), {"d": digest, "c": called[0][0]}
        )
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    settings = settings.model_copy(update={"check_max_mmd": 9.0})
    found = only(check_champion(settings), "agreement")
    assert found.n_cells == len(called) - 1
    assert "Left out: 1 cell from" in found.reason


def test_labels_with_a_call_in_sight_and_labels_of_other_cells_judge_nothing(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings.model_copy(update={"sample_cells": 30}))
    called = called_cells(database, champion)
    sampled = {cell for (cell,) in rows(database, "SELECT cell_id FROM bloodcell.sampled_cell")}
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called], blind=False)
    assert only(check_champion(settings), "agreement").n_cells == 0
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called], "boris")
    waiting = only(check_champion(settings), "agreement")
    assert waiting.n_cells == len(sampled & {cell for cell, _ in called})
    assert "bloodcell labels sample" in waiting.reason


def test_a_class_that_is_always_wrong_is_an_alarm_although_the_overall_agreement_is_high(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    for day in range(2):
        classified_night(settings, NIGHT + timedelta(days=day), slides=10)
    called = called_cells(database, champion)
    immature = [cell for cell, cell_class in called if cell_class == "ig"]
    assert len(immature) >= 20
    lab.label([cell for cell, _ in called], [wrong(said) if said == "ig" else said for _, said in called])
    lenient = settings.model_copy(update={"check_min_agreement": 0.5, "check_max_psi": 99.0})
    check = check_champion(lenient)
    assert only(check, "agreement").passed
    precision = only(check, "precision", "ig")
    assert (precision.measured, precision.passed) == (0, False)
    assert "is right about 0 of" in precision.reason
    assert "BLOODCELL_CHECK_MIN_PRECISION" in precision.reason


def test_a_class_with_too_few_cells_is_shown_and_not_judged(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings, classes=("lymphocyte",) * 15 + ("monocyte",))
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], ["lymphocyte"] * len(called))
    found = only(check_champion(settings), "precision", "monocyte")
    assert (found.measured, found.threshold, found.passed) == (0, None, True)
    assert found.reason.endswith("Not judged: 10 are needed.")


def test_a_class_is_judged_on_the_cells_of_earlier_checks_too(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    first = only(check_champion(settings), "agreement", "neutrophil")
    classified_night(settings, NEXT_NIGHT)
    fresh = [(cell, said) for cell, said in called_cells(database, champion) if cell not in dict(called)]
    lab.label([cell for cell, _ in fresh], [cell_class for _, cell_class in fresh])
    second = check_champion(settings)
    assert only(second, "agreement").n_cells == len(fresh)
    neutrophils = [cell for cell, said in called + fresh if said == "neutrophil"]
    assert only(second, "agreement", "neutrophil").n_cells == len(neutrophils) > first.n_cells


def test_cells_out_of_scope_are_counted_separately(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    blasts = [cell for cell, _ in called[:5]]
    lab.label(blasts, ["BL"] * 5)
    lab.label([cell for cell, _ in called[5:]], [cell_class for _, cell_class in called[5:]])
    check = check_champion(settings)
    assert only(check, "agreement").n_cells == len(called) - 5
    found = only(check, "out_of_scope")
    assert (found.n_cells, found.measured) == (5, 0)  # all five got a call
    assert check.failed == ()


def test_the_same_airflow_run_writes_one_set_of_rows(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    first = check_champion(settings, airflow_run="manual__1")
    assert check_champion(settings, airflow_run="manual__1") == first
    assert rows(database, "SELECT count(DISTINCT run_id), count(*) FROM bloodcell.model_check") == [
        (1, len(first.checks))
    ]
    second = check_champion(settings, airflow_run="manual__2")
    assert only(second, "agreement").n_cells == 0
    assert only(second, "embedding").n_cells == 0


def test_a_failed_check_leaves_no_rows_and_the_next_one_counts_everything(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    owner = connect(str(settings.plain_database_url))
    with owner.begin() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.model_check ADD CONSTRAINT stop CHECK (kind <> 'embedding')"))
    with pytest.raises(sa.exc.IntegrityError):
        check_champion(settings, airflow_run="manual__1")
    assert rows(database, "SELECT 1 FROM bloodcell.model_check UNION ALL SELECT 2 FROM bloodcell.checked_cell") == []
    with owner.begin() as connection:
        connection.execute(sa.text("ALTER TABLE bloodcell.model_check DROP CONSTRAINT stop"))
    check = check_champion(settings, airflow_run="manual__1")
    assert only(check, "agreement").n_cells == len(called)
    states = rows(database, "SELECT state FROM bloodcell.run WHERE stage = 'check' ORDER BY started_at")
    assert states == [("failed",), ("succeeded",)]


def test_two_checks_at_once_count_each_label_once(
    settings: Settings, database: Database, champion: str, lab: Laboratory
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    found: list[ChampionCheck] = []
    threads = [threading.Thread(target=lambda: found.append(check_champion(settings))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(only(check, "agreement").n_cells for check in found) == [0, len(called)]
    assert rows(database, "SELECT count(*) FROM bloodcell.checked_cell") == [(len(called),)]


def test_a_new_champion_is_judged_by_its_own_calls_only(
    settings: Settings, database: Database, champion: str, lab: Laboratory, watched_bundle: Bundle, tmp_path: Path
) -> None:
    classified_night(settings)
    called = called_cells(database, champion)
    lab.label([cell for cell, _ in called], [cell_class for _, cell_class in called])
    check_champion(settings)
    newer = crown(settings, database, with_reference(watched_bundle, tmp_path, None))
    check = check_champion(settings)
    assert check.model_id == newer
    assert only(check, "agreement").n_cells == 0
    classified_night(settings, NEXT_NIGHT)
    fresh = called_cells(database, newer)
    lab.label([cell for cell, _ in fresh], [cell_class for _, cell_class in fresh])
    assert only(check_champion(settings), "agreement").n_cells == len(fresh)


def test_drift_of_an_old_bundle_without_a_reference_is_not_judged(
    settings: Settings, database: Database, watched_bundle: Bundle, tmp_path: Path
) -> None:
    crown(settings, database, with_reference(watched_bundle, tmp_path, None))
    classified_night(settings)
    check = check_champion(settings)
    assert check.failed == ()
    for kind in DRIFT:
        found = only(check, kind)
        assert (found.measured, found.until_night) == (None, None)
        assert "the bundle has no reference.npz" in found.reason


def test_a_class_mix_is_compared_only_with_that_of_a_laboratory(
    settings: Settings, database: Database, svm_bundle: Bundle
) -> None:
    crown(settings, database, svm_bundle)
    classified_night(settings, classes=("lymphocyte", "monocyte"))
    found = only(check_champion(settings), "class_mix")
    assert (found.measured, found.passed) == (None, True)
    assert "images sorted by class" in found.reason


def test_too_few_slides_are_left_for_the_next_check(settings: Settings, champion: str) -> None:
    classified_night(settings, slides=5)
    waiting = only(check_champion(settings), "embedding")
    assert (waiting.n_cells, waiting.measured, waiting.until_night) == (50, None, None)
    assert "50 cells of 5 slides" in waiting.reason
    classified_night(settings, NEXT_NIGHT, slides=5)
    both = only(check_champion(settings), "embedding")
    assert (both.n_cells, both.since_night, both.until_night) == (100, NIGHT, NEXT_NIGHT)


def test_a_check_without_calls_or_labels_passes(settings: Settings, champion: str) -> None:
    check = check_champion(settings)
    assert check.failed == ()
    assert {each.measured for each in check.checks} == {None}
    assert "too little data to judge yet" in check.markdown()


def test_without_a_champion_there_is_nothing_to_check(settings: Settings, database: Database) -> None:
    with pytest.raises(ConfigurationError, match="No model is champion"):
        check_champion(settings)
    assert rows(database, "SELECT state FROM bloodcell.run WHERE stage = 'check'") == [("failed",)]


def test_a_missing_or_altered_bundle_of_the_champion_is_a_clear_error(settings: Settings, champion: str) -> None:
    folder = Store.of(settings).bundle_folder(champion)
    reference = folder / "reference.npz"
    body = reference.read_bytes()
    reference.write_bytes(body[:-1] + b"x")
    with pytest.raises(BundleError, match=r"reference\.npz is altered"):
        check_champion(settings)
    reference.write_bytes(body)
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match=r"expected the file bundle\.json"):
        check_champion(settings)


def test_missing_images_are_reported_and_the_others_compared(settings: Settings, champion: str) -> None:
    classified_night(settings)
    images = sorted(path for path in Path(settings.store).joinpath("images").rglob("*") if path.is_file())
    for path in images[:3]:
        path.unlink()
    found = only(check_champion(settings), "embedding")
    assert found.n_cells == 77
    assert "3 sampled cells could not be read" in found.reason


def test_a_store_without_any_of_the_images_is_an_error_to_retry_later(settings: Settings, champion: str) -> None:
    classified_night(settings)
    for path in Path(settings.store).joinpath("images").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(StoreUnavailableError, match="None of the 80 sampled cells could be read"):
        check_champion(settings)


def test_an_unavailable_database_is_an_error_to_retry_later(settings: Settings) -> None:
    away = settings.model_copy(
        update={"database_url": "postgresql+psycopg2://nobody@127.0.0.1:1/none", "database_patience_s": 0}
    )
    with pytest.raises(DatabaseUnavailableError):
        check_champion(away)


def test_progress_is_reported_while_the_sample_is_embedded(settings: Settings, champion: str) -> None:
    classified_night(settings)
    reported: list[tuple[str, int, int]] = []
    check_champion(settings, on_progress=lambda step, done, total: reported.append((step, done, total)))
    assert reported[-1] == ("embed", 80, 80)


def test_the_first_check_goes_back_a_month_and_no_further(settings: Settings, champion: str) -> None:
    classified_night(settings, date(2026, 9, 1))
    classified_night(settings, NIGHT)
    found = only(check_champion(settings), "embedding")
    assert (found.n_cells, found.since_night) == (80, NIGHT)
