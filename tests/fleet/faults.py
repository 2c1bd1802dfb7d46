"""The faults of a fleet: what can happen to its machines and services while a night is classified."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bloodcell.service.airflow_api import AirflowApi
from bloodcell.storage.migrations import head_revision
from tests.conftest import ROOT
from tests.fleet.fleet import USER, Fleet, waited
from tests.live_night import LiveNight

PLACED = {
    "server": (
        "postgres", "redis", "init", "api-server", "scheduler", "dag-processor", "triggerer", "scheduler#2"
    ),
    "box": ("worker", "postgres#2"),
    "one": ("cpu-worker",),
    "two": ("cpu-worker#2",),
}  # fmt: skip
"""Host -> its services. Faults start those marked #2. There is no watcher, because it would start the nights."""

WORKERS = {"one": "cpu-worker", "two": "cpu-worker#2"}
"""The workers of the queue gpu: host -> service."""

DAGS, STORE = "/opt/bloodcell/bloodcell/_dags", "/var/lib/bloodcell/store"
S3 = {
    "BLOODCELL_STORE_URL": "s3://bloodcell/store",
    "AWS_ENDPOINT_URL": "http://server:9000",
    "AWS_DEFAULT_REGION": "us-east-1",
}
S3_CREDENTIALS = "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n"


@dataclass(frozen=True)
class Place:
    """The running fleet, with what a fault needs to act on it."""

    fleet: Fleet
    laboratory: LiveNight
    api: AirflowApi

    def busy(self) -> str:
        """Waits until a worker of the queue gpu is busy in the middle of the night, and returns that worker."""
        waited(lambda: self.laboratory.n_calls() > 0, 300, "calls")
        waited(lambda: bool(self._busy_workers()), 120, "a running classify task")
        return self._busy_workers()[0]

    def _busy_workers(self) -> list[str]:
        # the run of a killed task stays `running` forever
        began = "started_at > now() - interval '90 seconds'"
        runs = self.laboratory.all(
            f"SELECT host FROM bloodcell.run WHERE state = 'running' AND night = :night AND {began}"
        )
        return [WORKERS[str(host)] for (host,) in runs if host in WORKERS]


def nothing(_place: Place) -> None:
    """Leaves the night alone."""


@dataclass(frozen=True)
class Fault:
    """What is done to a night.

    Attributes:
        during: What is done in the middle of the night.
        before: What is done before the night begins.
        after: What is done when the night has ended, successfully or not; what failed is then run again.
    """

    during: Callable[[Place], None] = nothing
    before: Callable[[Place], None] = nothing
    after: Callable[[Place], None] = nothing


def restart(service: str | None, number: signal.Signals, away_s: float = 5) -> Callable[[Place], None]:
    """Returns a fault in which a signal ends a service in the middle of the night; it is back after `away_s` seconds.

    If the service is None, it is the worker that is busy at that moment.
    """

    def make(place: Place) -> None:
        worker = place.busy()
        name = service or worker
        if number == signal.SIGKILL:
            place.fleet.kill(name)
        else:
            place.fleet.stop(name)
        time.sleep(away_s)
        place.fleet.start(name)

    return make


def worker_runs_out_of_memory(place: Place) -> None:
    place.fleet.kill_largest(place.busy())


def worker_loses_power(place: Place) -> None:
    worker = place.busy()
    host = place.fleet.host_of(worker).name
    place.fleet.reboot(host)
    time.sleep(5)
    place.fleet.start(worker)


def redis_loses_its_data(place: Place) -> None:
    """Loses a task that waits for the only worker, and the record of the task that this worker runs."""
    place.busy()
    place.fleet.kill("redis")
    place.fleet.empty("server-redis")
    time.sleep(5)
    place.fleet.start("redis")
    place.fleet.start("cpu-worker#2")


def postgres_is_killed(place: Place) -> None:
    place.busy()
    place.fleet.kill("postgres")
    time.sleep(10)
    place.fleet.start_postgres()


def worker_loses_the_network(place: Place) -> None:
    host = place.fleet.host_of(place.busy())
    host.disconnect()
    time.sleep(45)
    host.reconnect()


def store_is_unmounted(place: Place) -> None:
    place.busy()
    for name in ("one", "two"):
        place.fleet.network.hosts[name].unshare(STORE)
    time.sleep(20)
    for name in ("one", "two"):
        place.fleet.network.hosts[name].share(place.fleet.volume("store"), STORE)


def two_schedulers(place: Place) -> None:
    place.fleet.start("scheduler#2")
    place.busy()
    time.sleep(20)
    place.fleet.kill("scheduler")
    time.sleep(20)
    place.fleet.start("scheduler")
    time.sleep(10)
    place.fleet.kill("scheduler#2")


def s3_refuses(place: Place) -> None:
    place.busy()
    place.fleet.kill("s3")
    time.sleep(20)
    start_s3(place.fleet)


def s3_hangs(place: Place) -> None:
    place.busy()
    place.fleet.freeze("s3", signal.SIGSTOP)
    time.sleep(45)
    place.fleet.freeze("s3", signal.SIGCONT)


def s3_is_slow(place: Place) -> None:
    place.busy()
    place.fleet.kill("s3")
    start_s3(place.fleet, delay_s=1)
    time.sleep(60)
    place.fleet.kill("s3")
    start_s3(place.fleet)


def postgres_fails_over(place: Place) -> None:
    place.busy()
    place.fleet.fail_over()


