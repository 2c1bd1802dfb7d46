"""Runs each service of docker/compose.yaml as confined as the file says, has a night classified and tries to escape.

    python -m benchmarks.acceptance.confined WORK [--compose FILE]

The images must exist already (`python -m benchmarks.acceptance.container_images WORK`). Debian's podman, runc,
netavark, iptables, aardvark-dns and catatonit are needed, and root. Docker Compose is not: this script gives podman
what the file says of each service. Postgres and Redis run from images made here. Prints, for each service, what it can
do that it should not, the most processes that it had, and what it wrote in memory; exit status 1 if one can escape.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from benchmarks.acceptance.compose import CONTAINERS, LAN, OWNED, REPORTED, VERSION, _address, _make_images
from bloodcell.drawing.drops import make_drop
from tests.conftest import ROOT
from tests.fleet.fleet import waited

NIGHT = date(2026, 2, 2)
SERVICES = (
    *("postgres", "redis", "init", "api-server", "scheduler", "dag-processor", "triggerer", "watcher"),
    *("worker", "cpu-worker", "desk"),
)
NEEDED = ("postgres", "redis", "init", "api-server")
"""Services that have to be healthy, or done, before the next one is started."""
PORT = 47101
"""Where a listener outside waits for a service that gets out."""

OUTSIDE = "reaches an address outside"
ESCAPES = {
    "writes to the image": "touch /written || touch /etc/written || touch /opt/written || touch /var/tmp/written",
    "changes a Dag": "f=$(ls /opt/bloodcell/bloodcell/_dags/*.py | head -n 1) && echo >> $f",
    "executes what it wrote": "cp /bin/true /tmp/made && /tmp/made",
    "has a capability": "! grep -qE '^Cap(Prm|Eff|Bnd|Amb):.0000000000000000' /proc/self/status"
    " || grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | grep -qv 0000000000000000",
    "may gain privileges": "grep -q '^NoNewPrivs:.0' /proc/self/status",
    "is root": 'test "$(id -u)" = 0',
    "has no limit of processes": "test $(cat /sys/fs/cgroup/pids/pids.max) = max",
    "has no limit of memory": "test $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes) -gt 1000000000000",
    OUTSIDE: f"timeout 5 bash -c 'exec 3<>/dev/tcp/{LAN}/{PORT}'",
    "reaches the engine": "ls /var/run/docker.sock /run/podman/podman.sock",
}
"""What a service should not be able to do -> commands that succeed only where it can."""


def main() -> int:
    """Runs the services, a night and the attempts; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.confined", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--compose", type=Path, default=ROOT / "docker" / "compose.yaml")
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    (work / "drops").mkdir(parents=True)
    (work / "labels").mkdir()
    (work / "containers.conf").write_text(CONTAINERS)
    os.environ |= {"CONTAINERS_CONF": str(work / "containers.conf"), "LANG": "C.UTF-8"}
    _make_images(work)
    with _address(LAN), _listener(), Engine(work, chosen.compose) as engine:
        for service in SERVICES:
            engine.start(service)
        engine.wait_for_all()
        make_drop(work / "drops", night=NIGHT, n_slides=2, cells_per_slide=12, seed=3)
        seconds = waited(lambda: engine.sql(REPORTED.format(night=NIGHT)) == "2", 3600, "both slides reported")
        print(f"{NIGHT} is reported after {seconds:.0f} s", flush=True)
        barcodes = engine.sql("SELECT barcode FROM bloodcell.slide ORDER BY 1").split()
        found = {service: engine.escapes(service) for service in SERVICES if service != "init"}
        for service, escapes in found.items():
            print(
                f"{service}: {', '.join(escapes) or 'confined'}; {engine.peak[service]} processes and threads at most"
            )
            print("".join(f"    {line}\n" for line in engine.written(service)), end="")
        print(f"the limit of processes: {engine.exhausted('watcher')}")
        print(engine.run("owner", "bloodcell", "erase", "--slide", barcodes[0], "--reason", "a test", "--yes"), end="")
        left = engine.sql("SELECT barcode FROM bloodcell.slide ORDER BY 1").split()
        print(f"slides before and after the erasure: {barcodes}, {left}")
    # SECURITY.md says why a service with a port can send packets out; podman also translates their addresses
    allowed = {service: {OUTSIDE} if engine.has_port(service) else set() for service in found}
    return (
        1 if any(set(escapes) - allowed[service] for service, escapes in found.items()) or left != barcodes[1:] else 0
    )


