"""Airflow's home below the data folder: its configuration, its secrets and its users' passwords.

These files are written with mode 0600 in a folder of mode 0700, because they give access to the whole installation.
The secrets are made once per installation; the configuration is written again at each start.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bloodcell.environment import PREFIX, STACK_MARK
from bloodcell.errors import ConfigurationError
from bloodcell.resources import dags_folder
from bloodcell.storage.atomic_write import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.settings import AirflowSettings, Settings

HOST: Final = "127.0.0.1"
_NO_PROXY: Final = ("no_proxy", "NO_PROXY")
PARALLEL_TASKS: Final = 4
APPROVER_ROLE: Final = "user"
"""The lowest of Airflow's roles that may answer an approval: a `viewer` is refused (403), even if assigned."""

HEARTBEAT_TIMEOUT_S: Final = 120
"""Seconds after which a task without a supervisor is started again. For a night, Airflow's default of 300 s is long."""


@dataclass(frozen=True, slots=True)
class AirflowHome:
    """Where Airflow keeps its files, and how to reach it.

    Attributes:
        folder: AIRFLOW_HOME.
        url: Address of the API server and the web pages.
        public_url: Address of the reverse proxy in front of it; None if there is none.
        user: The administrator, as whom bloodcell itself triggers runs.
        approvers: Other users, who may view, trigger, and answer the approvals that are assigned to them.
        password_file: JSON file with the passwords of all of them.
    """

    folder: Path
    url: str
    public_url: str | None
    user: str
    approvers: tuple[str, ...]
    password_file: Path

    @property
    def port(self) -> int:
        """Port of the API server."""
        return urlsplit(self.url).port or 80

    def environment(self, settings: Settings, database_url: str) -> dict[str, str]:
        """Returns the environment of every process of the installation.

        It contains neither the settings of another Airflow nor the secrets of this one, which are only in the
        configuration file. If `settings` leaves a setting at its default, the shell's variable for it is left out too,
        so a demo does not see a laboratory's folders.

        Args:
            settings: Passed on unchanged, so that every process has the same settings.
            database_url: URL of bloodcell's database, for the tasks.
        """
        others = ("AIRFLOW_", "_AIRFLOW", PREFIX)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        direct = {name: ",".join(filter(None, [os.environ.get(name), HOST, "localhost"])) for name in _NO_PROXY}
        return {
            **inherited,
            **direct,
            **settings.as_variables(),
            "BLOODCELL_DATABASE_URL": database_url,
            "AIRFLOW_HOME": str(self.folder),
            STACK_MARK: str(settings.data_dir.resolve()),
            "FORWARDED_ALLOW_IPS": HOST,  # whose X-Forwarded-For the API server believes, if it is started to read one
            "SPT_NOENV": "1",  # or setproctitle overwrites the mark in /proc/<pid>/environ
            "PYTHONUNBUFFERED": "1",
        }


def airflow_home(settings: AirflowSettings) -> AirflowHome:
    """Returns this installation's Airflow home; writes nothing."""
    folder = settings.data_dir / "airflow"
    approvers = tuple(dict.fromkeys(name for name in settings.approver_names if name != settings.airflow_user))
    public_url = settings.airflow_public_url and settings.airflow_public_url.rstrip("/")
    return AirflowHome(
        folder, settings.airflow_url.rstrip("/"), public_url, settings.airflow_user, approvers, password_file(settings)
    )


def password_file(settings: AirflowSettings) -> Path:
    """Returns the file that holds the password of `settings.airflow_user`."""
    return settings.airflow_password_file or settings.data_dir / "airflow" / "passwords.json"


def read_password(settings: AirflowSettings) -> str:
    """Returns the password of `settings.airflow_user`.

    Raises:
        ConfigurationError: The file is missing, or has no password for the user.
    """
    path = password_file(settings)
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"Airflow's password file {path} cannot be read ({error.strerror}). Start Airflow with `bloodcell up`, "
            "or set BLOODCELL_AIRFLOW_PASSWORD_FILE to a file with the password of your own Airflow."
        ) from error
    if not text.startswith("{"):
        return text
    passwords = _passwords(path)
    if settings.airflow_user not in passwords:
        raise ConfigurationError(
            f"{path} has no password for the Airflow user {settings.airflow_user!r} (BLOODCELL_AIRFLOW_USER), "
            f"only for: {', '.join(sorted(passwords))}."
        )
    return str(passwords[settings.airflow_user])


def users_without_password(settings: AirflowSettings) -> tuple[str, ...]:
    """Returns the users of these settings who have no password in the password file.

    For an Airflow elsewhere the file contains one plain password. That Airflow manages its users itself, so the result
    is empty.

    Raises:
        ConfigurationError: The file is JSON, but not in Airflow's format.
    """
    path, home = password_file(settings), airflow_home(settings)
    text = path.read_text().strip() if path.exists() else ""
    if text and not text.startswith("{"):
        return ()
    passwords = _passwords(path) if text else {}
    return tuple(name for name in (home.user, *home.approvers) if name not in passwords)


