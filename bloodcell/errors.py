"""Every error bloodcell raises on purpose, named by what the operator does next.

    BloodcellError
    ├── UnusableFileError      set the file aside: it is quarantined with its reason, the night goes on
    │   └── RefusedRowsError   mend the rows of the label file (labels/importing.py)
    ├── RetryLaterError        nothing is wrong with the input: the same call succeeds later
    │   ├── DatabaseUnavailableError
    │   ├── StoreUnavailableError
    │   └── AirflowUnavailableError   (service/airflow_api.py)
    ├── ConfigurationError     fix the configuration, then call again
    │   ├── SettingError       an environment variable is wrong, or the name of no setting
    │   ├── NoChampionError    no model was promoted yet: nothing can be reported
    │   ├── SchemaError        the database is of another release: upgrade it, or upgrade bloodcell
    │   ├── UnknownRecordError a slide, night or model that the database does not hold
    │   └── WeightsError       base weights that are missing or not what they claim
    ├── BundleError            the model bundle is incomplete or altered: restore it, nothing is classified with it
    ├── TrainingDataError      the training or evaluation images cannot make a model
    ├── PromotionRefusedError  a model that has not proved itself, or that no person approved: the champion stays
    ├── LimitCrossedError      the champion crossed a limit of its nightly check: a person looks at it
    ├── AirflowRefusedError    Airflow answered, and would not (service/airflow_api.py)
    └── DemoError              the demo's run did not end well (demo/tour.py)

A message says what, which, expected, received, and the next step.
"""

from __future__ import annotations


class BloodcellError(Exception):
    """Any error that bloodcell raises on purpose."""


class UnusableFileError(BloodcellError):
    """A file of a drop that cannot become a cell, or one of labels that cannot become any.

    Attributes:
        reason: Machine-readable reason, one of `bloodcell.ingest.file_outcomes.QUARANTINE_REASONS`, or of
            `bloodcell.labels.label_outcomes.FILE_REASONS`.
        detail: What was expected and what was received, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RetryLaterError(BloodcellError):
    """A dependency is away; the same call succeeds once it is back."""


class DatabaseUnavailableError(RetryLaterError):
    """Postgres could not be reached, or went away and did not come back within the patience set."""


class StoreUnavailableError(RetryLaterError):
    """The image store could not be read or written (disk full, share unmounted, access refused)."""


class ConfigurationError(BloodcellError):
    """Something in the configuration or the command has to be changed by a person."""


class SettingError(ConfigurationError):
    """A variable BLOODCELL_* has a value that is not allowed, or is the name of no setting."""


class NoChampionError(ConfigurationError):
    """No model was made champion yet, so no call can be reported."""


class SchemaError(ConfigurationError):
    """The database's schema is not the one this release works with.

    Attributes:
        found: Revision in the database, None where there is none.
        expected: Revision this release works with.
    """

    def __init__(self, message: str, *, found: str | None, expected: str) -> None:
        super().__init__(message)
        self.found = found
        self.expected = expected


class UnknownRecordError(ConfigurationError):
    """A night, slide or model id that the database does not hold."""


class WeightsError(ConfigurationError):
    """Base weights that are missing, or whose digest is not the pinned one."""


class BundleError(BloodcellError):
    """A model bundle that is incomplete, altered or of another format.

    Attributes:
        folder: Where the bundle lies.
    """

    def __init__(self, message: str, *, folder: str) -> None:
        super().__init__(message)
        self.folder = folder


class TrainingDataError(BloodcellError):
    """Images or labels that cannot train or evaluate a model (no images, an empty class)."""


class PromotionRefusedError(BloodcellError):
    """A model did not become champion: a gate, a missing answer, or another champion by now."""


class LimitCrossedError(BloodcellError):
    """The champion's agreement with people, or the drift of its nights, crossed a limit; the rows are written."""
