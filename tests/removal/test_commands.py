"""`bloodcell erase` and `bloodcell clean`: what they show, and their exit status."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import Command
from tests.laboratory import CHAMPION
from tests.removal.conftest import BARCODES, PATIENT, Ward, digest

Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bloodcell(ward: Ward, main_here: Command) -> Here:
    variables = {
        "BLOODCELL_DATA_DIR": str(ward.settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(ward.settings.plain_database_url),
        "COLUMNS": "120",
    }
    return lambda *arguments, **more: main_here(*arguments, **variables | more)


def test_an_erasure_is_shown_and_done_only_with_yes(ward: Ward, bloodcell: Here) -> None:
    request = ("erase", "--patient", PATIENT, "--reason", "consent withdrawn")
    before = ward.everything()
    shown = bloodcell(*request)
    assert (shown.returncode, ward.everything()) == (1, before)
    assert "What would be removed" in shown.stdout
    assert "Nothing was erased" in shown.stderr
    preview = bloodcell(*request, "--json")
    assert (preview.returncode, json.loads(preview.stdout)["erasure_id"]) == (1, None)
    done = bloodcell(*request, "--yes")
    assert done.returncode == 0, done.stderr
    assert "images that no other slide has" in done.stdout
    assert str(ward.night.path / BARCODES[0]) in done.stdout
    assert ward.traces([PATIENT, *BARCODES, digest(100)]) == []
    again = bloodcell(*request, "--yes", "--json")
    assert (again.returncode, again.stdout) == (3, "")
    model = json.loads(bloodcell("models", "show", CHAMPION).stdout)
    assert model["erased_images"] == {"holdout": 2}
    for wrong in (("--reason", "x"), ("--reason", "x", "--patient", "a", "--slide", "b")):
        assert bloodcell("erase", *wrong).returncode == 2


def test_cleaning_without_an_age_does_nothing_and_says_so(ward: Ward, bloodcell: Here) -> None:
    kept = bloodcell("clean")
    assert (kept.returncode, "everything is kept" in kept.stdout) == (3, True)
    shown = bloodcell("clean", "--dry-run", BLOODCELL_KEEP_IMAGES_DAYS="30", BLOODCELL_KEEP_LOGS_DAYS="90")
    assert (shown.returncode, "What would be removed" in shown.stdout) == (0, True)
    assert ward.rows("SELECT count(*) FROM bloodcell.run WHERE stage = 'clean'") == [(0,)]
    done = bloodcell("clean", "--json", BLOODCELL_KEEP_LOGS_DAYS="90")
    assert done.returncode == 0
    assert {each["part"]: each["n"] for each in json.loads(done.stdout)["removed"]}["logs"] == 0
    details = ward.rows("SELECT detail::text FROM bloodcell.run_history WHERE stage = 'clean'")
    assert details == [('{"logs": {"n": 0, "bytes": 0}}',)]
