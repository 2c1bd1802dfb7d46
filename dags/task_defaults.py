"""What the Dags share: how their tasks are retried, and that they refuse parameters they do not know."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from bloodcell.errors import (
    BundleError,
    CheckFailedError,
    ConfigurationError,
    PromotionRefusedError,
    RetryLaterError,
    TrainingDataError,
)

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
