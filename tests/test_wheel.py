"""An installed wheel brings what a checkout runs with: Dags, migrations, views, queries and the shipped models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    wheel.unlink()
    return folder / "site-packages"


def test_the_wheel_has_each_file_of_the_package_its_dags_and_its_sql(installed: Path) -> None:
    where = {"bloodcell": "bloodcell", "dags": "bloodcell/_dags", "sql": "bloodcell/_sql"}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *where],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    expected = {Path(where[file.parts[0]], *file.parts[1:]) for file in files}
    packed = {path.relative_to(installed) for path in (installed / "bloodcell").rglob("*") if path.is_file()}
    assert packed == expected
    assert {"03_cells_to_review.sql", "nightly_run.py", "0004_terms.py"} <= {path.name for path in packed}


def test_its_command_line_lists_the_queries_that_it_brings(installed: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(installed)}
    listed = subprocess.run(
        [sys.executable, "-c", "from bloodcell.cli import main; main()", "db", "queries", "--json"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    paths = [Path(query["path"]) for query in json.loads(listed.stdout)]
    assert {path.parent for path in paths} == {installed / "bloodcell" / "_sql" / "queries"}
    assert [path.name for path in paths] == sorted(path.name for path in (ROOT / "sql" / "queries").glob("*.sql"))
