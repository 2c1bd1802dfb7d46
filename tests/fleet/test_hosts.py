"""A single host made of namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.hosts import Network, can_make_hosts

pytestmark = pytest.mark.skipif(
    not can_make_hosts(), reason="hosts are made of namespaces: root and iproute2 are needed"
)


def test_exposed_folders_in_a_private_home_are_readable_and_the_others_are_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("python/bin", "checkout", "private"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_text(name)
    home.chmod(0o700)
    someone = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "cat"]
    with Network("homes", {"one": []}, tmp_path / "hosts") as network:
        host = network.hosts["one"]
        assert host.run([*someone, str(home / "checkout" / "file")], {}).returncode
        host.expose([home / "python", home / "checkout"])
        assert host.run([*someone, str(home / "python" / "bin" / "file")], {}).stdout == "python/bin"
        assert host.run([*someone, str(home / "checkout" / "file")], {}).stdout == "checkout"
        assert "Read-only" in host.run(["touch", str(home / "checkout" / "new")], {}).stderr
        assert "No such file" in host.run([*someone, str(home / "private" / "file")], {}).stderr
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "private" / "file").read_text() == "private"
