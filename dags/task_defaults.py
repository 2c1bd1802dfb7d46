"""What the Dags share: how their tasks are retried, and that an unknown parameter is refused."""

from __future__ import annotations

import difflib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from bloodcell.errors import (
    BundleError,
    CheckFailedError,
    ConfigurationError,
    PromotionRefusedError,
    RetryLaterError,
    TrainingDataError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRY_BY_KIND: Final = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[ConfigurationError, BundleError, TrainingDataError, PromotionRefusedError, CheckFailedError],
            action=RetryAction.FAIL,
            reason="a person has to look at something or change it first; the error says what",
        ),
        RetryRule(
            exception=RetryLaterError,
            action=RetryAction.RETRY,
            retry_delay=timedelta(minutes=1),
            reason="the input is fine: a service was unavailable",
        ),
    ]
)

TASK_DEFAULTS: Final[dict[str, Any]] = {
    "owner": "laboratory",
    "retries": 5,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_BY_KIND,
}


def refuse_unknown_params(context: Context) -> None:
    """Refuses a run whose configuration has a parameter that its Dag does not have; called by each Dag's first task.

    Airflow checks the values of the parameters that it knows, and silently passes on any other: with `nigth` instead of
    `night`, every night that is due would be read.

    Raises:
        ConfigurationError: A parameter is unknown; the message names the nearest known one.
    """
    known = sorted(context["dag"].params)
    unknown = sorted(set(context["dag_run"].conf or {}) - set(known))
    if not unknown:
        return
    dag_id = context["dag"].dag_id
    if not known:
        raise ConfigurationError(
            f"The Dag {dag_id} has no parameters. Received: {', '.join(unknown)}. Nothing was done. Next: trigger it "
            "without a configuration."
        )
    nearest = [f"{name!r} (nearest: {difflib.get_close_matches(name, known, 1, 0)[0]!r})" for name in unknown]
    raise ConfigurationError(
        f"The Dag {dag_id} does not have the parameters {', '.join(nearest)}. Expected: {', '.join(known)}. Nothing "
        "was done. Next: trigger it with these names."
    )
