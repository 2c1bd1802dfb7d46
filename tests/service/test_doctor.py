"""The doctor says what works and what does not, and what to do about it."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from bloodcell.cli import app
from bloodcell.exchange.exchange_file import read_exchange_file
from bloodcell.exchange.receiver_rows import keep_receivers
from bloodcell.service.doctor import examine
from bloodcell.service.findings import Finding
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from bloodcell.storage.migrations import head_revision
from tests.laboratory import Laboratory

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def examined(settings: Settings, tmp_path: Path) -> Settings:
    """A laboratory whose Airflow is not running."""
    password = tmp_path / "password"
    password.write_text("secret")
    settings.drops.mkdir(parents=True)
    return settings.model_copy(update={"airflow_url": NOWHERE, "airflow_password_file": password})


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(settings)}


def test_a_fresh_machine_is_told_to_start(tmp_path: Path) -> None:
    found = findings(Settings(data_dir=tmp_path / "data", airflow_url=NOWHERE))

    assert found["python"].status == "ok"
    assert found["data folder"].status == "warn"
    assert found["database"] == Finding(
        "database", "fail", "The embedded Postgres has never been started", "Next: bloodcell up"
    )
    assert "champion" not in found
    assert not (tmp_path / "data").exists()


def test_a_database_of_this_release_passes_and_a_missing_model_fails(examined: Settings) -> None:
    found = findings(examined)

    assert found["database"].status == "ok"
    assert found["schema"] == Finding("schema", "ok", f"revision {head_revision()}")
    assert found["champion"].status == "fail"
    assert "bloodcell train" in found["champion"].next_step


def test_the_next_step_for_an_empty_database_is_its_upgrade(examined: Settings, empty_database_url: str) -> None:
    found = findings(examined.model_copy(update={"database_url": empty_database_url}))

    assert found["database"].status == "ok"
    assert found["schema"].status == "fail"
    assert "bloodcell db upgrade" in found["schema"].next_step


def test_an_unavailable_database_fails_and_its_password_is_not_shown(examined: Settings) -> None:
    away = "postgresql+psycopg2://bloodcell:s3cret@127.0.0.1:9/none"
    found = findings(examined.model_copy(update={"database_url": away}))

    assert found["database"].status == "fail"
    assert "s3cret" not in found["database"].detail
    assert "schema" not in found


def test_the_next_step_for_a_model_that_nobody_promoted_is_its_promotion(
    examined: Settings, database: Database
) -> None:
    Laboratory(database).model(promote=False)

    found = findings(examined)["champion"]

    assert (found.status, found.next_step) == ("fail", "Next: bloodcell models promote ID --reason R")


def test_a_champion_without_its_bundle_fails(examined: Settings, database: Database) -> None:
    Laboratory(database).model()

    assert findings(examined)["champion"].status == "fail"


def test_an_airflow_that_does_not_respond_fails(examined: Settings) -> None:
    found = findings(examined)

    assert found["airflow"].status == "fail"
    assert NOWHERE in found["airflow"].detail
    assert found["airflow"].next_step == "Next: bloodcell up"
    assert "pool" not in found


def test_a_missing_drops_folder_is_a_failure(examined: Settings) -> None:
    examined.drops.rmdir()

    found = findings(examined)["drops folder"]

    assert found.status == "fail"
    assert "BLOODCELL_DROPS_DIR" in found.next_step


def test_a_missing_labels_inbox_is_a_warning(examined: Settings) -> None:
    missing = findings(examined)["labels inbox"]
    assert (missing.status, "BLOODCELL_LABELS_DIR" in missing.next_step) == ("warn", True)

    examined.labels.mkdir()

    assert findings(examined)["labels inbox"].status == "ok"


def test_an_approver_unknown_to_airflow_fails(examined: Settings, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.json"
    passwords.write_text('{"admin": "secret"}')
    settings = examined.model_copy(update={"airflow_password_file": passwords, "approvers": "admin,pathologist"})

    found = findings(settings)["approvers"]
    assert found.status == "fail"
    assert "pathologist" in found.detail and "admin" not in found.detail
    assert "BLOODCELL_APPROVERS" in found.next_step

    passwords.write_text('{"admin": "secret", "pathologist": "other"}')
    assert findings(settings)["approvers"] == Finding("approvers", "ok", "admin, pathologist may approve a model")


def test_a_full_disk_fails(examined: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(examined.drops)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000_000))

    found = findings(examined)["disk space"]

    assert found.status == "fail"
    assert "0 GB free" in found.detail


def test_a_weights_folder_without_weights_is_a_warning(examined: Settings, tmp_path: Path) -> None:
    assert findings(examined.model_copy(update={"weights_dir": tmp_path}))["base weights"].status == "warn"


def test_the_command_prints_json_with_exit_status_1(examined: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(examined.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(examined.plain_database_url))
    monkeypatch.setenv("BLOODCELL_AIRFLOW_URL", NOWHERE)

    result = CliRunner().invoke(app, ["doctor", "--json"])

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["ok"] is False
    assert {"check", "status", "detail", "next_step"} == set(document["findings"][0])


def test_the_command_prints_a_table_with_next_steps(examined: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(examined.data_dir))
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", str(examined.plain_database_url))
    monkeypatch.setenv("BLOODCELL_AIRFLOW_URL", NOWHERE)

    result = CliRunner().invoke(app, ["doctor"])

    assert result.exit_code == 1
    assert "→ Next: bloodcell up" in result.stdout


def test_the_last_verification_of_the_store_is_shown_and_warns_if_it_is_old_or_found_damage(
    examined: Settings, database: Database
) -> None:
    def shown() -> tuple[str, str]:
        found = findings(examined)["store verified"]
        return found.status, found.detail

    def recorded(age_days: int, n_damaged: int, n_healed: int) -> None:
        counts = f'{{"n_objects": 40, "n_damaged": {n_damaged}, "n_healed": {n_healed}}}'
        with database.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO bloodcell.run (run_id, stage, state, ended_at, code_version, host, detail) VALUES "
                    "(gen_random_uuid(), 'verify_store', 'succeeded', now() - :age, '1', 'h', :counts)"
                ),
                {"age": timedelta(days=age_days), "counts": counts},
            )

    assert shown() == ("ok", "Not yet; it is done every week")
    Laboratory(database)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE bloodcell.drop SET first_seen_at = now() - interval '20 days'"))
    assert shown() == ("warn", "Last verified: not yet; the Dag verify_store does it every week")
    recorded(16, 0, 0)
    assert shown()[0] == "warn"
    recorded(3, 2, 1)
    assert shown()[1].startswith("1 of 40 objects were damaged and not healed on 20")
    recorded(2, 2, 2)
    assert shown()[1].startswith("2 damaged objects of 40 were healed on 20")
    recorded(1, 0, 0)
    assert shown()[0] == "ok"


def test_messages_that_were_rejected_or_wait_for_long_are_a_warning(
    examined: Settings, database: Database, tmp_path: Path
) -> None:
    assert findings(examined)["exchange"].detail == "No receiver is configured, so no result leaves"
    path = tmp_path / "exchange.toml"
    path.write_text('[receivers.lis]\nprotocol = "hl7"\nhost = "h"\nport = 1\napplication = "L"\nfacility = "H"')
    with_file = examined.model_copy(update={"exchange_file": path})
    assert findings(with_file)["exchange"] == Finding("exchange", "ok", "Results are sent to lis")
    with database.begin() as connection:
        keep_receivers(connection, read_exchange_file(path))
    assert "does not name lis, whose messages wait" in findings(examined)["exchange"].detail
    laboratory = Laboratory(database)
    laboratory.model()
    cells = laboratory.cells(laboratory.slide("S-1"), ["SNE"] * 60)
    laboratory.call(cells, ["neutrophil"] * 60)
    laboratory.count()
    laboratory.sign("S-1", 1)
    assert findings(with_file)["exchange"].status == "ok"
    for change, told in (
        ("made_at = now() - interval '2 hours'", "Messages wait for lis, the oldest since "),
        ("state = 'held'", "1 message rejected, which waits for a person"),
    ):
        with database.begin() as connection:
            connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
            connection.execute(sa.text(f"UPDATE bloodcell.outgoing_message SET {change}"))
        found = findings(with_file)["exchange"]
        assert (found.status, found.detail.startswith(told)) == ("warn", True), found
    path.write_text("[receivers.lis]")
    assert findings(with_file)["exchange"].status == "fail"


def test_what_the_quality_control_holds_is_a_warning(examined: Settings, database: Database, tmp_path: Path) -> None:
    assert findings(examined)["quality"].status == "ok"
    assert "with no control slides" in findings(examined)["quality"].detail
    laboratory = Laboratory(database)
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.quality_check (kind, subject, night, whole_night, passed, reason, figures, "
                "run_id) VALUES ('control', 'QC-1', :night, true, false, 'off target', '{}', :run)"
            ),
            {"night": laboratory.night, "run": laboratory.run_id},
        )
    found = findings(examined)["quality"]
    assert (found.status, found.detail) == ("warn", "1 failed check of the quality control, 0 held slides")
    broken = tmp_path / "quality.toml"
    broken.write_text("version = 1")
    assert findings(examined.model_copy(update={"quality_file": broken}))["quality"].status == "fail"