def clocks_differ(place: Place) -> None:
    """Sets one worker's clock ten minutes ahead of the server's, and the other's ten minutes behind."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    for worker, skew in (("cpu-worker", "+10m"), ("cpu-worker#2", "-10m")):
        place.fleet.kill(worker)
        place.fleet.start(worker, LD_PRELOAD=str(library), FAKETIME=skew, FAKETIME_DONT_FAKE_MONOTONIC="1")


def a_worker_is_older(place: Place) -> None:
    """Replaces a worker by one of the last commit before the newest migration."""
    (newest,) = (ROOT / "sql" / "versions").glob(f"{head_revision()}*.py")
    git = ["git", "-C", str(ROOT)]
    came = subprocess.check_output([*git, "log", "--diff-filter=A", "--format=%H", "--", str(newest)], text=True)
    older = place.fleet.folder / "older"
    if not older.exists():
        older.mkdir()
        archive = subprocess.check_output([*git, "archive", f"{came.split()[-1]}^", "bloodcell", "dags", "sql"])
        subprocess.run(["tar", "-x", "-C", str(older)], input=archive, check=True)
    place.fleet.kill("cpu-worker#2")
    host = place.fleet.network.hosts["two"]
    host.unshare(DAGS)
    host.share(older / "dags", DAGS)
    place.fleet.start("cpu-worker#2", PYTHONPATH=f"{older}:{ROOT / 'docker'}")


def a_worker_has_other_models(place: Place) -> None:
    """Gives a worker a store whose models have one byte changed, as after a faulty copy of the store."""
    store = place.fleet.volume("store")
    other = place.fleet.folder / "other-store"
    if not other.exists():
        shutil.copytree(store, other)
        for path in (other / "models").glob("*/model.keras"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        subprocess.run(["chown", "-R", str(USER), str(other)], check=True)
    place.fleet.kill("cpu-worker#2")
    host = place.fleet.network.hosts["two"]
    host.unshare(STORE)
    host.share(other, STORE)
    place.fleet.start("cpu-worker#2")


def reset_workers(place: Place) -> None:
    """Gives the workers the server's clock, release and store again."""
    for worker in ("cpu-worker", "cpu-worker#2"):
        place.fleet.kill(worker)
    host = place.fleet.network.hosts["two"]
    for folder, at in ((ROOT / "dags", DAGS), (place.fleet.volume("store"), STORE)):
        host.unshare(at)
        host.share(folder, at)
    for worker in ("cpu-worker", "cpu-worker#2"):
        place.fleet.start(worker)


def start_s3(fleet: Fleet, *, fresh: bool = False, delay_s: float = 0) -> None:
    """Starts forwarding to the S3 server; if `fresh`, also starts the server itself, with an empty bucket."""
    if fresh:
        fleet.start_command("s3-server", "server", ["moto_server", "-H", "127.0.0.1", "-p", "9001"], S3)
    fleet.start_command("s3", "server", [sys.executable, "-m", "tests.fleet.forward", "9000", "9001", str(delay_s)], {})
    if fresh:
        address = {
            **S3,
            "AWS_ENDPOINT_URL": f"http://{fleet.network.address('server')}:9000",
            "AWS_SHARED_CREDENTIALS_FILE": str(fleet.secret("s3_credentials")),
        }
        make = [sys.executable, "-c", "import s3fs; s3fs.S3FileSystem().mkdir('bloodcell')"]
        environment = {**os.environ, **address, "NO_PROXY": "*"}
        waited(lambda: subprocess.run(make, env=environment, capture_output=True).returncode == 0, 60, "a bucket")


FAULTS = {
    "nothing": Fault(),
    "a worker is killed in a shard": Fault(restart(None, signal.SIGKILL)),
    "a worker runs out of memory: the kernel kills the task": Fault(worker_runs_out_of_memory),
    "a worker's machine loses power": Fault(worker_loses_power),
    "a worker is off the network for 45 s": Fault(worker_loses_the_network),
    "Redis is restarted": Fault(restart("redis", signal.SIGTERM)),
    "Redis is down for a minute": Fault(restart("redis", signal.SIGTERM, away_s=60)),
    "Redis is killed": Fault(restart("redis", signal.SIGKILL)),
    "Redis loses its data": Fault(redis_loses_its_data, before=lambda place: place.fleet.kill("cpu-worker#2")),
    "Postgres is killed and back after 10 s": Fault(postgres_is_killed),
    "the store's share is unmounted for 20 s": Fault(store_is_unmounted),
    "the scheduler is killed": Fault(restart("scheduler", signal.SIGKILL)),
    "the API server is killed": Fault(restart("api-server", signal.SIGKILL)),
    "two schedulers, each killed in turn": Fault(two_schedulers),
    "one worker's clock is 10 min ahead, the other's 10 min behind": Fault(before=clocks_differ, after=reset_workers),
    "a worker runs an older release": Fault(before=a_worker_is_older, after=reset_workers),
    "a worker has other models": Fault(before=a_worker_has_other_models, after=reset_workers),
    "Postgres fails over to its standby": Fault(postgres_fails_over, before=lambda place: place.fleet.start_standby()),
}
"""The fail-over comes last, because it leaves no Postgres to fail over to."""

S3_FAULTS = {
    "nothing": Fault(),
    "S3 refuses connections for 20 s": Fault(s3_refuses),
    "S3 does not respond for 45 s": Fault(s3_hangs),
    "S3 responds 1 s late for a minute": Fault(s3_is_slow),
}
