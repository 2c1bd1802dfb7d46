"""Checks everything that bloodcell needs, and says what is wrong and what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.environment import PROGRAM_MARK, STACK_MARK
from bloodcell.errors import BloodcellError, ConfigurationError, SchemaError
from bloodcell.presentation.numbers import counted
from bloodcell.resources import dag_ids
from bloodcell.served_address import served_address
from bloodcell.service.airflow_api import AirflowApi
from bloodcell.service.airflow_home import users_without_password
from bloodcell.service.airflow_session import AirflowUnavailableError
from bloodcell.service.desk_health import desk_responds
from bloodcell.service.exchange_health import exchange_finding
from bloodcell.service.findings import Finding
from bloodcell.service.processes import marked_processes
from bloodcell.service.quality_health import quality_finding
from bloodcell.service.up import GPU_POOL, WATCHER

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

FREE_BYTES_FAIL: Final = 1_000_000_000
FREE_BYTES_WARN: Final = 10_000_000_000
VERIFIED_DAYS_WARN: Final = 15
"""Two weekly runs of the Dag verify_store have been missed."""
_PATIENCE_S: Final = 30.0


def examine(settings: Settings, *, deep: bool = False) -> list[Finding]:
    """Returns the findings of all checks, each after the ones that it depends on.

    A check that fails does not stop the others.

    Args:
        settings: What to check.
        deep: Whether to load TensorFlow as well and ask it for GPUs.
    """
    return [
        *_checked("python", _python),
        *_checked("data folder", lambda: _data_folder(settings)),
        *_checked("disk space", lambda: _disk_space(settings)),
        *_checked("drops folder", lambda: _drops(settings)),
        *_checked("labels inbox", lambda: _labels(settings)),
        *_checked("store", lambda: _store(settings)),
        *_database_findings(settings),
        *_checked("base weights", lambda: _weights(settings)),
        *_airflow_findings(settings),
        *_checked("approvers", lambda: _approvers(settings)),
        *_checked("watcher", lambda: _watcher(settings)),
        *_checked("review desk", lambda: _desk(settings)),
        *_checked("accelerator", lambda: _accelerator(deep)),
    ]


def _checked(check: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield look()
    except BloodcellError as error:
        yield Finding(check, "fail", str(error))
    except OSError as error:
        yield Finding(check, "fail", str(error), "Correct the permissions, or set another folder.")
    except subprocess.SubprocessError as error:
        yield Finding(check, "fail", str(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 13):
        return Finding("python", "ok", version)
    return Finding("python", "fail", f"{version}; TensorFlow needs 3.11 or 3.12", "Install bloodcell with Python 3.11.")


def _data_folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    if not folder.exists():
        return Finding("data folder", "warn", f"{folder} does not exist yet", "Next: bloodcell up, which makes it.")
    with tempfile.TemporaryFile(dir=folder):
        pass
    # as root, the embedded Postgres runs as another user, who has to enter the folder
    if folder.stat().st_mode & 0o007 and os.geteuid() != 0:
        return Finding(
            "data folder", "warn", f"Every user of this machine can enter {folder}", f"Next: chmod -R go-rwx {folder}"
        )
    return Finding("data folder", "ok", f"{folder} is writable")


def _disk_space(settings: Settings) -> Finding:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:,.0f} GB free below {folder}"
    if free < FREE_BYTES_FAIL:
        return Finding("disk space", "fail", detail, "Free some space: the next night will not fit.")
    if free < FREE_BYTES_WARN:
        return Finding("disk space", "warn", detail, "Free some space soon.")
    return Finding("disk space", "ok", detail)


def _drops(settings: Settings) -> Finding:
    from bloodcell.inbox.night_folders import read_drops

    drops = settings.drops
    if not drops.exists():
        return Finding(
            "drops folder",
            "fail",
            f"{drops} does not exist",
            "Mount the share, make the folder, or set BLOODCELL_DROPS_DIR to the right path.",
        )
    found = read_drops(settings)
    unreadable = [night for night in found.nights.values() if not os.access(night, os.R_OK | os.X_OK)]
    if unreadable:
        names = ", ".join(night.name for night in unreadable)
        return Finding(
            "drops folder", "fail", f"Cannot read these nights in {drops}: {names}", "Allow this user to read them."
        )
    if found.problems:
        named = "; ".join(f"{name}: {problem}" for name, problem in found.problems.items())
        return Finding(
            "drops folder",
            "warn",
            f"{drops} has {counted(len(found.nights), 'night')}, and entries that need a look: {named}",
            "Rename or remove them, or set BLOODCELL_NIGHT_PATTERN.",
        )
    return Finding("drops folder", "ok", f"{drops} has {counted(len(found.nights), 'night')}")


def _labels(settings: Settings) -> Finding:
    inbox = settings.labels
    if not inbox.is_dir():
        return Finding(
            "labels inbox", "warn", f"{inbox} does not exist", "Make it, or set BLOODCELL_LABELS_DIR to the right path."
        )
    if not os.access(inbox, os.R_OK | os.X_OK):
        return Finding("labels inbox", "fail", f"Cannot read {inbox}", "Allow this user to read it.")
    return Finding("labels inbox", "ok", f"{inbox} can be read")


def _store(settings: Settings) -> Finding:
    from bloodcell.storage.store import Store

    Store.of(settings)
    if "://" in settings.store:
        return Finding("store", "ok", settings.store)
    folder = Path(settings.store)
    while not folder.exists():
        folder = folder.parent
    if os.access(folder, os.W_OK):
        return Finding("store", "ok", f"{settings.store} can be written")
    return Finding("store", "fail", f"{folder} cannot be written", "Allow this user to write there.")


def _database_findings(settings: Settings) -> Iterator[Finding]:
    """Yields the findings for the database and, if it can be used, for its schema and the champion."""
    from bloodcell.storage.connections import connect
    from bloodcell.storage.database import Database
    from bloodcell.storage.embedded import embedded_database
    from bloodcell.storage.migrations import check_revision, head_revision

    if settings.database_url is None and not (settings.data_dir / "postgres").exists():
        yield Finding("database", "fail", "The embedded Postgres has never been started", "Next: bloodcell up")
        return
    try:
        database = Database(connect(settings.plain_database_url or embedded_database(settings).url()), patience_s=0)
        where = (
            "embedded" if settings.database_url is None else database.engine.url.render_as_string(hide_password=True)
        )
        database.transact(check_revision)
    except SchemaError as error:
        yield Finding("database", "ok", f"{where} responds")
        yield Finding("schema", "fail", str(error), "Next: bloodcell db upgrade")
        return
    except BloodcellError as error:
        yield Finding("database", "fail", str(error), "Start the server, or correct BLOODCELL_DATABASE_URL.")
        return
    yield Finding("database", "ok", f"{where} responds")
    yield Finding("schema", "ok", f"revision {head_revision()}")
    yield from _checked("champion", lambda: _champion(settings, database))
    yield from _checked("store verified", lambda: _store_verified(database))
    yield from _checked("disk use", lambda: _disk_use(settings, database))
    yield from _checked("erasures", lambda: _erasures(database))
    yield from _checked("exchange", lambda: exchange_finding(settings, database))
    yield from _checked("quality", lambda: quality_finding(settings, database))


def _disk_use(settings: Settings, database: Database) -> Finding:
    from bloodcell.service.disk_use import database_sizes, folder_sizes

    parts = [*database.transact(database_sizes), *folder_sizes(settings)]
    return Finding("disk use", "ok", ", ".join(str(part) for part in parts))


def _erasures(database: Database) -> Finding:
    from bloodcell.service.disk_use import n_pending_erasures

    if n := database.transact(n_pending_erasures):
        return Finding(
            "erasures",
            "warn",
            f"{counted(n, 'erasure')} removed the rows, but not yet everything outside the database",
            "Run the same bloodcell erase again: it finishes the work.",
        )
    return Finding("erasures", "ok", "None is unfinished")


def _champion(settings: Settings, database: Database) -> Finding:
    from bloodcell.registry.registered_models import open_registered, registered_models, serving_models
    from bloodcell.storage.store import Store

    if not database.transact(registered_models):
        return Finding(
            "champion",
            "fail",
            "No model is registered",
            "Next: bloodcell train --variant inception_v3_svm --images FOLDER",
        )
    try:
        champion, *challengers = database.transact(serving_models)
    except ConfigurationError:
        return Finding("champion", "fail", "No model is champion", "Next: bloodcell models promote ID --reason R")
    for model in (champion, *challengers):
        open_registered(Store.of(settings), model.model_id)
    names = "".join(f", challenger {model.title} {model.model_id[:12]}" for model in challengers)
    return Finding("champion", "ok", f"{champion.title} {champion.model_id[:12]}{names}; every byte verified")


def _store_verified(database: Database) -> Finding:
    from bloodcell.verification import last_verification

    last = database.transact(last_verification)
    step = "Next: bloodcell store verify --repair"
    when = f"on {last.ended_at:%Y-%m-%d}" if last.ended_at else "not yet"
    if last.n_left:
        detail = f"{last.n_left:,} of {counted(last.n_objects, 'object')} were damaged and not healed {when}"
        return Finding("store verified", "warn", detail, f"{step}, with --from BACKUP if that does not heal them")
    if last.age_days is not None and last.age_days > VERIFIED_DAYS_WARN:
        return Finding(
            "store verified", "warn", f"Last verified: {when}; the Dag verify_store does it every week", step
        )
    if last.n_damaged:
        detail = f"{counted(last.n_damaged, 'damaged object')} of {last.n_objects:,} were healed {when}"
        return Finding("store verified", "warn", detail, "If that happens again, the disk is failing: replace it.")
    detail = (
        f"{counted(last.n_objects, 'object')} verified {when}" if last.ended_at else "Not yet; it is done every week"
    )
    return Finding("store verified", "ok", detail)


def _weights(settings: Settings) -> Finding:
    if settings.weights_dir is None:
        return Finding("base weights", "ok", "Keras downloads them when a model is trained")
    if any(settings.weights_dir.glob("*.h5")):
        return Finding("base weights", "ok", f"{settings.weights_dir} has weights; training checks their digests")
    return Finding(
        "base weights",
        "warn",
        f"{settings.weights_dir} (BLOODCELL_WEIGHTS_DIR) has no .h5 file; only training needs one",
        "Put Keras's weights there, or unset the variable to let Keras download them.",
    )


def _airflow_findings(settings: Settings) -> Iterator[Finding]:
    """Yields the findings for Airflow and, if it can be used, for its pool and its Dags."""
    with AirflowApi(settings, patience_s=_PATIENCE_S) as api:
        try:
            health = api.health()
            slots = api.pool_slots(GPU_POOL)
        except BloodcellError as error:
            yield Finding("airflow", "fail", str(error), _next_for_airflow(settings, error))
            return
        unhealthy = [name for name in ("metadatabase", "scheduler", "dag_processor") if health.get(name) != "healthy"]
        if unhealthy:
            logs = settings.data_dir / "logs"
            yield Finding("airflow", "fail", f"Not healthy: {', '.join(unhealthy)}", f"Read their logs in {logs}.")
        else:
            yield Finding("airflow", "ok", f"{settings.airflow_url} is healthy")
        if slots:
            yield Finding("pool", "ok", f"{GPU_POOL} has {slots} slots")
        else:
            yield Finding(
                "pool",
                "fail",
                f"The pool {GPU_POOL} {'does not exist' if slots is None else 'has no slots'}: nothing is classified",
                f"Next: bloodcell up, which makes it; elsewhere: airflow pools set {GPU_POOL} 1 GPU",
            )
        yield from _checked("dags", lambda: _dags(api))


def _next_for_airflow(settings: Settings, error: BloodcellError) -> str:
    """Returns what to do about an Airflow that cannot be used; starting it is no help while it runs elsewhere."""
    address = served_address(settings.data_dir)
    if address and address != settings.airflow_url.rstrip("/"):
        return f"`bloodcell up` runs at {address}: unset BLOODCELL_AIRFLOW_URL, or set it to that address."
    if address:
        return f"`bloodcell up` is running, or still starting: its logs are in {settings.data_dir / 'logs'}."
    return "Next: bloodcell up" if isinstance(error, AirflowUnavailableError) else ""


def _dags(api: AirflowApi) -> Finding:
    if errors := api.import_errors():
        first = next(iter(errors.items()))
        return Finding("dags", "fail", f"{first[0]} cannot be imported: {first[1].strip().splitlines()[-1]}")
    wanted, known = dag_ids(), api.dags()
    if unknown := [dag_id for dag_id in wanted if dag_id not in known]:
        names = ", ".join(unknown)
        return Finding("dags", "fail", f"Airflow does not know these Dags: {names}", "Check its Dags folder.")
    if paused := [dag_id for dag_id in wanted if known[dag_id]]:
        names = ", ".join(paused)
        return Finding("dags", "warn", f"Paused, so they never run: {names}", "Unpause them on Airflow's page.")
    return Finding("dags", "ok", f"{', '.join(wanted)} are ready")


def _approvers(settings: Settings) -> Finding:
    names = ", ".join(settings.approver_names)
    if missing := users_without_password(settings):
        return Finding(
            "approvers",
            "fail",
            f"Not Airflow users yet: {', '.join(missing)}. A model that waits for them is never promoted",
            "Stop `bloodcell up` and start it with the same BLOODCELL_APPROVERS.",
        )
    return Finding("approvers", "ok", f"{names} may approve a model")


def _watcher(settings: Settings) -> Finding:
    marks = {STACK_MARK: str(settings.data_dir.resolve()), PROGRAM_MARK: WATCHER}
    if marked_processes(marks):
        return Finding("watcher", "ok", f"watches {settings.drops}")
    return Finding(
        "watcher", "warn", "Not running: nights wait for the cron run", "Next: bloodcell up, or bloodcell watch"
    )


def _desk(settings: Settings) -> Finding:
    if desk_responds(settings):
        return Finding("review desk", "ok", f"{settings.desk_origin} responds")
    detail = f"{settings.desk_url} does not respond: nobody can review or sign in a browser"
    return Finding("review desk", "warn", detail, "Next: bloodcell up, or bloodcell desk")


def _accelerator(deep: bool) -> Finding:
    if deep:
        code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if loaded.returncode:
            return Finding("accelerator", "fail", f"TensorFlow cannot be loaded: {loaded.stderr.strip()[-300:]}")
        return Finding("accelerator", "ok", f"TensorFlow sees {loaded.stdout.split()[-1]} GPUs")
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return Finding("accelerator", "ok", "No NVIDIA GPU found: cells are classified on the CPU")
    listed = subprocess.run([nvidia_smi, "-L"], capture_output=True, text=True, check=False, timeout=20)
    names = ", ".join(line.split(" (")[0] for line in listed.stdout.splitlines())
    return Finding("accelerator", "ok", f"{names or 'none'} (bloodcell doctor --deep asks TensorFlow)")
