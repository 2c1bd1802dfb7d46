"""`bloodcell site`: what a new laboratory types, and what is registered and promoted afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.registry.bundle import Bundle
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from tests.conftest import Command
from tests.site.test_calibrating import make_site


@pytest.fixture
def site(settings: Settings, main_here: Command) -> Command:
    variables = {
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "COLUMNS": "120",
    }
    return lambda *arguments, **more: main_here(*arguments, **variables | more)


def models(settings: Settings) -> dict[str, str]:
    with open_database(settings).connect() as connection:
        rows = connection.execute(sa.text("SELECT model_id, role FROM bloodcell.registered_model"))
        return {row.model_id: row.role for row in rows}


def test_a_new_laboratory_calibrates_then_promotes(
    site: Command, settings: Settings, svm_bundle: Bundle, tmp_path: Path
) -> None:
    images = make_site(tmp_path / "images", n_each=10)
    done = site(
        "site", "calibrate", "--images", str(images), "--name", "Hospital A", "--bundle", str(svm_bundle.folder)
    )
    assert done.returncode == 0, done.stderr
    assert "May be used, with review by a person, for:" in done.stdout
    assert "On slides that a model was not fitted on" in done.stdout
    (calibrated,) = set(models(settings)) - {svm_bundle.model_id}
    assert svm_bundle.model_id in models(settings)  # a later retraining starts from it
    assert f"Next: bloodcell models promote {calibrated[:12]} --reason R" in done.stdout
    promoted = site("models", "promote", calibrated[:12], "--reason", "verdict read")
    assert promoted.returncode == 0, promoted.stderr
    assert models(settings)[calibrated] == "champion"


def test_a_model_that_may_not_be_used_is_said_to_be_so_and_refused(
    site: Command, settings: Settings, svm_bundle: Bundle, tmp_path: Path
) -> None:
    site("models", "register", str(svm_bundle.folder))
    site("models", "promote", svm_bundle.model_id, "--reason", "first")
    images = make_site(tmp_path / "images", n_each=1)
    done = site("site", "calibrate", "--images", str(images), "--bundle", str(svm_bundle.folder), "--json")
    assert done.returncode == 0, done.stderr
    ((made),) = json.loads(done.stdout)
    assert made["manifest"]["site"]["may_be_used"] is False
    refused = site("models", "promote", made["model_id"], "--reason", "try it")
    assert refused.returncode == 1
    assert "Must not be used" in refused.stderr
    assert models(settings)[svm_bundle.model_id] == "champion"


def test_the_report_is_written_and_nothing_is_registered(
    site: Command, settings: Settings, svm_bundle: Bundle, tmp_path: Path
) -> None:
    images = make_site(tmp_path / "images", n_each=2)
    page = tmp_path / "site.html"
    done = site("site", "report", "--images", str(images), "--html", str(page), "--bundle", str(svm_bundle.folder))
    assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert models(settings) == {}
