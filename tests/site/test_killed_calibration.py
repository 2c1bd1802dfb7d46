"""A calibration that is killed leaves no half bundle, and the same command ends with what an undisturbed one makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bloodcell.errors import BundleError
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.settings import Settings
from bloodcell.site.calibrating import calibrate
from bloodcell.site.site_images import SiteImages, read_site_images
from tests.site.test_calibrating import make_site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def undisturbed(folder: Path, svm_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    settings = Settings(data_dir=tmp_path_factory.mktemp("undisturbed"))
    return calibrate(read_site_images(settings, folder), [svm_bundle], settings, site="A")[0]


@pytest.mark.parametrize(("step", "number"), [("looks", 60), ("images", 32), ("cross-fit", 2), ("bundle", 2)])
def test_killed_at_any_stage_it_resumes(
    step: str, number: int, folder: Path, svm_bundle: Bundle, undisturbed: Bundle, tmp_path: Path
) -> None:
    script = ROOT / "tests" / "site" / "killed_calibration.py"
    command = [sys.executable, str(script), str(folder), str(tmp_path), str(svm_bundle.folder), step, str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    for path in (tmp_path / "bundles").glob("*"):
        with pytest.raises(BundleError):
            open_bundle(path)
    settings, computed = Settings(data_dir=tmp_path), [0]

    def count(name: str, done: int, total: int) -> None:
        computed[0] += name.endswith(": images")

    images: SiteImages = read_site_images(settings, folder)
    (resumed,) = calibrate(images, [svm_bundle], settings, site="A", on_progress=count)
    found, expected = (replace(each.manifest, created_at="", files={}) for each in (resumed, undisturbed))
    assert found == expected
    assert computed[0] == 0 or step in ("looks", "images")  # the network's outputs are not computed again
