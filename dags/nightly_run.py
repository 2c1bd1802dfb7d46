"""The nightly run: drop folders become differentials in Postgres.

Thin on purpose: when, in which order, on which queue and pool. The work is the library's, and all of it can be done
twice, killed anywhere, or done by two runs at once, and leaves the same rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule, TriggerRule, dag, get_current_context, task

from bloodcell.errors import BloodcellError, BundleError, ConfigurationError, RetryLaterError, TrainingDataError
from bloodcell.settings import Settings

log = logging.getLogger(__name__)
settings = Settings()

RETRY_BY_KIND = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[ConfigurationError, BundleError, TrainingDataError],
            action=RetryAction.FAIL,
            reason="a person has to change something first; the error says what",
        ),
        RetryRule(
            exception=RetryLaterError,
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=1),
            reason="nothing is wrong with the input: a service was away",
        ),
    ]
)


@dag(
    schedule=settings.nightly_cron or None,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["bloodcell"],
    default_args={
        "owner": "laboratory",
        "retries": 5,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RETRY_BY_KIND,
    },
    params={
        "night": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Night",
            description="One night's folder under the drops folder, as YYYY-MM-DD. Empty: every night not yet done.",
        ),
        "slides": Param(
            [],
            type="array",
            items={"type": "string", "minLength": 1},
            title="Slides",
            description="Barcodes, one a line: only these slides are classified. Empty: all.",
        ),
        "models": Param(
            [],
            type="array",
            items={"type": "string", "pattern": "^[0-9a-f]{6,64}$"},
            title="Models",
            description="Model ids, one a line (bloodcell models list). Empty: the champion and its shadows.",
        ),
        "redo": Param(
            False,
            type="boolean",
            title="Redo",
            description="Classify again what these models have classified already. Needs a night or slides.",
        ),
    },
    doc_md="""
### The nightly run

Every complete night under the drops folder is read (**ingest**), its cells are classified by the champion and the shadow
models (**classify**, in shards, one at a time a GPU), each slide's calls are added up (**differentials**), and the night
is summed up (**report**: open that task's log, or its XCom).

It starts by itself at the hour of `BLOODCELL_NIGHTLY_CRON` (UTC) and whenever `bloodcell watch` sees a complete night.
*Trigger* starts it by hand for one night, for some slides or with other models.

**Doing it again is safe.** Rows are keyed by file and model: a rerun, a retry after a kill and two runs at once leave the
same rows. A run that failed is mended by triggering another, or by clearing its failed task.

**Red?** The failed task's log ends with what is wrong and the next step. `bloodcell doctor` checks the whole system.
""",
)
def nightly_run() -> None:
    """Ingest, classify, add up and report the nights that are due."""

    @task
    def ingest() -> dict[str, Any]:
        """Returns the nights that were read, and those that could not be with the reason."""
        from bloodcell.ingest import ingest_night, pending_nights

        asked = _asked()
        if asked.night:
            folders = [settings.drops / asked.night]
        elif asked.redo and not asked.slides:
            raise ConfigurationError("redo needs a night or slides: it would classify everything ever received again.")
        else:
            folders = pending_nights(settings)
        done: list[str] = []
        failed: dict[str, str] = {}
        for folder in folders:
            try:
                summary = ingest_night(folder, settings, airflow_run=asked.run_id)
            except RetryLaterError:
                raise
            except BloodcellError as error:
                if len(folders) == 1:
                    raise
                log.error("night %s was left out: %s", folder.name, error)
                failed[folder.name] = str(error)
            else:
                log.info("read: %s", summary)
                done.append(summary.night.isoformat())
        return {"nights": done, "failed": failed}

    @task
    def plan() -> list[dict[str, Any]]:
        """Returns the shards to classify, each some thousand cells."""
        from bloodcell.classify import plan_shards

        asked = _asked()
        shards = plan_shards(
            settings,
            night=date.fromisoformat(asked.night) if asked.night else None,
            slides=asked.slides,
            model_ids=asked.models,
            redo=asked.redo,
        )
        return [shard.to_json() for shard in shards]

    @task(queue="gpu", pool="gpu", execution_timeout=timedelta(hours=12))
    def classify(shard: dict[str, Any]) -> dict[str, Any]:
        """Classifies one shard; TensorFlow lives and dies with this task's process."""
        from bloodcell.classify import Shard, classify_shard

        summary = classify_shard(Shard.from_json(shard), settings, airflow_run=_asked().run_id)
        log.info("classified: %s", summary)
        return {"cells": summary.n_cells}

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def differentials() -> list[str]:
        """Returns the slides whose differentials were written."""
        from bloodcell.differential import write_differentials

        return write_differentials(settings, airflow_run=_asked().run_id)

    @task
    def report(ingested: dict[str, Any], slides: list[str]) -> str:
        """Returns the summary of the run's nights in Markdown, and logs it."""
        summary = ""
        log.info("summary\n%s", summary)
        if failed := ingested["failed"]:
            raise ConfigurationError(
                "These nights could not be read, the others are done: "
                + "; ".join(f"{night}: {why}" for night, why in failed.items())
            )
        return summary

    ingested = ingest()
    shards = plan()
    slides = differentials()
    ingested >> shards
    classify.expand(shard=shards) >> slides
    report(ingested, slides)


@dataclass(frozen=True, slots=True)
class Asked:
    """What this run was asked to do, from the trigger form; all empty for a scheduled run."""

    run_id: str
    night: str | None
    slides: tuple[str, ...]
    models: tuple[str, ...]
    redo: bool


def _asked() -> Asked:
    context = get_current_context()
    params = context["params"]
    return Asked(
        context["run_id"], params["night"], tuple(params["slides"]), tuple(params["models"]), bool(params["redo"])
    )


nightly_run()
