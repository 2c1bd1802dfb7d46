"""Makes hosts of namespaces on one machine: each has its own files, processes, name and network, and a wire.

A host sees the machine's files through an overlay: what it writes is seen by no other host, and is gone when the host
is switched off. Its processes then end all at once, as when the power fails.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO
from zlib import crc32

import psutil

# the root of a host: an overlay of the machine's root, with the host's own processes
_BOOT = """
set -e
hostname "$1"
mount -t tmpfs tmpfs "$2"
mkdir "$2/changes" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/changes,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount --rbind /sys "$2/root/sys"
printf '%s' "$3" > "$2/root/etc/hosts"
exec chroot "$2/root" sleep infinity
"""


class Host:
    """A running host.

    Args:
        network: The network to which it is wired.
        name: Its name.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Switches the host on; it has only the machine's files."""
        root = self._network.folder / self.name
        root.mkdir(parents=True, exist_ok=True)
        boot = ["sh", "-c", _BOOT, "boot", self.name, str(root), self._network.etc_hosts]
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self._network.namespace(self.name), *unshare, *boot], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while self.run(["true"], {}).returncode or self.run(["test", "-e", "/proc/self"], {}).returncode:
            if time.monotonic() > deadline:
                raise OSError(f"host {self.name} does not boot")
            time.sleep(0.05)

    def power_off(self) -> None:
        """Ends all processes of the host at once; what it wrote outside shared folders is gone."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                child.kill()
        self._process.kill()
        self._process.wait()
        self._process = None

    def share(self, folder: Path, at: str, options: str = "bind") -> None:
        """Mounts a folder or file of the machine on the host; hosts that mount the same folder have a file share."""
        self.check(["mkdir", "-p", str(Path(at).parent if folder.is_file() else at)])
        if folder.is_file():
            self.check(["touch", at])
        # mounted from outside the host's root, so that the folder is not seen through the overlay
        target = f"{self._network.folder / self.name}/root{at}"
        subprocess.run(
            ["nsenter", "--target", str(self._init()), "--mount", "mount", "-o", options, str(folder), target],
            check=True,
        )

    def expose(self, folders: Iterable[Path]) -> None:
        """Makes folders of the machine readable for every user of the host, wherever they are on the machine.

        Python and the checkout may be in root's home folder, which other users cannot enter. On the host, the home
        folder is then covered by an empty folder with only `folders` in it; on the machine nothing changes.
        """
        closed = {folder: _first_closed(folder) for folder in folders}
        for private in {each for each in closed.values() if each is not None}:
            self.check(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(private)])
        for folder, covered in closed.items():
            if covered is not None:
                self.share(folder, str(folder), "bind,ro")

    def unshare(self, at: str) -> None:
        """Unmounts a share, even if it is in use."""
        self.check(["umount", "--lazy", at])

    def command(self, command: Sequence[str]) -> list[str]:
        """Returns the command line that runs `command` on the host."""
        enter = ["nsenter", "--target", str(self._init()), "--mount", "--uts", "--ipc", "--net", "--pid"]
        return [*enter, f"--root=/proc/{self._init()}/root", "--wdns=/", *command]

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts `command` in a session of its own."""
        return subprocess.Popen(
            self.command(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs `command` until it ends."""
        if self._process is None or not psutil.Process(self._process.pid).children():
            return subprocess.CompletedProcess(command, 255)
        return subprocess.run(
            self.command(command), env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    def disconnect(self) -> None:
        """Disconnects the host from the network."""
        self._network.wire(self.name, "down")

    def reconnect(self) -> None:
        """Connects the host to the network again."""
        self._network.wire(self.name, "up")

    def check(self, command: Sequence[str]) -> None:
        """Runs `command`; raises OSError if it fails."""
        done = self.run(command, {})
        if done.returncode:
            raise OSError(f"{self.name}: {' '.join(command)}: {done.stderr}")

    def _init(self) -> int:
        assert self._process is not None
        return int(psutil.Process(self._process.pid).children()[0].pid)


class Network:
    """Hosts on one switch, each with the names of all others in its /etc/hosts.

    This machine is wired to the switch as well, like an operator's computer.

    Args:
        mark: The beginning of every namespace's name. The addresses follow from it, so networks with different marks
            do not meet.
        names: Host -> its services; other hosts reach it by their names.
        folder: Empty folder for the hosts' roots.
        movable: Services with an address of their own, which another host can take over.
    """

    def __init__(
        self, mark: str, names: Mapping[str, Sequence[str]], folder: Path, *, movable: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._mark = mark
        self._subnet = f"10.77.{crc32(mark.encode()) % 256}"
        addresses = {name: f"{self._subnet}.{number}" for number, name in enumerate(names, start=2)}
        self._moved_to = {name: host for host, services in names.items() for name in services if name in movable}
        self._addresses = addresses | {name: f"{self._subnet}.{n}" for n, name in enumerate(self._moved_to, start=100)}
        known = {host: [host, *(name for name in services if name not in movable)] for host, services in names.items()}
        known |= {name: [name] for name in self._moved_to}
        self.etc_hosts = "127.0.0.1 localhost\n" + "".join(
            # "#2" marks the second instance of a service: nobody reaches it by name, and "#" would begin a comment
            f"{self._addresses[place]} {' '.join(name for name in of if '#' not in name)}\n"
            for place, of in known.items()
        )
        self.hosts = {name: Host(self, name) for name in names}

    def __enter__(self) -> Network:
        self._remove()
        switch = self.namespace("switch")
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        _ip("link", "add", self._mark, "type", "veth", "peer", "name", "machine", "netns", switch)
        _ip("-n", switch, "link", "set", "dev", "machine", "master", "bridge", "up")
        _ip("address", "add", f"{self.own_address}/24", "dev", self._mark)
        _ip("link", "set", self._mark, "up")
        for name in self.hosts:
            namespace = self.namespace(name)
            _ip("netns", "add", namespace)
            _ip("link", "add", "wire", "netns", namespace, "type", "veth", "peer", "name", name, "netns", switch)
            _ip("-n", switch, "link", "set", "dev", name, "master", "bridge", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "address", "add", f"{self.address(name)}/24", "dev", "wire")
            _ip("-n", namespace, "link", "set", "wire", "up")
            self.hosts[name].boot()
        for service, host in self._moved_to.items():
            self._address("add", service, host)
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts.values():
            host.power_off()
        self._remove()

    def address(self, name: str) -> str:
        """Returns the address of a host, or of a service that has an address of its own."""
        return self._addresses[name]

    @property
    def own_address(self) -> str:
        """The address at which hosts reach this machine."""
        return f"{self._subnet}.1"

    def move(self, service: str, host: str) -> None:
        """Gives a service's address to another host, as a cluster manager does."""
        self._address("delete", service, self._moved_to[service])
        self._address("add", service, host)
        self._moved_to[service] = host
        for namespace in map(self.namespace, self.hosts):  # so that every host looks up the new wire
            _ip("-n", namespace, "neighbour", "flush", "dev", "wire")
        _ip("neighbour", "flush", "dev", self._mark)

    def namespace(self, host: str) -> str:
        """Returns the name of a host's network namespace."""
        return f"{self._mark}-{host}"

    def wire(self, host: str, state: str) -> None:
        """Sets a host's wire "up" or "down"."""
        _ip("-n", self.namespace("switch"), "link", "set", "dev", host, state)

    def _address(self, what: str, service: str, host: str) -> None:
        _ip("-n", self.namespace(host), "address", what, f"{self._addresses[service]}/24", "dev", "wire")

    def _remove(self) -> None:
        subprocess.run(["ip", "link", "delete", self._mark], capture_output=True, check=False)
        for host in ("switch", *self.hosts):
            subprocess.run(["ip", "netns", "delete", self.namespace(host)], capture_output=True, check=False)


def can_make_hosts() -> bool:
    """Returns whether this user may make namespaces on this machine."""
    tried = ["unshare", "--mount", "--net", "true"]
    return shutil.which("ip") is not None and subprocess.run(tried, capture_output=True, check=False).returncode == 0


def _first_closed(folder: Path) -> Path | None:
    """Returns the outermost parent of `folder` that other users cannot enter; None if there is none."""
    return next((each for each in reversed(folder.parents) if not each.stat().st_mode & stat.S_IXOTH), None)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
