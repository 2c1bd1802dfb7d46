"""The lines of docs/how-to/backup.md, run as they stand: what is restored has the same rows, and every image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from bloodcell.ingest import ingest_night
from bloodcell.service.doctor import examine
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade
from bloodcell.storage.store import Store
from bloodcell.storage.tables import metadata
from tests.conftest import ROOT, _administer
from tests.ingest.night import NightFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
]

LINES = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "how-to" / "backup.md").read_text(), re.DOTALL)


def shell(lines: str, backup: Path, programs: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs lines of the page with other paths for backup and store."""
    script = lines.replace("/mnt/backup/bloodcell", str(backup))
    if store := variables.pop("STORE", None):
        script = script.replace("/srv/bloodcell/store", store)
    path = f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}"
    environment = {"HOME": str(backup), "PATH": path, **variables}
    return subprocess.run(["sh", "-euc", script], env=environment, capture_output=True, text=True, check=False)


def rows(url: str) -> dict[str, list[str]]:
    """Returns all rows of all tables as text."""
    with connect(url).connect() as connection:
        return {
            table.name: sorted(connection.scalars(sa.text(f'SELECT r::text FROM bloodcell."{table.name}" r')))
            for table in metadata.sorted_tables
        }


def read_every_image(settings: Settings, url: str) -> int:
    with connect(url).connect() as connection:
        images = list(connection.scalars(sa.text("SELECT sha256 FROM bloodcell.image")))
    return len([Store.of(settings).read_image(sha256) for sha256 in images])


def ingest(settings: Settings, day: int, n_cells: int) -> None:
    night = NightFolder(settings.drops, date(2026, 11, day))
    for number in range(n_cells):
        night.cell(f"S26-{day}", number, seed=100 * day + number)
    night.complete()
    ingest_night(night.path, settings)


def test_the_data_folder_of_one_machine_is_restored_elsewhere(tmp_path: Path) -> None:
    before, copy, backup = (tmp_path / name for name in ("before", "copy", "backup"))
    settings = Settings(data_dir=before, settle_s=0)
    server = embedded_database(settings)
    programs = server.psql.parent
    upgrade(server.url())
    ingest(settings, 20, 5)
    first, second = LINES[:2]
    while_running = shell(first, backup, programs, BLOODCELL_DATA_DIR=str(before))
    assert while_running.returncode == 0, while_running.stderr
    running = shell(first + second, backup, programs, BLOODCELL_DATA_DIR=str(before))
    assert (running.returncode, "still running" in running.stdout) == (1, True)
    ingest(settings, 21, 4)  # after the first part
    known = rows(server.url())
    server.stop()
    stopped = shell(first + second, backup, programs, BLOODCELL_DATA_DIR=str(before))
    assert stopped.returncode == 0, stopped.stderr
    shutil.rmtree(before)
    restored = shell(LINES[2].replace("bloodcell models verify", ""), backup, programs, BLOODCELL_DATA_DIR=str(copy))
    assert restored.returncode == 0, restored.stderr + restored.stdout
    settings = Settings(data_dir=copy, settle_s=0)
    server = embedded_database(settings)
    try:
        assert rows(server.url()) == known
        assert read_every_image(settings, server.url()) == 9
        found = {finding.check: finding.status for finding in examine(settings)}
        assert (found["database"], found["schema"], found["store"]) == ("ok", "ok", "ok")
        ingest(settings, 22, 1)  # and it goes on
    finally:
        server.stop()


def test_a_dump_and_the_store_copied_after_it_have_one_moment(
    settings: Settings, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    backup, store = tmp_path / "backup", tmp_path / "restored"
    ingest(settings, 20, 5)
    known = rows(str(settings.plain_database_url))
    variables = {"BLOODCELL_DATABASE_URL": str(settings.plain_database_url)}
    dump, copy = LINES[3].rsplit("rsync", 1)
    dumped = shell(dump, backup, postgres.psql.parent, STORE=settings.store, **variables)
    assert dumped.returncode == 0, dumped.stderr
    ingest(settings, 21, 4)  # a night comes between dump and copy
    copied = shell(
        f"{dump.split('pg_dump')[0]}rsync{copy}", backup, postgres.psql.parent, STORE=settings.store, **variables
    )
    assert copied.returncode == 0, copied.stderr
    name = f"restored_{uuid.uuid4().hex[:12]}"
    _administer(postgres, f"CREATE DATABASE {name}")
    url = postgres.url(name)
    restored = shell(LINES[4], backup, postgres.psql.parent, STORE=str(store), BLOODCELL_DATABASE_URL=url)
    assert restored.returncode == 0, restored.stderr + restored.stdout
    assert rows(url) == known
    assert read_every_image(settings.model_copy(update={"store_url": str(store)}), url) == 5
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")
