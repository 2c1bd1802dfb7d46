"""`bloodcell users`, as people use it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell.review.local_users import check_password, name_of_link, use_link
from tests.conftest import Command

PASSWORD = "lamp orchid gravel nine"  # noqa: S105


@pytest.fixture
def users(main_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        return main_here("users", *arguments, BLOODCELL_DATA_DIR=str(tmp_path / "data"), COLUMNS="120", **more)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "desk" / "users.json"


def test_a_person_is_added_with_a_password_from_standard_input(users: Command, file: Path) -> None:
    done = users("add", "amartin", "--role", "reader", "--role", "senior", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Added amartin: reader, senior. Next: log in at http://127.0.0.1:8090\n"
    person = check_password(file, "amartin", PASSWORD)
    assert person is not None and person.roles == {"reader", "senior"}


def test_a_link_is_printed_alone_on_standard_output(users: Command, file: Path) -> None:
    done = users("add", "amartin", "--role", "reader", "--link", BLOODCELL_DESK_PUBLIC_URL="https://desk.example.org/")
    assert done.returncode == 0
    assert "works once, for 24 hours" in done.stderr
    address, _, token = done.stdout.strip().rpartition("/")
    assert address == "https://desk.example.org/enter"
    assert name_of_link(file, token) == "amartin"
    use_link(file, token, PASSWORD)
    again = users("password", "AMARTIN", "--link")
    assert name_of_link(file, again.stdout.strip().rpartition("/")[2]) == "amartin"


def test_the_list_shows_names_roles_and_states(users: Command) -> None:
    assert users("list").returncode == 3
    users("add", "amartin", "--role", "reader", "--link")
    users("add", "bjones", "--role", "administrator", "--password-stdin", stdin=PASSWORD)
    shown = users("list")
    assert shown.returncode == 0 and "invited" in shown.stdout and "administrator" in shown.stdout
    listed = users("list", "--json")
    assert [(each["name"], each["state"]) for each in json.loads(listed.stdout)] == [
        ("amartin", "invited"),
        ("bjones", "active"),
    ]
    assert "argon2" not in listed.stdout and "sha256" not in listed.stdout


def test_password_roles_and_removal(users: Command, file: Path) -> None:
    users("add", "amartin", "--role", "reader", "--password-stdin", stdin=PASSWORD)
    assert users("password", "amartin", "--password-stdin", stdin="another orchid tundra").returncode == 0
    assert users("roles", "amartin", "--role", "viewer").returncode == 0
    person = check_password(file, "amartin", "another orchid tundra")
    assert person is not None and person.roles == {"viewer"}
    assert users("remove", "amartin").returncode == 0
    assert check_password(file, "amartin", "another orchid tundra") is None
    refused = users("add", "amartin", "--role", "reader", "--link")
    assert refused.returncode == 1 and "--same-person" in refused.stderr
    assert users("add", "amartin", "--role", "reader", "--link", "--same-person").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["add", "amartin", "--role", "chief", "--link"], 2, "there is no role 'chief'"),
        (["add", "amartin", "--link"], 2, "--role"),
        (["add", "amartin", "--role", "reader"], 2, "--link or --password-stdin"),
        (["add", "amartin", "--role", "reader", "--link", "--password-stdin"], 2, "not both"),
        (["add", "a\u200bmartin", "--role", "reader", "--link"], 2, "cannot be seen"),
        (["add", "amartin", "--role", "reader", "--password-stdin"], 1, "at least 15"),
        (["password", "amartin", "--link"], 1, "There is no person amartin"),
        (["roles", "amartin", "--role", "reader"], 1, "There is no person amartin"),
        (["remove", "amartin"], 1, "There is no person amartin"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    users: Command, file: Path, arguments: list[str], status: int, why: str
) -> None:
    done = users(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert why in " ".join(done.stderr.replace("\u2502", "").split())
    assert not file.exists()


def test_with_a_directory_the_command_says_that_these_people_do_not_count(users: Command) -> None:
    done = users("add", "amartin", "--role", "reader", "--link", BLOODCELL_DESK_LOGIN="ldap")
    assert done.returncode == 0
    assert "These people cannot log in: BLOODCELL_DESK_LOGIN is ldap" in done.stderr


def test_on_a_terminal_the_password_is_asked_for_twice_without_echo(tmp_path: Path, file: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BLOODCELL_")}
    environment["BLOODCELL_DATA_DIR"] = str(tmp_path / "data")
    command = [sys.executable, "-m", "bloodcell", "users", "add", "amartin", "--role", "reader"]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, command, environment)  # noqa: S606 - a child with a terminal of its own
    shown = b""
    for prompt in (b"Password: ", b"The same again: "):
        while not shown.endswith(prompt):
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{PASSWORD}\n".encode())
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:  # the child has closed its end
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert b"Added amartin" in shown and PASSWORD.encode() not in shown
    assert check_password(file, "amartin", PASSWORD)
