"""The nightly run: drop folders become differentials in Postgres.

This file only says when the stages run, in which order, and on which queue and pool. The library does the work, which
leaves the same rows if it is done twice, killed at any point, or done by two runs at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, TriggerRule, dag, get_current_context, task
from run_note import add_run_note
from task_defaults import TASK_DEFAULTS, refuse_unknown_params

from bloodcell.errors import ConfigurationError
from bloodcell.settings import Settings

if TYPE_CHECKING:
    from bloodcell.report import NightSummary

log = logging.getLogger(__name__)
settings = Settings()
_LONGEST_ALARM = 2_000


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the trigger form requests of this run; everything is empty for a scheduled run."""

    run_id: str
    night: date | None
    slides: tuple[str, ...]
    models: tuple[str, ...]
    redo: bool

    @property
    def only_slides(self) -> bool:
        """Whether slides were named without a night: then nothing is ingested, and other slides are left alone."""
        return bool(self.slides) and self.night is None


@task(execution_timeout=timedelta(hours=12))
def ingest() -> dict[str, Any]:
    """Returns the nights to work on, those that could not be read completely, and what in the drops is no night."""
    from bloodcell.service.due_nights import ingest_due_nights

    refuse_unknown_params(get_current_context())
    request = _request()
    if request.redo and not (request.night or request.slides):
        raise ConfigurationError(
            "redo needs a night or slides; without them, it would reclassify every cell ever received."
        )
    due = ingest_due_nights(settings, night=request.night, slides=request.slides, airflow_run=request.run_id)
    nights = [night.isoformat() for night in due.nights]
    return {"nights": nights, "failed": due.failed, "problems": dict(due.problems)}


@task
def plan(ingested: dict[str, Any]) -> list[str]:
    """Returns the shards to classify: whole slides, a few thousand cells each."""
    from bloodcell.classify import plan_shards

    request = _request()
    shards = [
        shard
        for night in _nights(request, ingested)
        for shard in plan_shards(
            settings, night=night, slides=request.slides, model_ids=request.models, redo=request.redo
        )
    ]
    log.info("%d cells in %d shards", sum(shard.n_cells for shard in shards), len(shards))
    return [shard.to_json() for shard in shards]


# patients' slides come before any training or check that waits for a GPU
@task(queue="gpu", pool="gpu", priority_weight=100, weight_rule="absolute", execution_timeout=timedelta(hours=12))
def classify(shard: str) -> int:
    """Returns the number of cells of one shard that were called; TensorFlow ends with this task's process."""
    from bloodcell.classify import Shard, classify_shard

    summary = classify_shard(Shard.from_json(shard), settings, airflow_run=_request().run_id)
    log.info("%s", summary)
    return summary.n_cells


# also runs if classify was skipped because nothing was new, or failed because of some images: the other slides get
# their results (Airflow's rule for one success and no running task would skip this task if classify was skipped)
@task(trigger_rule=TriggerRule.ALL_DONE)
def quality_control(ingested: dict[str, Any] | None) -> list[str]:
    """Returns why results of the run's nights are held, and sends the alarm; no slide is counted before this check."""
    from bloodcell.monitoring import Alarm, post_alarm
    from bloodcell.quality import control_nights

    if ingested is None:  # the task ingest failed, and says why
        return []
    request = _request()
    nights = [night for night in _nights(request, ingested) if night is not None]
    found = control_nights(settings, nights=nights, slides=request.slides, airflow_run=request.run_id)
    failed = [f"{each.night}: {reason}" for each in found for reason in each.failed]
    log.info("Held: %s", "\n".join(failed) or "nothing")
    if failed and settings.alarm_url is not None:
        reason = f"The quality control holds results: {' '.join(failed)}"
        alarm = Alarm("nightly_run", request.run_id, "quality_control", reason[:_LONGEST_ALARM])
        post_alarm(settings.alarm_url.get_secret_value(), alarm)
    return failed


@task
def differentials(ingested: dict[str, Any], held: list[str]) -> int:
    """Returns the number of slides that were counted; a count that differs makes a version of the slide's result."""
    from bloodcell.results import write_due_results

    log.info("Reasons to hold results: %d", len(held))
    request = _request()
    added_up: set[str] = set()
    for night in _nights(request, ingested):
        slides = write_due_results(
            settings, night=night, slides=request.slides, is_checked=True, airflow_run=request.run_id
        )
        added_up.update(slides)
    log.info("Slides added up: %s", ", ".join(sorted(added_up)) or "none")
    return len(added_up)


