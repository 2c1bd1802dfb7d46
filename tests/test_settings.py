"""Settings are validated, refused by name, and never show a secret."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bloodcell.environment import NOT_SETTINGS
from bloodcell.errors import ConfigurationError, SettingError
from bloodcell.settings import GROUPS, Settings
from tests.conftest import Command

SECRET = "hunter2"  # noqa: S105 - looked for in everything that is shown
DATABASE_URL = f"postgresql+psycopg2://bloodcell:{SECRET}@postgres.example.org/bloodcell"
ALARM_URL = f"https://hooks.example.org/services/{SECRET}"
METRICS_URL = f"https://bloodcell:{SECRET}@collector.example.org/v1/metrics"


@pytest.fixture
def with_secrets() -> Settings:
    return Settings(database_url=DATABASE_URL, alarm_url=ALARM_URL, metrics_url=METRICS_URL)


@pytest.mark.parametrize(
    "show",
    [repr, str, lambda s: s.model_dump(), lambda s: s.model_dump_json(), lambda s: f"{s}", lambda s: vars(s)],
    ids=["repr", "str", "model_dump", "model_dump_json", "format", "vars"],
)
def test_no_form_of_the_settings_shows_a_secret(with_secrets: Settings, show: Callable[[Settings], object]) -> None:
    assert SECRET not in str(show(with_secrets))
    assert SECRET not in str(show(with_secrets.model_copy(update={"settle_s": 1})))


@pytest.mark.parametrize("name", ["database_url", "alarm_url", "metrics_url"])
@pytest.mark.parametrize("value", [[SECRET], {"password": SECRET}, SECRET.encode() + b"\xff", 5, ""])
def test_an_error_names_a_secret_setting_and_does_not_show_its_value(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"BLOODCELL_{name.upper()}: expected") as caught:
        Settings(**{name: value})
    assert SECRET not in str(caught.value)
    assert "secret" in str(caught.value)


def test_an_error_in_another_setting_does_not_show_the_secrets() -> None:
    with pytest.raises(SettingError) as caught:
        Settings(database_url=DATABASE_URL, settle_s=-1)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.getrepr(style="short"))


def test_every_wrong_setting_is_named_with_what_was_expected_and_received() -> None:
    with pytest.raises(SettingError) as caught:
        Settings(settle_s=-1, max_pixels="many", drop_pattern="(", drops_dir="", watch_polling="perhaps")
    message = {line.split(":")[0]: line for line in str(caught.value).splitlines()}
    expected = {
        "BLOODCELL_SETTLE_S": "expected a number greater than or equal to 0; received -1.",
        "BLOODCELL_MAX_PIXELS": "expected a valid integer; received 'many'.",
        "BLOODCELL_DROP_PATTERN": "expected a regular expression: missing ), unterminated subpattern at position 0",
        "BLOODCELL_DROPS_DIR": "expected a value, but the variable is empty; received ''.",
        "BLOODCELL_WATCH_POLLING": "expected a valid boolean; received 'perhaps'.",
    }
    assert message.keys() == expected.keys()
    for name, text in expected.items():
        assert text in message[name]
        assert str(Settings.model_fields[name.removeprefix("BLOODCELL_").lower()].description) in message[name]
        assert message[name].endswith("Next: correct it, or unset it for the default.")


def test_a_drop_pattern_without_its_groups_is_refused() -> None:
    with pytest.raises(SettingError, match=r"expected the named groups slide and number, found \['slide'\]"):
        Settings(drop_pattern=r"(?P<slide>\w+)/\d+\.png")


def test_an_unknown_variable_is_refused_by_name_with_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOODCELL_DROP_DIR", "/srv/analysers")
    monkeypatch.setenv("bloodcell_databse_url", DATABASE_URL)
    monkeypatch.setenv("BLOODCELL_XYZZY", "1")
    with pytest.raises(SettingError) as caught:
        Settings()
    nearest, unlike, mistyped = sorted(str(caught.value).splitlines())
    assert nearest.startswith("There is no setting BLOODCELL_DROP_DIR. Did you mean BLOODCELL_DROPS_DIR?")
    assert unlike.startswith("There is no setting BLOODCELL_XYZZY. The documentation lists all settings.")
    assert mistyped.startswith("There is no setting bloodcell_databse_url. Did you mean BLOODCELL_DATABASE_URL?")
    assert SECRET not in str(caught.value)


def test_variables_of_other_programs_and_of_a_clusters_services_are_not_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NOT_SETTINGS:
        monkeypatch.setenv(name, "1")
    # the variables that a cluster makes from the chart's Services bloodcell-api-server and bloodcell
    for service in ("BLOODCELL_API_SERVER", "BLOODCELL"):
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.11")
        monkeypatch.setenv(f"{service}_SERVICE_PORT", "8080")
        monkeypatch.setenv(f"{service}_SERVICE_PORT_API_SERVER", "8080")
        monkeypatch.setenv(f"{service}_PORT", "tcp://10.0.0.11:8080")
        monkeypatch.setenv(f"{service}_PORT_8080_TCP", "tcp://10.0.0.11:8080")
        for part in ("PROTO", "PORT", "ADDR"):
            monkeypatch.setenv(f"{service}_PORT_8080_TCP_{part}", "x")
    Settings()


def test_a_port_that_no_service_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOODCELL_PORT", "8080")
    with pytest.raises(SettingError, match="BLOODCELL_PORT"):
        Settings()


def test_an_unknown_name_in_code_is_refused_with_the_nearest_setting() -> None:
    with pytest.raises(SettingError, match=r"no setting 'drop_dir'\. Did you mean 'drops_dir'\?"):
        Settings(drop_dir="/srv")  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="no setting 'drop_dir'"):
        Settings().model_copy(update={"drop_dir": "/srv"})


def test_a_changed_copy_is_validated_and_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Settings(drops_dir="/srv/analysers", database_url=DATABASE_URL)
    monkeypatch.setenv("BLOODCELL_STORE_URL", "s3://elsewhere")
    monkeypatch.setenv("BLOODCELL_SETTLE_S", "7")

    copy = original.model_copy(update={"drops_dir": None, "alarm_url": ALARM_URL})

    assert copy.drops == copy.data_dir / "drops"
    assert copy.alarm_url is not None and copy.alarm_url.get_secret_value() == ALARM_URL
    assert (copy.plain_database_url, copy.settle_s, copy.store_url) == (DATABASE_URL, 120, None)
    with pytest.raises(SettingError, match="BLOODCELL_SETTLE_S"):
        original.model_copy(update={"settle_s": "soon"})


def test_settings_cannot_be_changed(with_secrets: Settings) -> None:
    with pytest.raises(ValidationError):
        with_secrets.settle_s = 1.0  # type: ignore[misc]


def test_variables_give_another_process_the_same_settings(
    with_secrets: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_secrets.model_copy(update={"nightly_cron": "", "watch_polling": True, "approvers": "Dr. Ö"})
    for name, value in settings.as_variables().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_every_setting_belongs_to_one_group() -> None:
    own = [name for group in GROUPS for name in group.__annotations__]
    assert sorted(own) == sorted(Settings.model_fields)
    assert {base for base in Settings.__mro__ if base in GROUPS} == set(GROUPS)


@pytest.mark.parametrize("arguments", [["--help"], ["ingest", "--help"], ["models", "list", "--help"], ["--version"]])
def test_help_works_with_any_environment(arguments: list[str]) -> None:
    environment = os.environ | {"BLOODCELL_DROP_DIR": "/srv", "BLOODCELL_SETTLE_S": "soon"}
    command = [sys.executable, "-m", "bloodcell", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["doctor"], ["models", "list"], ["watch"], ["up"], ["db", "url"]])
def test_every_command_that_reads_settings_refuses_an_unknown_one(
    arguments: list[str], main_here: Command, tmp_path: Path
) -> None:
    done = main_here(*arguments, BLOODCELL_DATA_DIR=str(tmp_path / "data"), BLOODCELL_DROP_DIR="/srv")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Did you mean BLOODCELL_DROPS_DIR?" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_setting_error_is_a_configuration_error() -> None:
    """Therefore Airflow does not retry a task that raises one."""
    assert issubclass(SettingError, ConfigurationError)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("desk_public_url", "http://desk.example.org", "expected an address such as https://desk.example.org"),
        ("desk_public_url", "https://desk.example.org/bloodcell", "without a path"),
        ("desk_public_url", "https://user@desk.example.org", "without a path"),
        ("desk_url", "127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("desk_url", "http://127.0.0.1:none", "http://127.0.0.1:8090"),
        ("desk_ldap_url", "http://directory.example.org", "ldaps://"),
        ("desk_ldap_filter", "(uid=amartin)", "(ATTRIBUTE={name}) once"),
        ("desk_ldap_filter", "(|(uid={name})(mail={name}))", "(ATTRIBUTE={name}) once"),
        ("desk_ldap_filter", "(&(uid={name})", "(ATTRIBUTE={name}) once"),
        ("desk_groups", "readers=chief", "a role of viewer, reader, senior, administrator"),
        ("desk_groups", "readers", "GROUP=ROLE"),
        ("desk_groups", "=reader", "GROUP=ROLE"),
        ("desk_groups", "readers=reader,chiefs=senior", "semicolons between the groups"),
        ("desk_login", "saml", "expected 'local', 'ldap' or 'oidc'"),
        ("desk_session_h", "0", "greater than 0"),
    ],
)
def test_a_wrong_setting_of_the_desk_is_named_with_what_is_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert f"BLOODCELL_{name.upper()}" in str(caught.value) and expected in str(caught.value)


def test_settings_of_the_desk_that_contradict_each_other_are_named() -> None:
    with pytest.raises(SettingError, match=r"BLOODCELL_DESK_IDLE_MIN .* is longer than BLOODCELL_DESK_SESSION_H"):
        Settings(desk_idle_min=120, desk_session_h=1)


def test_groups_of_the_desk_give_roles() -> None:
    groups = "cn=readers,ou=groups,dc=example,dc=org=reader; chiefs=senior;chiefs = administrator;"
    assert Settings(desk_groups=groups).roles_by_group == {
        "cn=readers,ou=groups,dc=example,dc=org": {"reader"},
        "chiefs": {"senior", "administrator"},
    }
    assert Settings().roles_by_group == {}


def test_the_desk_is_where_the_proxy_shows_it() -> None:
    assert Settings().desk_origin == "http://127.0.0.1:8090"
    assert Settings(desk_public_url="https://desk.example.org/").desk_origin == "https://desk.example.org"
    assert Settings(desk_public_url="https://Desk.Example.ORG:443").desk_origin == "https://desk.example.org"
    assert Settings(desk_public_url="https://desk.example.org:8443").desk_origin == "https://desk.example.org:8443"
    assert Settings(desk_url="http://[::1]:8090").desk_origin == "http://[::1]:8090"
