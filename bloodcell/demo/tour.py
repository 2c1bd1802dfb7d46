"""The demonstration: the real scheduler turns a drawn night into differentials in Postgres."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from rich.console import Console
from rich.panel import Panel

from bloodcell.cells.classes import UNCLASSIFIED
from bloodcell.errors import BloodcellError
from bloodcell.presentation.numbers import percent
from bloodcell.presentation.progress import step_bars
from bloodcell.presentation.tables import boxed_table
from bloodcell.registry.shipped import MODEL_IDS
from bloodcell.review.first_person import way_in
from bloodcell.service.airflow_api import NIGHTLY_RUN, PATIENCE_S, RETRAIN, AirflowApi
from bloodcell.service.airflow_home import HOST
from bloodcell.service.airflow_records import RunState
from bloodcell.service.up import running_stack
from bloodcell.settings import DROP_PATTERN, NIGHT_PATTERN, Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.private_files import make_data_folder

if TYPE_CHECKING:
    from rich.table import Table

    from bloodcell.drawing.drops import DrawnDrop
    from bloodcell.presentation.progress import ShowStep
    from bloodcell.storage.database import Database

N_SLIDES: Final = 3
CELLS_PER_SLIDE: Final = 150  # enough for 100 leucocytes on each slide, even if some cells stay unclassified
_RUN_S: Final = 1800.0
_TASKS: Final = {
    NIGHTLY_RUN: "ingest, plan, classify, add up, report",
    RETRAIN: "snapshot, train, validate, gate",
}


class DemoError(BloodcellError):
    """The demo's run failed."""


def demo_settings(settings: Settings) -> Settings:
    """Returns settings with a data folder of the demo's own, so that it never touches a laboratory's data."""
    return settings.model_copy(
        update={
            "data_dir": settings.data_dir / "demo",
            "drops_dir": None,
            "labels_dir": None,
            "alarm_url": None,
            "metrics_url": None,
            "airflow_public_url": None,
            "store_url": None,
            "database_url": None,
            "weights_dir": None,
            "airflow_password_file": None,
            "airflow_url": f"http://{HOST}:{_free_port(urlsplit(settings.airflow_url).port or 8080)}",
            "desk_url": f"http://{HOST}:{_free_port(urlsplit(settings.desk_url).port or 8090)}",
            "desk_public_url": None,
            "desk_login": "local",
            "desk_users_file": None,
            "night_pattern": NIGHT_PATTERN,
            "drop_pattern": DROP_PATTERN,
            "nightly_cron": "",
            "shipped_models": True,
        }
    )


def run_demo(settings: Settings, *, stay: bool) -> None:
    """Draws a night, classifies it through Airflow, prints the differentials, and shows them at the review desk.

    Args:
        settings: Its data folder gets a sub-folder `demo`, and its ports are used if they are free.
        stay: Whether the desk keeps running until Ctrl-C.

    Raises:
        DemoError: The run failed; the message says where its logs are.
        BloodcellError: The system could not be started.
    """
    settings = demo_settings(settings)
    out, err = Console(), Console(stderr=True)
    with classified_night(settings, err, N_SLIDES, CELLS_PER_SLIDE) as (database, _, drop):
        _show_results(settings, database, drop, out)
        if stay:
            print_next_steps(out, _next_steps(settings, drop))
            out.print(
                f"\n[bold]The night waits for you at the review desk:[/]  {way_in(settings)}\n"
                "Set a password there, open a slide, correct what is wrong, sign it. Ctrl-C stops the demo.",
                highlight=False,
                soft_wrap=True,
            )
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            return
    print_next_steps(out, _next_steps(settings, drop))


@contextmanager
def classified_night(
    settings: Settings, err: Console, n_slides: int, cells_per_slide: int
) -> Iterator[tuple[Database, AirflowApi, DrawnDrop]]:
    """Yields the running system's database and Airflow, and a new drawn night that the shipped models have classified.

    Args:
        settings: The demo's settings.
        err: Console that shows progress.
        n_slides: Number of slides.
        cells_per_slide: Number of cells per slide.

    Raises:
        DemoError: The night's run failed; the message says where its logs are.
        BloodcellError: The system could not be started.
    """
    make_data_folder(settings.data_dir)
    err.print(f"The demo keeps everything below [bold]{settings.data_dir}[/]; delete that folder to undo it.")
    with step_bars(err) as on_step:
        drop = _drawn_night(settings, on_step, n_slides, cells_per_slide)
    with running_stack(settings, watch=False, announce=lambda line: err.print(f"  {line}", highlight=False)):
        database = open_database(settings)
        err.print(_models(database))
        with AirflowApi(settings, patience_s=PATIENCE_S) as api:
            run_through(api, NIGHTLY_RUN, {"night": drop.folder.name}, settings, err)
            yield database, api, drop


def run_through(api: AirflowApi, dag_id: str, conf: Mapping[str, object], settings: Settings, err: Console) -> RunState:
    """Runs a Dag until it has ended or waits for a person, and returns the run's state.

    Args:
        api: The demo's Airflow.
        dag_id: The Dag.
        conf: Values of its Params.
        settings: The demo's settings.
        err: Console that shows a progress bar of the tasks.

    Raises:
        DemoError: The run failed; the message says where its logs are.
    """
    api.unpause(dag_id)  # a person who tried the demo may have paused it
    run_id = api.trigger(dag_id, conf=conf)
    with step_bars(err) as on_step:
        run = api.wait(
            dag_id,
            run_id,
            timeout_s=_RUN_S,
            for_a_person=False,
            on_progress=lambda run: on_step(f"Airflow: {_TASKS[dag_id]}", run.n_tasks_ended, len(run.tasks)),
        )
    if run.state == "failed":
        raise DemoError(_what_failed(settings, dag_id, run))
    err.print(
        f"Airflow run [bold]{run_id}[/] {f'ended in state {run.state}' if run.ended else 'waits for a person'}.\n",
        highlight=False,
    )
    return run