def prepare_airflow_home(settings: AirflowSettings, metadata_url: str) -> AirflowHome:
    """Returns Airflow's home with passwords, secrets and configuration written.

    Args:
        settings: `airflow_url` has to be an http address on this machine; Airflow serves its port.
        metadata_url: SQLAlchemy URL of Airflow's own database.

    Raises:
        ConfigurationError: `bloodcell up` cannot serve `airflow_url`, the proxy's address is not one that it can be
            behind, Airflow does not accept a user's name, or the password file is not in Airflow's format.
    """
    home = airflow_home(settings)
    _refuse_unservable_names(home)
    address = urlsplit(home.url)
    if address.scheme != "http" or address.hostname not in (HOST, "localhost") or address.path:
        raise ConfigurationError(
            f"`bloodcell up` serves Airflow on this machine only: expected BLOODCELL_AIRFLOW_URL like "
            f"http://{HOST}:8080, received {home.url}."
        )
    public = urlsplit(home.public_url or f"https://{HOST}")
    if public.scheme != "https" or not public.hostname or public.path or public.query:
        raise ConfigurationError(
            f"The reverse proxy has to show Airflow by TLS and at its root: expected BLOODCELL_AIRFLOW_PUBLIC_URL like "
            f"https://bloodcell.example.org, received {home.public_url}."
        )
    home.folder.mkdir(parents=True, exist_ok=True)
    home.folder.chmod(0o700)
    passwords = _passwords(home.password_file) if home.password_file.exists() else {}
    new = [name for name in (home.user, *home.approvers) if name not in passwords]
    if new:  # otherwise Airflow would make passwords and print them to its log
        made = {name: secrets.token_urlsafe(12) for name in new}
        _write_private(home.password_file, json.dumps({**passwords, **made}))
    home.password_file.chmod(0o600)
    configuration = _configuration(home, metadata_url, _secrets(home.folder / "secrets.json"))
    _write_private(home.folder / "airflow.cfg", _rendered(configuration))
    return home


def _configuration(
    home: AirflowHome, metadata_url: str, secret: Mapping[str, str]
) -> dict[str, dict[str, str | int | bool]]:
    return {
        "core": {
            "dags_folder": str(dags_folder()),
            "plugins_folder": str(home.folder / "plugins"),
            "executor": "LocalExecutor",
            "parallelism": PARALLEL_TASKS,
            "load_examples": False,
            "simple_auth_manager_users": ",".join(
                [f"{home.user}:admin", *(f"{name}:{APPROVER_ROLE}" for name in home.approvers)]
            ),
            "simple_auth_manager_passwords_file": str(home.password_file),
            "execution_api_server_url": f"{home.url}/execution/",
            "fernet_key": secret["fernet_key"],
        },
        "database": {"sql_alchemy_conn": metadata_url, "sql_alchemy_pool_size": 3},
        "logging": {
            "base_log_folder": str(home.folder / "logs"),
            "colored_console_log": False,
            "file_task_handler_new_folder_permissions": "0o700",  # they are set whatever the umask is
            "file_task_handler_new_file_permissions": "0o600",
        },
        "api": {
            "host": HOST,
            "port": home.port,
            "base_url": home.public_url or home.url,
            "workers": 1,
            "secret_key": secret["secret_key"],
            "enable_swagger_ui": False,  # it is open to anyone who reaches the port
        },
        "api_auth": {"jwt_secret": secret["jwt_secret"], "jwt_issuer": "bloodcell"},
        "scheduler": {"task_instance_heartbeat_timeout": HEARTBEAT_TIMEOUT_S},
        # a killed Postgres is back within seconds, and a task should not be killed for the heartbeats missed meanwhile
        "workers": {"max_failed_heartbeats": 10},
        "dag_processor": {"parsing_processes": 1, "min_file_process_interval": 60, "refresh_interval": 60},
    }


def _refuse_unservable_names(home: AirflowHome) -> None:
    """Refuses names that cannot stand in Airflow's list of users (name:role, separated by commas, not trimmed)."""
    for name in (home.user, *home.approvers):
        if not name.strip() or any(sign in name for sign in ":,") or not name.isprintable():
            raise ConfigurationError(
                f"{name!r} cannot be the name of an Airflow user: expected printable characters other than colon and "
                "comma. Check BLOODCELL_AIRFLOW_USER and BLOODCELL_APPROVERS."
            )


def _passwords(path: Path) -> dict[str, str]:
    try:
        passwords = json.loads(path.read_text())
    except ValueError:
        passwords = None
    if not isinstance(passwords, dict):
        raise ConfigurationError(
            f'{path} is not a password file of Airflow. Expected a JSON object, {{"user": "password"}}. Remove it, or '
            "set BLOODCELL_AIRFLOW_PASSWORD_FILE to another path; `bloodcell up` makes the file."
        )
    return passwords


def _secrets(path: Path) -> dict[str, str]:
    if not path.exists():
        made = {
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_urlsafe(48),
            "jwt_secret": secrets.token_urlsafe(48),
        }
        _write_private(path, json.dumps(made))
    loaded: dict[str, str] = json.loads(path.read_text())
    return loaded


def _rendered(configuration: Mapping[str, Mapping[str, str | int | bool]]) -> str:
    parser = configparser.RawConfigParser()
    for section, options in configuration.items():
        # Airflow reads this file with interpolation, so a % in a path or a password is written twice
        parser[section] = {name: str(value).replace("%", "%%") for name, value in options.items()}
    lines = ["# Written by `bloodcell up` at each start: changes made here are lost.\n"]
    for section in parser.sections():
        lines.append(f"\n[{section}]\n")
        lines.extend(f"{name} = {value}\n" for name, value in parser[section].items())
    return "".join(lines)


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can ever read; if killed, it leaves either the old file or the new one."""
    with atomic_file(path, mode=0o600) as file:
        file.write(text.encode())
