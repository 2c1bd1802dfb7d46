"""People with a password of bloodcell's own, in a real file that several processes change at once."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from bloodcell.errors import (
    AlreadyDoneError,
    LoginRefusedError,
    NameRefusedError,
    PasswordRefusedError,
    UnknownRecordError,
    UsersFileError,
)
from bloodcell.review import local_users, passwords
from bloodcell.review.local_users import (
    add_user,
    check_password,
    current_user,
    list_users,
    make_link,
    name_of_link,
    remove_user,
    session_stamp,
    set_password,
    set_roles,
    use_link,
)
from bloodcell.review.people import Person
from bloodcell.review.users_file import FORMAT, read_users

PASSWORD = "lamp orchid gravel nine"  # noqa: S105
OTHER = "stapler violet tundra six"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "desk" / "users.json"


@pytest.fixture
def amartin(file: Path) -> Person:
    return add_user(file, "amartin", ["reader"], PASSWORD)


def test_a_person_logs_in_with_name_in_any_case_and_password(file: Path, amartin: Person) -> None:
    assert amartin == Person("amartin", frozenset({"reader"}))
    assert check_password(file, "AMartin ", PASSWORD) == amartin


def test_wrong_passwords_and_unknown_names_are_nobody(file: Path, amartin: Person) -> None:
    for name, password in (
        ("amartin", OTHER), ("amartin", ""), ("bjones", PASSWORD), ("", ""), ("amartin", PASSWORD + " "),
        ("amartin", PASSWORD.upper()), ("amartin", "x" * 1_000_000),
    ):  # fmt: skip
        assert check_password(file, name, password) is None


def test_nobody_is_there_before_the_first_is_added(file: Path) -> None:
    assert list_users(file) == []
    assert check_password(file, "amartin", PASSWORD) is None
    assert not file.exists()


def test_a_password_is_the_same_however_the_keyboard_composes_it(file: Path) -> None:
    add_user(file, "amartin", ["reader"], "cafe\u0301 orchid gravel nine")
    assert check_password(file, "amartin", "caf\u00e9 orchid gravel nine")


def test_the_file_is_for_its_user_only_and_holds_no_password(file: Path, amartin: Person) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    text = file.read_text()
    assert PASSWORD not in text and "$argon2id$v=19$m=65536,t=3,p=4$" in text


def test_an_unknown_name_takes_as_long_as_a_wrong_password(file: Path, amartin: Person) -> None:
    def seconds(name: str) -> float:
        import time

        check_password(file, name, OTHER)
        taken = []
        for _ in range(5):
            begin = time.perf_counter()
            check_password(file, name, OTHER)
            taken.append(time.perf_counter() - begin)
        return sorted(taken)[2]

    make_link(file, "invited", ["reader"])
    known = seconds("amartin")
    assert seconds("nobody") > known / 3
    assert seconds("invited") > known / 3


@pytest.mark.parametrize(
    "password",
    [
        "", "fourteen-chars", "x" * 129, "a" * 20, "passwordpassword", "Password2026!!!!!", "123456789012345",
        "qwertyuiopasdfgh", "amartin-amartin", "Bloodcell-Review-Desk", "abcabcabcabcabcabc",
        "correcthorsebatterystaple", "AMartin Password 1", "hospital laboratory",
    ],
)  # fmt: skip
def test_passwords_that_are_guessed_first_are_refused(file: Path, password: str) -> None:
    with pytest.raises(PasswordRefusedError) as caught:
        add_user(file, "amartin", ["reader"], password)
    assert not password or password not in str(caught.value)
    assert list_users(file) == []


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "83920174650192837465",
        "\u00fcber den Wolken 7 K\u00e4se",
        "x9#" * 2 + "kq&2Zr!w0P",
        "\U0001f9ea hematies y plaquetas",
    ],
)
def test_passwords_of_any_kind_are_allowed(file: Path, password: str) -> None:
    add_user(file, "amartin", ["reader"], password)
    assert check_password(file, "amartin", password)


def test_a_new_password_replaces_the_earlier_one_and_ends_sessions(file: Path, amartin: Person) -> None:
    stamp = session_stamp(file, "amartin")
    assert stamp is not None and current_user(file, "amartin", stamp) == amartin
    set_password(file, "amartin", OTHER)
    assert check_password(file, "amartin", PASSWORD) is None
    assert check_password(file, "amartin", OTHER) == amartin
    assert current_user(file, "amartin", stamp) is None


def test_new_roles_count_and_end_sessions(file: Path, amartin: Person) -> None:
    stamp = session_stamp(file, "amartin")
    set_roles(file, "amartin", ["senior", "administrator"])
    assert stamp is not None and current_user(file, "amartin", stamp) is None
    assert check_password(file, "amartin", PASSWORD) == Person("amartin", frozenset({"senior", "administrator"}))


def test_a_removed_person_cannot_log_in_and_nobody_else_gets_the_name(file: Path, amartin: Person) -> None:
    link = make_link(file, "amartin")
    stamp = session_stamp(file, "amartin")
    remove_user(file, "AMARTIN")
    assert check_password(file, "amartin", PASSWORD) is None
    assert session_stamp(file, "amartin") is None
    assert stamp is not None and current_user(file, "amartin", stamp) is None
    with pytest.raises(LoginRefusedError):
        use_link(file, link, OTHER)
    with pytest.raises(AlreadyDoneError, match="--same-person"):
        add_user(file, "AMartin", ["reader"], OTHER)
    with pytest.raises(AlreadyDoneError, match="--same-person"):
        make_link(file, "amartin", ["reader"])
    with pytest.raises(UnknownRecordError):
        set_password(file, "amartin", OTHER)
    assert [each.state for each in list_users(file)] == ["removed"]
    assert add_user(file, "AMartin", ["viewer"], OTHER, same_person=True) == Person("amartin", frozenset({"viewer"}))
    assert check_password(file, "amartin", OTHER)


def test_a_person_is_not_added_twice(file: Path, amartin: Person) -> None:
    with pytest.raises(AlreadyDoneError):
        add_user(file, "AMartin", ["senior"], OTHER, same_person=True)
    assert check_password(file, "amartin", PASSWORD) == amartin


def test_a_name_that_cannot_be_seen_is_refused(file: Path) -> None:
    with pytest.raises(NameRefusedError):
        add_user(file, "a\u200bmartin", ["reader"], PASSWORD)
    assert check_password(file, "a\0b", PASSWORD) is None


def test_a_link_works_once(file: Path) -> None:
    token = make_link(file, "amartin", ["reader"])
    assert token not in file.read_text()
    assert [(each.name, each.state) for each in list_users(file)] == [("amartin", "invited")]
    assert name_of_link(file, token) == "amartin"
    with pytest.raises(PasswordRefusedError):
        use_link(file, token, "short")
    assert use_link(file, token, PASSWORD) == Person("amartin", frozenset({"reader"}))
    assert check_password(file, "amartin", PASSWORD)
    assert name_of_link(file, token) is None
    with pytest.raises(LoginRefusedError):
        use_link(file, token, OTHER)
    assert check_password(file, "amartin", OTHER) is None


def test_a_link_expires_and_another_one_replaces_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_link(file, "amartin", ["reader"], valid_h=2)
    second = make_link(file, "amartin", ["administrator"], valid_h=2)
    assert (name_of_link(file, first), name_of_link(file, second)) == (None, "amartin")
    late = datetime.now(UTC) + timedelta(hours=2)
    monkeypatch.setattr(local_users, "_now", lambda: late)
    with pytest.raises(LoginRefusedError):
        use_link(file, second, PASSWORD)
    assert [(each.state, each.roles) for each in list_users(file)] == [("link expired", ("reader",))]


@pytest.mark.parametrize("token", ["", "x", "\u00e9", "a" * 10_000])
def test_a_wrong_link_is_nobodys(file: Path, amartin: Person, token: str) -> None:
    make_link(file, "amartin")
    assert name_of_link(file, token) is None
    with pytest.raises(LoginRefusedError):
        use_link(file, token, PASSWORD)


def test_a_link_lets_a_person_choose_another_password_and_keeps_the_present_one_until_then(
    file: Path, amartin: Person
) -> None:
    token = make_link(file, "amartin")
    assert check_password(file, "amartin", PASSWORD) == amartin
    use_link(file, token, OTHER)
    assert check_password(file, "amartin", PASSWORD) is None


def test_a_hash_with_weaker_parameters_is_replaced_at_the_next_log_in(file: Path, amartin: Person) -> None:
    document = json.loads(file.read_text())
    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    document["users"][0]["password"] = weak
    file.write_text(json.dumps(document))
    stamp = session_stamp(file, "amartin")
    assert check_password(file, "amartin", OTHER) is None
    assert read_users(file).users[0].password == weak
    assert check_password(file, "amartin", PASSWORD) == amartin
    stored = read_users(file).users[0].password
    assert stored and not passwords.is_outdated(stored)
    assert check_password(file, "amartin", PASSWORD) == amartin
    assert session_stamp(file, "amartin") == stamp


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "damaged"), ("{", "damaged"), ("[]", "damaged"), ('{"format": 1, "users": [{}]}', "damaged: users.0.name"),
        ('{"format": 2, "users": [], "more": 1}', "does not know"), ('{"format": 1, "persons": []}', "damaged"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_and_kept(file: Path, body: str, why: str) -> None:
    file.parent.mkdir(mode=0o700)
    file.write_text(body)
    file.chmod(0o600)
    for attempt in (lambda: list_users(file), lambda: add_user(file, "amartin", ["reader"], PASSWORD)):
        with pytest.raises(UsersFileError, match=why):
            attempt()
    assert file.read_text() == body


def test_an_error_of_a_damaged_file_shows_no_hash(file: Path, amartin: Person) -> None:
    hashed = str(read_users(file).users[0].password)
    file.write_text(file.read_text().replace('"reader"', '"chief"'))
    with pytest.raises(UsersFileError) as caught:
        list_users(file)
    assert hashed not in str(caught.value) and hashed not in repr(caught.value)


def test_two_people_of_one_name_are_refused(file: Path, amartin: Person) -> None:
    document = json.loads(file.read_text())
    document["users"].append(document["users"][0] | {"name": "AMARTIN"})
    file.write_text(json.dumps(document))
    with pytest.raises(UsersFileError, match="same name"):
        list_users(file)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(file: Path, amartin: Person, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(UsersFileError, match="chmod 600"):
        check_password(file, "amartin", PASSWORD)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(file: Path, amartin: Person, mode: int) -> None:
    file.parent.chmod(mode)
    with pytest.raises(UsersFileError, match="chmod 700"):
        check_password(file, "amartin", PASSWORD)


def test_a_link_to_another_file_is_not_followed(file: Path, amartin: Person, tmp_path: Path) -> None:
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UsersFileError):
        list_users(file)


def test_people_added_at_once_by_several_processes_are_all_there(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bloodcell.review.local_users import make_link\n"
        "for n in range(10): make_link(Path(sys.argv[1]), f'{sys.argv[2]}{n}', ['reader'])"
    )
    adding = [subprocess.Popen([sys.executable, "-c", code, str(file), name]) for name in ("a", "b", "c")]
    while any(each.poll() is None for each in adding):
        read_users(file)  # what is read is whole, also while others write
    assert [each.returncode for each in adding] == [0, 0, 0]
    assert len(list_users(file)) == 30


def test_a_writer_that_is_killed_leaves_the_earlier_file_and_no_lock(file: Path, amartin: Person) -> None:
    before = file.read_bytes()
    code = (
        "import os, sys; from pathlib import Path\n"
        "from bloodcell.review import local_users\n"
        "os.fsync = lambda _: (print('here', flush=True), input())\n"
        "local_users.make_link(Path(sys.argv[1]), 'bjones', ['reader'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "here\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert file.read_bytes() == before
    add_user(file, "cdiaz", ["reader"], OTHER)
    assert [each.name for each in list_users(file)] == ["amartin", "cdiaz"]


def test_the_format_is_written() -> None:
    assert FORMAT == 1