def _drawn_night(settings: Settings, on_step: ShowStep, n_slides: int, cells_per_slide: int) -> DrawnDrop:
    """Draws the latest night, up to today, that the demo has not drawn yet, so that each demo does all the work."""
    from bloodcell.drawing.drops import make_drop

    night = datetime.now(UTC).date()
    while (settings.drops / night.isoformat()).exists():
        night -= timedelta(days=1)
    n_drawn = 0

    def on_cell() -> None:
        nonlocal n_drawn
        n_drawn += 1
        on_step(f"Drawing the night {night}", n_drawn, n_slides * cells_per_slide)

    return make_drop(
        settings.drops,
        night=night,
        n_slides=n_slides,
        cells_per_slide=cells_per_slide,
        seed=night.toordinal(),
        on_cell=on_cell,
    )


def _show_results(settings: Settings, database: Database, drop: DrawnDrop, out: Console) -> None:
    from bloodcell.report.slide_page import write_report
    from bloodcell.results.result_display import result_table
    from bloodcell.results.stored_result import read_result
    from bloodcell.storage.store import Store

    store = Store.of(settings)
    for slide in drop.slides:
        page = _page(settings, slide.barcode)
        page.parent.mkdir(exist_ok=True)
        write_report(database, store, slide.barcode, page)
        out.print(result_table(read_result(database, slide.barcode), out.width))
        out.print(f"[dim]Drawn as: {slide.finding}. With pictures: {page}[/]\n", highlight=False, soft_wrap=True)
    out.print(_true_classes_table(database, drop))


def _true_classes_table(database: Database, drop: DrawnDrop) -> Table:
    """Returns how many of the night's cells each model called as the class they were drawn as."""
    statement = sa.text(
        "SELECT variant, is_reported, barcode, file_name, called_class, top_class FROM bloodcell.cell_result "
        "WHERE night = :night ORDER BY is_reported DESC, variant"
    )
    found = database.transact(lambda c: list(c.execute(statement, {"night": drop.folder.name})))
    drawn = drop.drawn_as()
    figures = ("most probable class correct", "called", "calls correct")
    title = f"The night's {len(drawn):,} cells, compared with the classes they were drawn as"
    table = boxed_table("Model", *figures, right=figures, title=title)
    for (variant, is_reported), rows in groupby(found, key=lambda row: (row.variant, row.is_reported)):
        cells = [(row, drawn[row.barcode, row.file_name]) for row in rows]
        called = [(row, truth) for row, truth in cells if row.called_class != UNCLASSIFIED]
        table.add_row(
            f"{variant} (champion)" if is_reported else variant,
            _share(sum(row.top_class == truth for row, truth in cells), len(cells)),
            _share(len(called), len(cells)),
            _share(sum(row.called_class == truth for row, truth in called), len(called)),
        )
    return table


def _share(n: int, total: int) -> str:
    return percent(n / total if total else None)


def _page(settings: Settings, barcode: str) -> Path:
    return settings.data_dir / "reports" / f"{barcode}.html"


def _what_failed(settings: Settings, dag_id: str, run: RunState) -> str:
    failed = [task.task_id for task in run.tasks if task.state in ("failed", "upstream_failed")]
    logs = settings.data_dir / "airflow" / "logs" / f"dag_id={dag_id}" / f"run_id={run.run_id}"
    return f"Run {run.run_id} ended in state {run.state}; failed tasks: {', '.join(failed) or 'none'}. Logs: {logs}"


def print_next_steps(console: Console, steps: str) -> None:
    """Prints commands to try next, each on one line without a border, so that it can be copied."""
    console.print("[bold]What to try next[/]")
    console.print(steps, highlight=False, markup=False, soft_wrap=True)


def _models(database: Database) -> Panel:
    from bloodcell.registry.registered_models import serving_models

    serving = database.transact(serving_models)
    lines = [f"{model.title:<18} {model.model_id[:12]}  {model.role}" for model in serving]
    if {model.model_id for model in serving} <= set(MODEL_IDS.values()):
        lines += [
            "",
            "They come with bloodcell and were trained on the cells of one laboratory: evaluate them on yours first.",
        ]
    return Panel("\n".join(lines), title="Models", border_style="yellow", expand=False)


def _next_steps(settings: Settings, drop: DrawnDrop) -> str:
    slide = drop.slides[0].barcode
    return (
        f"Look around in the demo:\n"
        f"  export PATH={Path(sys.executable).parent}:$PATH\n"
        f"  export BLOODCELL_DATA_DIR={settings.data_dir}\n"
        f"  bloodcell up                  the review desk and Airflow's pages; it prints their addresses\n"
        f"  bloodcell slides              what waits for a person, the most urgent first\n"
        f"  bloodcell result {slide}      its numbers, and every version with the reason for it\n"
        f'  bloodcell db psql -c "TABLE bloodcell.night_summary"\n'
        f"Back to your own data folder, for real nights:\n"
        f"  unset BLOODCELL_DATA_DIR\n"
        f"  bloodcell up                  then let the analyser write nights:\n"
        f"                                <drops>/<YYYY-MM-DD>/<slide>/*.jpg\n"
        f"Labels, and a model retrained on them, in another demonstration:\n"
        f"  bloodcell demo --retrain\n"
        f"How well the models perform on your images (FOLDER/<class>/*.jpg):\n"
        f"  bloodcell evaluate --images FOLDER"
    )


def _free_port(wanted: int) -> int:
    """Returns the wanted port if it is free, otherwise any free one, so that a demo does not fail because of a port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
