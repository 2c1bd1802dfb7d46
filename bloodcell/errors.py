"""Every error that bloodcell raises on purpose, named by what the operator does next.

    BloodcellError
    ├── UnusableFileError      set the file aside: it is quarantined with its reason, and the night continues
    │   └── RefusedRowsError   correct the rows of the label file (labels/importing.py)
    ├── RetryLaterError        the input is fine: the same call succeeds later
    │   ├── DatabaseUnavailableError
    │   ├── StoreUnavailableError
    │   ├── DirectoryUnavailableError
    │   └── AirflowUnavailableError   (service/airflow_session.py)
    │       └── AirflowBusyError
    ├── ConfigurationError     correct the configuration, then call again
    │   ├── SettingError       an environment variable has a wrong value, or does not name a setting
    │   ├── NoChampionError    no model has been promoted yet, so nothing can be reported
    │   ├── SchemaError        the database belongs to another release: upgrade the database, or bloodcell
    │   ├── UnknownRecordError there is no such slide, night, model or person
    │   ├── NameRefusedError   a person cannot have this name: choose another
    │   ├── UsersFileError     the file of the review desk's people is damaged, or open to others
    │   └── WeightsError       base weights are missing, or are not the expected ones
    ├── BundleError            the model bundle is incomplete or altered: restore it; nothing is classified with it
    ├── TrainingDataError      the images cannot be used to train or evaluate a model
    ├── PromotionRefusedError  the model did not pass, or nobody approved it: the champion stays
    ├── SessionEndedError      the session at the review desk has ended: log in again (review/writing.py)
    ├── RightMissingError      the person's role does not allow it (review/writing.py)
    ├── SlideHeldError         somebody else is working on the slide: take it over, or wait (review/writing.py)
    ├── WrongPasswordError     the password that a signature needs again is wrong (review/writing.py)
    ├── WriteRefusedError      the database refuses what was written at the desk (review/writing.py)
    ├── PeriodError            the days of the statistics cannot be used: choose others (review/desk_statistics.py)
    ├── SigningRefusedError    the result cannot be signed: look at its newest version, and at what it still needs
    │   └── ResultChangedError it is not the one that was looked at (review/writing.py)
    ├── LoginRefusedError      the person is not logged in: begin the log-in again
    ├── PasswordRefusedError   the new password is not allowed: choose another
    ├── MessagesRejectedError  a receiver refuses messages: a person has to look at its answers
    ├── Hl7Error               a message cannot be read (exchange/hl7_text.py)
    ├── OrderRefusedError      an order contradicts what is known: its sender corrects it (exchange/order_intake.py)
    ├── NoAnswerError          a receiver does not answer: the message is sent again later (exchange/delivery.py)
    │   └── ConnectionClosedError (exchange/mllp.py)
    ├── CheckFailedError       a check of the champion or of the store failed: a person has to look at it
    ├── AlreadyDoneError       nothing: what was asked for is so already, and nothing was changed
    ├── AirflowRefusedError    Airflow was reached, but refused the request (service/airflow_session.py)
    └── DemoError              the demo's run failed (demo/tour.py)

A message says what is wrong and where, what was expected, what was received, and what to do next. Invisible characters
of names from outside are spelt out in it.
"""

from __future__ import annotations

from bloodcell.visible_text import visible_lines


class BloodcellError(Exception):
    """Any error that bloodcell raises on purpose."""

    def __str__(self) -> str:
        return visible_lines(super().__str__())


class UnusableFileError(BloodcellError):
    """A file of a drop that cannot become a cell, or a label file that cannot become labels.

    Attributes:
        reason: Machine-readable reason, one of `bloodcell.ingest.file_outcomes.QUARANTINE_REASONS` or of
            `bloodcell.labels.label_outcomes.FILE_REASONS`.
        detail: What was expected and what was received, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = visible_lines(detail)


class RetryLaterError(BloodcellError):
    """Something that bloodcell depends on is unavailable; the same call succeeds once it is back."""


class DatabaseUnavailableError(RetryLaterError):
    """Postgres could not be reached, or became unavailable for longer than BLOODCELL_DATABASE_PATIENCE_S."""


class StoreUnavailableError(RetryLaterError):
    """The image store could not be read or written: the disk is full, a share is unmounted or access was refused."""


class DirectoryUnavailableError(RetryLaterError):
    """The directory or OpenID provider at which people log in could not be reached, or gave no usable answer."""


class ConfigurationError(BloodcellError):
    """A person has to change something in the configuration or in the command."""


class SettingError(ConfigurationError):
    """An environment variable BLOODCELL_* has a value that is not allowed, or does not name a setting."""


class NoChampionError(ConfigurationError):
    """No model has become champion yet, so no call can be reported."""


class SchemaError(ConfigurationError):
    """The database's schema is not the one that this release works with.

    Attributes:
        found: Revision of the database; None if it has none.
        expected: Revision that this release works with.
    """

    def __init__(self, message: str, *, found: str | None, expected: str) -> None:
        super().__init__(message)
        self.found = found
        self.expected = expected


class UnknownRecordError(ConfigurationError):
    """A night, slide or model that is not in the database, or a person who is not in the users file."""


class NameRefusedError(ConfigurationError):
    """A name that a person of the review desk cannot have."""


class UsersFileError(ConfigurationError):
    """The users file is damaged, of a later release, or may be read or written by other users of the machine."""


class MessagesRejectedError(BloodcellError):
    """A receiver refused messages, which wait for a person."""


class AlreadyDoneError(BloodcellError):
    """What a person asked for has been done already, so nothing was changed."""


class WeightsError(ConfigurationError):
    """Base weights are missing, or their digest is not the expected one."""


class BundleError(BloodcellError):
    """A model bundle that is incomplete, altered or of another format.

    Attributes:
        folder: The bundle's folder.
    """

    def __init__(self, message: str, *, folder: str) -> None:
        super().__init__(message)
        self.folder = folder


class TrainingDataError(BloodcellError):
    """Images or labels that cannot train or evaluate a model, for instance because a class is empty."""


class PromotionRefusedError(BloodcellError):
    """A model did not become champion: a gate failed, an approval is missing, or another champion came first."""


class SigningRefusedError(BloodcellError):
    """A result that a person may not sign: a newer version exists, it is signed, or cells have not been reviewed."""


class LoginRefusedError(BloodcellError):
    """A log-in that was not accepted, for a reason that is no wrong password: the person has to begin again."""


class PasswordRefusedError(BloodcellError):
    """A new password that is not allowed; the message says what is wrong with it."""


class CheckFailedError(BloodcellError):
    """The champion crossed a threshold, or the store has damaged objects; what was found is recorded."""