class Engine:
    """Podman, with one container for each service of the compose file.

    Args:
        work: Folder for the secrets, with the folders `drops` and `labels`.
        compose: The compose file.
        overlay: Another one, whose networks are added to those of each service.
        site: Variables of site.env.
        ports: Service -> the port of this machine at which it is reached; other services are not.
    """

    def __init__(
        self,
        work: Path,
        compose: Path,
        *,
        overlay: Path | None = None,
        site: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.peak: dict[str, int] = defaultdict(int)
        self._work = work
        self._compose: dict[str, Any] = yaml.safe_load(compose.read_text())
        more: dict[str, Any] = yaml.safe_load(overlay.read_text()) if overlay else {}
        self._compose["networks"] |= more.get("networks", {})
        for name, added in more.get("services", {}).items():
            service = self._compose["services"][name]
            service["networks"] = [*service["networks"], *added["networks"]]  # services share the list of an anchor
        self._site = {"BLOODCELL_SETTLE_S": "0", **(site or {})}
        self._published = set(ports or {})
        self._values = {
            "BLOODCELL_VERSION": VERSION,
            **{f"BLOODCELL_{service.upper()}_PORT": str(port) for service, port in (ports or {}).items()},
            "BLOODCELL_DROPS": str(work / "drops"), "BLOODCELL_LABELS": str(work / "labels"),
        }  # fmt: skip
        self._ended = threading.Event()

    def __enter__(self) -> Engine:
        self.__exit__()
        shutil.copytree(ROOT / "docker", self._work / "docker")
        subprocess.run(["sh", str(self._work / "docker" / "make-secrets.sh")], check=True, capture_output=True)
        for name, network in self._compose["networks"].items():
            addresses = [f"--subnet={each['subnet']}" for each in (network or {}).get("ipam", {}).get("config", ())]
            internal = ["--internal"] if (network or {}).get("internal") else []
            _podman("network", "create", *internal, *map(self._interpolated, addresses), f"confined-{name}")
        self._ended.clear()
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for service in SERVICES:
            subprocess.run(["podman", "rm", "--force", "--time=5", service], capture_output=True, check=False)
        for name in self._compose["networks"]:
            subprocess.run(["podman", "network", "rm", f"confined-{name}"], capture_output=True, check=False)
        for name in self._compose["volumes"]:
            subprocess.run(["podman", "volume", "rm", f"confined-{name}"], capture_output=True, check=False)

    def start(self, service: str) -> None:
        """Starts a service with everything that the compose file says of it, after those that it depends on."""
        described = self._compose["services"][service]
        command = [self._interpolated(word).replace("$$", "$") for word in described.get("command", ())]
        _podman("create", *self._options(service, described), self._interpolated(described["image"]), *command)
        _podman("start", service)
        if service in NEEDED:
            self.wait_for(service)

    def run(self, service: str, *command: str) -> str:
        """Runs a command in a container of a service that does not run by itself, and returns what it printed."""
        described = self._compose["services"][service]
        return _podman(
            "run", "--rm", *self._options(service, described), self._interpolated(described["image"]), *command
        )

    def wait_for_all(self) -> None:
        """Waits until every service is healthy."""
        for service in SERVICES:
            if service not in NEEDED:
                self.wait_for(service)

    def wait_for(self, service: str) -> None:
        """Waits until a service is healthy, or done."""
        if service == "init":
            assert _podman("wait", "init").strip() == "0", subprocess.run(["podman", "logs", "init"], check=False)
            return
        test = self._compose["services"][service]["healthcheck"]["test"]
        seconds = waited(lambda: self._is_healthy(service, test), 900, service)
        print(f"{service}: healthy after {seconds:.0f} s", flush=True)

    def has_port(self, service: str) -> bool:
        """Returns whether a service is reached from the server, and so is in a network that is not closed."""
        return "front" in self._compose["services"][service]["networks"]

    def secret(self, name: str) -> Path:
        """Returns the file of a secret."""
        return self._work / "docker" / "secrets" / name

    def variable(self, service: str, name: str) -> str:
        """Returns a variable of a service's environment."""
        return self._interpolated(self._compose["services"][service]["environment"][name])

    def in_service(self, service: str, *command: str) -> str:
        """Runs a command in the container of a service that runs, as `docker compose exec` does."""
        return _podman("exec", service, *command)

    def sql(self, statement: str) -> str:
        """Returns the result of a statement that the superuser executes."""
        return _podman("exec", "postgres", "psql", "-U", "postgres", "-qtA", "-d", "bloodcell", "-c", statement).strip()

    def escapes(self, service: str) -> list[str]:
        """Returns what a service can do of that which it should not be able to."""
        assert self._succeeds(service, "touch /tmp/control"), f"{service} does not run, so no attempt says anything"
        return [what for what, attempt in ESCAPES.items() if self._succeeds(service, attempt)]

    def exhausted(self, service: str) -> str:
        """Returns what happens to a service that starts a thousand processes: the last line that its shell prints."""
        attempt = "for n in $(seq 1000); do sleep 5 & done 2>&1 | tail -n 1"
        done = subprocess.run(
            ["podman", "exec", service, "bash", "-c", attempt], capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr).strip().splitlines()[-1]

    def written(self, service: str) -> Iterator[str]:
        """Yields what a service wrote to each of its folders in memory."""
        for entry in self._compose["services"][service].get("tmpfs", ()):
            folder = entry.split(":")[0]
            done = subprocess.run(
                ["podman", "exec", service, "find", folder, "-xdev", "-type", "f", "-printf", "%s %P\\n"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            files = [line.split(" ", 1) for line in done.stdout.splitlines()]
            names = ", ".join(sorted(name for _, name in files)[:4])
            yield f"{folder}: {len(files)} files, {sum(int(size) for size, _ in files):,} bytes: {names}"

    def _options(self, service: str, described: dict[str, Any]) -> Iterator[str]:
        yield from ("--name", service, "--hostname", service)
        yield from (f"--network={','.join(f'confined-{name}' for name in described['networks'])}",)
        yield from ("--init",) if described.get("init") else ()
        yield from ("--read-only", "--read-only-tmpfs=false") if described.get("read_only") else ()
        # podman 4.3 does not know the owner of a tmpfs by number, but that of the service
        yield from (f"--tmpfs={entry.replace(OWNED, 'U')}" for entry in described.get("tmpfs", ()))
        yield from (f"--cap-drop={name}" for name in described.get("cap_drop", ()))
        yield from (f"--cap-add={name}" for name in described.get("cap_add", ()))
        yield from (f"--security-opt={option.removesuffix(':true')}" for option in described.get("security_opt", ()))
        yield f"--pids-limit={described.get('pids_limit', -1)}"
        yield f"--memory={described['deploy']['resources']['limits']['memory']}"
        yield from (f"--user={described['user']}",) if "user" in described else ()
        for file in described.get("env_file", ()):
            yield from (f"--env-file={self._work / 'docker' / file}",) if isinstance(file, str) else ()
        for name, value in described.get("environment", {}).items():
            yield f"--env={name}={self._interpolated(value)}"
        # as compose does, the environment of a service wins against its files
        for name, value in self._site.items():
            if name not in described.get("environment", {}):
                yield f"--env={name}={value}"
        published = described.get("ports", ()) if service in self._published else ()
        yield from (f"--publish={self._interpolated(port)}" for port in published)
        for secret in described.get("secrets", ()):
            source, target = (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
            yield f"--volume={self._work / 'docker' / 'secrets' / source}:/run/secrets/{target}:ro"
        for volume in described.get("volumes", ()):
            source, rest = self._interpolated(volume).split(":", 1)
            place = str(self._work / "docker" / source) if source.startswith(".") else source
            yield f"--volume={place if place.startswith('/') else f'confined-{place}'}:{rest}"

    def _is_healthy(self, service: str, test: list[str]) -> bool:
        kind, *command = test
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *(word.replace("$$", "$") for word in command)]
        done = subprocess.run(["podman", "exec", service, *command], capture_output=True, check=False)
        return done.returncode == 0

    def _succeeds(self, service: str, attempt: str) -> bool:
        done = subprocess.run(["podman", "exec", service, "bash", "-c", attempt], capture_output=True, check=False)
        return done.returncode == 0

    def _count(self) -> None:
        """Keeps the largest number of processes and threads that each service had."""
        while not self._ended.wait(1):
            done = subprocess.run(
                ["podman", "stats", "--no-stream", "--format", "json"], capture_output=True, text=True, check=False
            )
            for each in json.loads(done.stdout or "[]"):
                self.peak[each["name"]] = max(self.peak[each["name"]], int(each["pids"]))

    def _interpolated(self, text: str) -> str:
        pattern = r"\$\{(?P<name>\w+)(?::[-?](?P<default>[^}]*))?\}"
        return re.sub(pattern, lambda match: self._values.get(match["name"]) or match["default"] or "", text)


@contextmanager
def _listener() -> Iterator[None]:
    """Listens outside the services' networks, so that an attempt to get out fails only for want of a way."""
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(PORT), "--bind", LAN], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1)
        assert server.poll() is None
        yield
    finally:
        server.terminate()
        server.wait()


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"podman {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