@task(trigger_rule=TriggerRule.NONE_FAILED)
def report(ingested: dict[str, Any], held: list[str]) -> str:
    """Returns the summary of the run's nights in Markdown, and writes their pages; fails if a night could not be read.

    What the database knows of this run is reported even if the value that the task ingest returned was changed.
    """
    from bloodcell.report.night_report import drops_markdown, night_markdown, night_summary
    from bloodcell.service.due_nights import ingested_by
    from bloodcell.storage.database import open_database

    context = get_current_context()
    database, known, problems = open_database(settings), ingested_by(settings, context["run_id"]), ingested["problems"]
    due = sorted({*map(date.fromisoformat, ingested["nights"]), *known.nights})
    nights = [night_summary(database, night) for night in due]
    pages = [_page(night, problems) for night in nights]
    parts = [
        drops_markdown(problems),
        *(f"**Held**: {reason}" for reason in held),
        *(night_markdown(night) for night in nights),
    ]
    summary = "\n\n".join(filter(None, parts)) or "No night was due."
    log.info("Summary\n%s", summary)  # one message, because the log's page would number and stamp each line
    failed = {**known.failed, **ingested["failed"]}
    outcome = [f"{night.headline} {page}" for night, page in zip(nights, pages, strict=True)] or ["No night was due."]
    outcome += [f"Held: {reason}" for reason in held]
    add_run_note(settings, context, "\n".join([*outcome, *(f"{night}: {why}" for night, why in failed.items())]))
    if failed:
        raise ConfigurationError(
            "These nights could not be read completely; everything else is done. "
            + " ".join(f"{night}: {why}" for night, why in failed.items())
        )
    return summary


@dag(
    schedule=settings.nightly_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args=TASK_DEFAULTS,
    params={
        "night": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Night",
            description="One night's folder in the drops folder, as YYYY-MM-DD. Empty: every night not yet done.",
        ),
        "slides": Param(
            [],
            type=["null", "array"],  # the form marks a parameter that may not be null as required
            items={"type": "string", "minLength": 1},
            title="Slides",
            description="Barcodes, one per line: only these slides are classified. Empty: all.",
        ),
        "models": Param(
            [],
            type=["null", "array"],  # the form marks a parameter that may not be null as required
            items={"type": "string", "pattern": "^[0-9a-f]{6,64}$"},
            title="Models",
            description="Model ids, one per line (bloodcell models list). Empty: the champion and its challengers.",
        ),
        "redo": Param(
            False,
            type="boolean",
            title="Redo",
            description="Classify again what these models have already classified. Needs a night or slides.",
        ),
    },
    doc_md="""
### The nightly run

Every night in the drops folder that is not done is read (**ingest**), its cells are classified by the champion and the
challengers (**classify**, in shards, one at a time), the night is compared with its control slides and with earlier
nights (**quality_control**), each slide is counted and gets a version of its result (**differentials**), and the night
is summarised (**report**: open that task's log, its XCom, or the page that the run's note names).

It starts automatically at `BLOODCELL_NIGHTLY_CRON` (UTC), and whenever `bloodcell watch` finds a complete night.
*Trigger* starts it by hand for one night, for some slides, or with other models.

**Doing it again is safe.** Rows are keyed by file and model: a rerun, a retry after a kill and two runs at once leave
the same rows. After a failure, trigger another run or clear the failed task.

**Red?** Slides whose cells were all called get their differential anyway. The end of the failed task's log says what is
wrong and what to do next. `bloodcell doctor` checks the whole system.
""",
)
def nightly_run() -> None:
    """Ingest, classify, check, add up and report the nights that are due."""
    ingested = ingest()
    called = classify.expand(shard=plan(ingested))
    held = quality_control(ingested)
    called >> held
    added_up = differentials(ingested, held)
    [called, added_up] >> report(ingested, held)  # a failed shard leaves the run red


def _request() -> RunRequest:
    context = get_current_context()
    params = context["params"]
    return RunRequest(
        run_id=context["run_id"],
        night=date.fromisoformat(params["night"]) if params["night"] else None,
        slides=tuple(params["slides"] or ()),
        models=tuple(params["models"] or ()),
        redo=bool(params["redo"]),
    )


def _page(night: NightSummary, problems: dict[str, str]) -> str:
    """Returns where the night's page is, or why it could not be written: the results do not depend on it."""
    from bloodcell.report.night_page import write_night_page

    try:
        return str(write_night_page(settings, night, problems))
    except ConfigurationError as error:
        log.warning("%s", error)
        return str(error)


def _nights(request: RunRequest, ingested: dict[str, Any]) -> list[date | None]:
    return [None] if request.only_slides else [date.fromisoformat(night) for night in ingested["nights"]]


nightly_run()
