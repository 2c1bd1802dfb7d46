"""Airflow's home holds everything that gives access to the installation, and only its owner can read it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.service.airflow_home import prepare_airflow_home, read_password, users_without_password
from bloodcell.settings import Settings

METADATA_URL = "postgresql+psycopg2://postgres@/airflow?host=/tmp/a%20b"


@pytest.fixture
def on_fresh_folder(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", airflow_url="http://127.0.0.1:8090")


def test_only_the_owner_can_read_the_files(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.folder.iterdir()}
    assert modes == {"airflow.cfg": 0o600, "passwords.json": 0o600, "secrets.json": 0o600}
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


def test_a_password_file_readable_by_others_is_made_private_again(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)
    home.password_file.chmod(0o644)

    prepare_airflow_home(on_fresh_folder, METADATA_URL)

    assert stat.S_IMODE(home.password_file.stat().st_mode) == 0o600


def test_secrets_and_password_are_made_once(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)
    secrets, password = (home.folder / "secrets.json").read_text(), read_password(on_fresh_folder)

    prepare_airflow_home(on_fresh_folder, METADATA_URL)

    assert (home.folder / "secrets.json").read_text() == secrets
    assert read_password(on_fresh_folder) == password
    assert len(set(json.loads(secrets).values())) == 3
    assert all(len(secret) >= 32 for secret in json.loads(secrets).values())


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    homes = [prepare_airflow_home(Settings(data_dir=tmp_path / name), METADATA_URL) for name in ("a", "b")]

    one, other = ({*json.loads((home.folder / "secrets.json").read_text()).values()} for home in homes)
    assert not one & other


def test_secrets_are_in_the_configuration_file_and_not_in_the_environment(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)
    secrets = json.loads((home.folder / "secrets.json").read_text()).values()

    configuration = (home.folder / "airflow.cfg").read_text()
    environment = "\n".join(home.environment(on_fresh_folder, "postgresql://x").values())

    assert all(secret in configuration for secret in secrets)
    assert not any(secret in environment for secret in secrets)
    assert read_password(on_fresh_folder) not in environment


def test_percent_signs_survive_airflows_interpolation(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)

    assert METADATA_URL.replace("%", "%%") in (home.folder / "airflow.cfg").read_text()


def test_the_environment_has_our_settings_and_none_of_another_airflow(
    on_fresh_folder: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/elsewhere")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/elsewhere/airflow.cfg")
    settings = on_fresh_folder.model_copy(update={"shard_cells": 7, "nightly_cron": "", "watch_polling": True})
    home = prepare_airflow_home(settings, METADATA_URL)

    environment = home.environment(settings, "postgresql://ours")

    assert [name for name in environment if name.startswith("AIRFLOW")] == ["AIRFLOW_HOME"]
    assert environment["BLOODCELL_DATABASE_URL"] == "postgresql://ours"
    with pytest.MonkeyPatch.context() as child:
        for name, value in environment.items():
            child.setenv(name, value)
        read = Settings()
    assert read == settings.model_copy(update={"database_url": "postgresql://ours"})


def test_the_environment_has_no_variable_of_the_shell_for_an_unset_setting(
    on_fresh_folder: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOODCELL_DROPS_DIR", "/laboratory/drops")
    monkeypatch.setenv("BLOODCELL_STORE_URL", "s3://laboratory/store")
    monkeypatch.setenv("NO_PROXY", "intranet.example.org")
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)

    environment = home.environment(on_fresh_folder, "postgresql://ours")

    assert not {"BLOODCELL_DROPS_DIR", "BLOODCELL_STORE_URL"} & environment.keys()
    assert environment["NO_PROXY"] == "intranet.example.org,127.0.0.1,localhost"


def test_a_new_user_gets_a_password_and_the_others_keep_theirs(on_fresh_folder: Settings) -> None:
    prepare_airflow_home(on_fresh_folder, METADATA_URL)
    password, other = read_password(on_fresh_folder), on_fresh_folder.model_copy(update={"airflow_user": "lab"})

    prepare_airflow_home(other, METADATA_URL)

    assert len(read_password(other)) >= 16
    assert read_password(on_fresh_folder) == password


def test_every_approver_becomes_a_user_with_a_password_and_the_lowest_role(on_fresh_folder: Settings) -> None:
    settings = on_fresh_folder.model_copy(update={"approvers": "pathologist, admin,Dr. Ö, pathologist"})

    home = prepare_airflow_home(settings, METADATA_URL)

    passwords = json.loads(home.password_file.read_text())
    assert set(passwords) == {"admin", "pathologist", "Dr. Ö"}
    assert len({*passwords.values()}) == 3
    assert stat.S_IMODE(home.password_file.stat().st_mode) == 0o600
    configuration = (home.folder / "airflow.cfg").read_text()
    assert "simple_auth_manager_users = admin:admin,pathologist:user,Dr. Ö:user\n" in configuration
    assert not any(password in configuration for password in passwords.values())


def test_a_new_approver_does_not_change_the_passwords_of_the_others(on_fresh_folder: Settings) -> None:
    prepare_airflow_home(on_fresh_folder, METADATA_URL)
    password, settings = read_password(on_fresh_folder), on_fresh_folder.model_copy(update={"approvers": "pathologist"})
    assert users_without_password(settings) == ("pathologist",)

    prepare_airflow_home(settings, METADATA_URL)

    assert read_password(on_fresh_folder) == password
    assert users_without_password(settings) == ()


@pytest.mark.parametrize("change", [{"approvers": "path:admin"}, {"airflow_user": "a,b"}, {"airflow_user": " "}])
def test_a_name_that_airflow_would_read_as_a_role_or_as_two_users_is_refused(
    on_fresh_folder: Settings, change: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="BLOODCELL_APPROVERS"):
        prepare_airflow_home(on_fresh_folder.model_copy(update=change), METADATA_URL)


def test_an_airflow_elsewhere_manages_its_users_itself(on_fresh_folder: Settings, tmp_path: Path) -> None:
    plain = tmp_path / "password"
    plain.write_text("s3cret\n")
    settings = on_fresh_folder.model_copy(update={"airflow_password_file": plain, "approvers": "pathologist"})

    assert users_without_password(settings) == ()


def test_a_plain_password_file_is_refused_if_airflow_has_to_read_it(on_fresh_folder: Settings) -> None:
    home = prepare_airflow_home(on_fresh_folder, METADATA_URL)
    home.password_file.write_text("s3cret\n")

    with pytest.raises(ConfigurationError, match="JSON object"):
        prepare_airflow_home(on_fresh_folder, METADATA_URL)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:8080", "http://airflow.example.org:8080", "http://127.0.0.1:8080/prefix"]
)
def test_an_address_that_up_cannot_serve_is_refused(on_fresh_folder: Settings, url: str) -> None:
    settings = on_fresh_folder.model_copy(update={"airflow_url": url})

    with pytest.raises(ConfigurationError, match="BLOODCELL_AIRFLOW_URL"):
        prepare_airflow_home(settings, METADATA_URL)


def test_a_password_of_another_airflow_may_be_a_plain_file(on_fresh_folder: Settings, tmp_path: Path) -> None:
    plain = tmp_path / "password"
    plain.write_text("s3cret\n")

    assert read_password(on_fresh_folder.model_copy(update={"airflow_password_file": plain})) == "s3cret"


def test_the_error_of_a_missing_password_file_says_what_to_do(on_fresh_folder: Settings) -> None:
    with pytest.raises(ConfigurationError, match="bloodcell up"):
        read_password(on_fresh_folder)


def test_a_user_without_a_password_is_named(on_fresh_folder: Settings) -> None:
    prepare_airflow_home(on_fresh_folder, METADATA_URL)

    with pytest.raises(ConfigurationError, match="'nobody'"):
        read_password(on_fresh_folder.model_copy(update={"airflow_user": "nobody"}))


def test_behind_a_proxy_airflow_has_its_address_and_believes_only_this_machine(
    on_fresh_folder: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    behind = on_fresh_folder.model_copy(update={"airflow_public_url": "https://bloodcell.example.org/"})

    home = prepare_airflow_home(behind, METADATA_URL)

    configuration = (home.folder / "airflow.cfg").read_text()
    assert "\nbase_url = https://bloodcell.example.org\n" in configuration
    assert "\nexecution_api_server_url = http://127.0.0.1:8090/execution/\n" in configuration
    assert home.environment(behind, "postgresql://x")["FORWARDED_ALLOW_IPS"] == "127.0.0.1"


@pytest.mark.parametrize("address", ["http://bloodcell.example.org", "bloodcell.example.org", "https://site/bloodcell"])
def test_a_proxy_without_tls_or_below_a_path_is_refused(on_fresh_folder: Settings, address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected BLOODCELL_AIRFLOW_PUBLIC_URL like https://.* received "):
        prepare_airflow_home(on_fresh_folder.model_copy(update={"airflow_public_url": address}), METADATA_URL)
