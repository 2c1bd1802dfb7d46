"""The demo does not touch a laboratory's data; `make demo` shows that it works from end to end."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from bloodcell.demo.tour import _drawn_night, demo_settings
from bloodcell.settings import Settings
from tests.service.conftest import free_port


def test_the_demo_never_touches_a_laboratorys_data(tmp_path: Path) -> None:
    laboratory = Settings(
        data_dir=tmp_path,
        drops_dir=tmp_path / "real drops",
        labels_dir=tmp_path / "real labels",
        alarm_url="https://alarm.example.org/hook",
        metrics_url="https://metrics.example.org",
        airflow_public_url="https://bloodcell.example.org",
        night_pattern=r"(?P<day>\d{2})\.(?P<month>\d{2})\.(?P<year>\d{4})",
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
    assert settings.labels == tmp_path / "demo" / "labels"
    own = Settings(data_dir=tmp_path)
    for name in ("drop_pattern", "night_pattern", "airflow_public_url", "alarm_url", "metrics_url"):
        assert getattr(settings, name) == getattr(own, name)


def test_the_wanted_port_is_used_if_it_is_free_and_another_one_otherwise(tmp_path: Path) -> None:
    wanted = free_port()
    settings = Settings(data_dir=tmp_path, airflow_url=f"http://127.0.0.1:{wanted}")
    assert urlsplit(demo_settings(settings).airflow_url).port == wanted

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wanted))
        taken.listen()
        assert urlsplit(demo_settings(settings).airflow_url).port != wanted


def test_each_demo_draws_a_new_night(tmp_path: Path) -> None:
    settings = demo_settings(Settings(data_dir=tmp_path))

    first, second = (_drawn_night(settings, lambda *_: None, 1, 8) for _ in range(2))

    assert second.folder.name < first.folder.name
    assert {slide.barcode for slide in first.slides}.isdisjoint(slide.barcode for slide in second.slides)
