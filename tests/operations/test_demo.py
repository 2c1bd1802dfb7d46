"""The demo keeps to itself. That it works from end to end is shown by running it: `make demo`."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bloodcell.models.bundle import Bundle
from bloodcell.operations import demo
from bloodcell.operations.demo import demo_settings
from bloodcell.operations.demo_models import demo_models
from bloodcell.settings import Settings
from tests.operations.conftest import free_port


def test_the_demo_never_touches_a_laboratorys_data(tmp_path: Path) -> None:
    laboratory = Settings(
        data_dir=tmp_path,
        drops_dir=tmp_path / "real drops",
        database_url="postgresql+psycopg2://bloodcell@db/real",
        store_url="s3://real",
        airflow_password_file=tmp_path / "real password",
        drop_pattern=r"(?P<slide>[^/]+)/(?P<number>\d+)\.bmp",
    )

    settings = demo_settings(laboratory)

    assert settings.data_dir == tmp_path / "demo"
    assert settings.drops == tmp_path / "demo" / "drops"
    assert settings.store == str(tmp_path / "demo" / "store")
    assert settings.database_url is None
    assert settings.airflow_password_file is None
    assert settings.nightly_cron == ""
    assert settings.drop_pattern == Settings(data_dir=tmp_path).drop_pattern


def test_the_wanted_port_is_used_where_it_is_free_and_another_where_not(tmp_path: Path) -> None:
    wanted = free_port()
    settings = Settings(data_dir=tmp_path, airflow_url=f"http://127.0.0.1:{wanted}")
    assert urlsplit(demo_settings(settings).airflow_url).port == wanted

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wanted))
        taken.listen()
        assert urlsplit(demo_settings(settings).airflow_url).port != wanted


def test_each_demo_draws_a_night_of_its_own(tmp_path: Path) -> None:
    settings = demo_settings(Settings(data_dir=tmp_path))

    first, second = (demo._drawn_night(settings, lambda *_: None, 1, 8) for _ in range(2))

    assert second.folder.name < first.folder.name
    assert {slide.barcode for slide in first.slides}.isdisjoint(slide.barcode for slide in second.slides)


def test_models_that_are_kept_are_not_trained_again(
    tmp_path: Path, up_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloodcell.operations.demo_models.DEMO_RECIPES", {"vgg16_svm": None})
    (tmp_path / "bundles").symlink_to(up_bundle.folder.parent)
    steps: list[str] = []

    models = demo_models(Settings(data_dir=tmp_path), lambda step, *_: steps.append(step))

    assert models["vgg16_svm"].model_id == up_bundle.model_id
    assert steps == []


def test_a_kept_model_that_was_altered_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloodcell.operations.demo_models.DEMO_RECIPES", {})
    broken = tmp_path / "bundles" / "abc"
    broken.mkdir(parents=True)
    (broken / "bundle.json").write_text("{}")

    assert demo_models(Settings(data_dir=tmp_path), lambda *_: None) == {}
    assert not broken.exists()
