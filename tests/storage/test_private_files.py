"""What one user of a machine writes is closed to the others, and each of them can run an installation of their own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.storage.private_files import make_data_folder
from bloodcell.storage.store import Store
from tests.second_user import as_user, two_users
from tests.storage.test_store import BODY, MODEL_ID, SHA256

SERVER = """
import sys
from bloodcell.settings import Settings
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.private_files import keep_private
keep_private()
server = embedded_database(Settings())
print("running", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of a worker that was started with none."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that every user can enter, as far as its parents allow."""
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(each.stat().st_mode | 0o055)
    return tmp_path


def modes(folder: Path) -> set[str]:
    """Returns the kinds and permissions of a folder and of everything in it."""
    return {stat.filemode(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_two_users_run_their_own_server_at_once_and_cannot_use_each_others_folder(public: Path) -> None:
    users = two_users()
    temporary = public / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    common = {"TMPDIR": str(temporary), "HOME": "/nonexistent", "XDG_RUNTIME_DIR": "/run/user/0"}
    running = []
    folders = []
    for uid in users:
        folder = public / f"data-{uid}"
        folder.mkdir(mode=0o700)
        os.chown(folder, uid, uid)
        folders.append(folder)
        environment = {**common, "BLOODCELL_DATA_DIR": str(folder)}
        running.append(as_user(uid, ["-c", SERVER], environment, public / f"bind-{uid}"))
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n", process.communicate()
        environment = {**common, "BLOODCELL_DATA_DIR": str(folders[1])}
        refused = as_user(users[0], ["-m", "bloodcell", "db", "url"], environment, public / "bind")
        shown = refused.communicate()[1]
        assert refused.returncode == 1
        assert shown.startswith(f"ConfigurationError: The data folder {folders[1]} belongs to ")
        assert shown.count("\n") == 1
        for folder in folders:
            assert modes(folder) <= {"drwx------", "-rw-------", "srwx------", "srwxrwxrwx"}  # sockets are in 0700
    finally:
        for process in running:
            process.communicate("")


def test_a_user_without_a_name_gets_a_sentence(public: Path) -> None:
    folder = public / "data"
    folder.mkdir()
    os.chown(folder, 54_321, 54_321)
    process = as_user(54_321, ["-m", "bloodcell", "db", "url"], {"BLOODCELL_DATA_DIR": str(folder)}, public / "bind")
    shown = process.communicate()[1]
    assert shown.startswith("ConfigurationError: This user (uid 54321) is not in the system's list of users")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_data_folder_that_everyone_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"Every user of this machine may write.*chmod o-w"):
        make_data_folder(folder)


def test_a_folder_of_another_user_is_refused_even_for_root(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        os.chown(folder, two_users()[0], -1)
    except PermissionError:
        pytest.skip("only root can give a folder to another user")
    with pytest.raises(ConfigurationError, match="belongs to nobody"):
        make_data_folder(folder)


def test_a_link_to_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    target.mkdir()
    (tmp_path / "data").symlink_to(target)
    make_data_folder(tmp_path / "data")
    target.chmod(0o1777)
    with pytest.raises(ConfigurationError, match="Every user"):
        make_data_folder(tmp_path / "data")


def test_without_a_home_the_folder_is_not_made_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="this user has none"):
        make_data_folder(Path("~/.local/share/bloodcell"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_data_folder_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be created: Not a directory"):
        make_data_folder(tmp_path / "data" / "folder")


def filled(store: Store, source: Path) -> None:
    source.mkdir()
    (source / "bundle.json").write_text("{}")
    (source / "bundle.json").chmod(0o644)
    store.put_image(SHA256, BODY)
    store.put_bundle(source, MODEL_ID)
    store.put_report(MODEL_ID, b"<p>")
    store.objects.replace(f"images/00/{'0' * 64}", b"healed")


@pytest.mark.usefixtures("open_umask")
def test_stored_objects_are_private_whatever_the_umask_is(tmp_path: Path) -> None:
    filled(Store(str(tmp_path / "store"), tmp_path / "cache"), tmp_path / "source")
    assert modes(tmp_path / "store") == {"drwx------", "-rw-------"}


def test_stored_objects_follow_the_group_rights_of_a_shared_folder(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    root.chmod(0o2770)
    filled(Store(str(root), tmp_path / "cache"), tmp_path / "source")
    assert modes(root) == {"drwxrws---", "-rw-rw----"}
