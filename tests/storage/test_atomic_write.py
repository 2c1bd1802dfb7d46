"""A file is either complete or does not exist."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bloodcell.storage.atomic_write import atomic_file, part_folder, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path: Path, is_durable: bool) -> None:
    path = tmp_path / "a.csv"
    with atomic_file(path, is_durable=is_durable) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert names(tmp_path) == ["a.csv"]


def test_an_error_leaves_the_earlier_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a.csv"]


def test_a_target_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(str(tmp_path / "taken"), b"body")
    with pytest.raises(OSError, match="taken"), atomic_file(tmp_path / "taken"):
        pass
    assert names(tmp_path) == ["taken"]


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    code = (
        "import resource, signal, sys\n"
        "from bloodcell.storage.atomic_write import write_atomically\n"
        "write_atomically(sys.argv[1], b'before')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "write_atomically(sys.argv[1], bytes(1000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


def test_a_kill_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"before")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bloodcell.storage.atomic_write import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"before"
    (left,) = [name for name in names(tmp_path) if name != "a.csv"]
    assert left.startswith(".a.csv.") and left.endswith(".part")
    write_atomically(str(path), b"after")
    assert path.read_bytes() == b"after"


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"")
    path.chmod(0o644)
    with atomic_file(path, mode=0o600) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_threads_that_write_the_same_file_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "same"
    bodies = [bytes([n]) * 100_000 for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda body: write_atomically(str(path), body), bodies))
    assert path.read_bytes() in bodies
    assert names(tmp_path) == ["same"]


def test_what_is_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    with part_folder(tmp_path / "a") as part:
        part.mkdir()
        (part / "x").write_bytes(b"x")
        part.rename(tmp_path / "a")
    with pytest.raises(ValueError, match="broken"), part_folder(tmp_path / "b") as part:
        part.mkdir()
        (part / "x").write_bytes(b"x")
        raise ValueError("broken")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["x"]
