"""All settings of bloodcell, read once at an entry point and passed in.

Each setting is an environment variable `BLOODCELL_<NAME>`. If the variable is not set, the file `bloodcell_<name>` in
/run/secrets is read instead, which is where a container gets its secrets.

`Settings` is flat: it inherits one group of settings per topic. Nested models would need an alias for every variable
name, and every changed copy would have to be built on two levels. Base classes separate the topics at a lower cost: a
function that needs one topic takes that group, and every `Settings` is an instance of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import platformdirs
from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from bloodcell.desk_settings import DeskSettings
from bloodcell.environment import PREFIX, refuse_unknown_variables, settings_error
from bloodcell.evidence_settings import CheckSettings, GateSettings
from bloodcell.exchange_settings import ExchangeSettings
from bloodcell.retention_settings import RetentionSettings
from bloodcell.served_address import airflow_address
from bloodcell.setting_types import OptionalPath, OptionalSecret, OptionalText, RequiredPath

NIGHT_PATTERN: Final = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
DROP_PATTERN: Final = r"(?P<slide>[^/]+)/(?P<code>[A-Za-z]+)_(?P<number>\d+)[^/]*\.(?i:jpe?g|png|bmp|tiff?)"
_SECRETS: Final = Path("/run/secrets")


def _with_groups(pattern: str, *names: str) -> str:
    """Returns the regular expression if it has these named groups."""
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        raise ValueError(f"expected a regular expression: {error}") from error
    if not groups.issuperset(names):
        expected = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ValueError(f"expected the named groups {expected}, found {sorted(groups) or 'none'}")
    return pattern


class StorageSettings(BaseModel):
    """Where everything is kept."""

    data_dir: RequiredPath = Field(
        default_factory=lambda: platformdirs.user_data_path("bloodcell"),
        description="Folder for everything that bloodcell keeps: embedded Postgres, image store, models, Airflow.",
    )
    database_url: OptionalSecret = Field(
        None, description="SQLAlchemy URL of your Postgres (postgresql+psycopg2://...); default: the embedded one."
    )
    signing_url: OptionalSecret = Field(None, description="database_url with your own login, which signs results.")
    database_patience_s: float = Field(
        60, ge=0, description="Seconds that a stage waits for an unavailable Postgres before it fails and is retried."
    )
    store_url: OptionalText = Field(
        None,
        description="fsspec URL of the image and model store (a folder's path, s3://...); default: <data_dir>/store.",
    )

    @property
    def store(self) -> str:
        """Fsspec URL or path of the content-addressed store."""
        return self.store_url or str(self.data_dir / "store")

    @property
    def plain_database_url(self) -> str | None:
        """SQLAlchemy URL of your Postgres with its password; None if the embedded one is used."""
        return self.database_url.get_secret_value() if self.database_url else None


class InboxSettings(StorageSettings):
    """The folders that other programs write into, and when their content counts as complete."""

    drops_dir: OptionalPath = Field(
        None, description="Folder that the analysers write nights into; default: <data_dir>/drops."
    )
    night_pattern: str = Field(
        NIGHT_PATTERN,
        description="Regular expression for the name of a night's folder, with the named groups year, month and day.",
    )
    drop_pattern: str = Field(
        DROP_PATTERN,
        description="Regular expression for the path of a file inside a night's folder, "
        "with the named groups slide, number and, optionally, code.",
    )
    settle_s: float = Field(
        120,
        ge=0,
        description="Seconds without change after which a slide or a label file counts as completely written.",
    )
    labels_dir: OptionalPath = Field(None, description="Inbox of label files; default: <data_dir>/labels.")
    sample_cells: int = Field(
        20, ge=0, description="Cells of each night that are drawn by chance for blind reading; only these judge models."
    )

    @field_validator("drop_pattern")
    @classmethod
    def _drop_pattern_names_its_groups(cls, pattern: str) -> str:
        return _with_groups(pattern, "slide", "number")

    @field_validator("night_pattern")
    @classmethod
    def _night_pattern_names_its_groups(cls, pattern: str) -> str:
        return _with_groups(pattern, "year", "month", "day")

    @property
    def drops(self) -> Path:
        """Folder that the analysers write nights into."""
        return self.drops_dir or self.data_dir / "drops"

    @property
    def labels(self) -> Path:
        """Inbox of label files."""
        return self.labels_dir or self.data_dir / "labels"


class ImageSettings(BaseModel):
    """Which image files are accepted, and how they are read."""

    max_file_bytes: int = Field(
        20_000_000, ge=1, description="Largest allowed size of an image file in bytes; a larger file is quarantined."
    )
    max_pixels: int = Field(
        4_000_000, ge=1, description="Largest allowed number of pixels in an image; a larger image is quarantined."
    )
    min_side_px: int = Field(
        32, ge=1, description="Shortest allowed side of an image in pixels; a smaller image is quarantined."
    )
    reader_threads: int = Field(
        # with 16 cores, 16 threads were slower than 8 (benchmarks/speed/GPU.md)
        default_factory=lambda: min(os.cpu_count() or 1, 8),
        ge=1,
        description="Threads that read and decode images; default: one per core, eight at most.",
    )


class ModelSettings(BaseModel):
    """Where models come from, and how they are run."""

    shipped_models: bool = Field(
        True, description="Whether an empty database gets bloodcell's own models; false: it waits for yours."
    )
    weights_dir: OptionalPath = Field(
        None,
        description="Folder with ImageNet base weights, for sites without internet; default: Keras downloads them.",
    )
    batch_cells: int = Field(
        32, ge=1, description="Cells in one forward pass; `bloodcell models speed` finds the best number."
    )
    shard_cells: int = Field(4_000, ge=1, description="Approximate number of cells in one classify task.")


class DifferentialSettings(BaseModel):
    """How calls add up to a differential, and what a laboratory makes of it."""

    rules_file: OptionalPath = Field(
        None, description="TOML file with the laboratory's rules (bloodcell rules show); default: bloodcell's own."
    )
    quality_file: OptionalPath = Field(
        None,
        description="TOML file with what holds a night's results (bloodcell quality show); default: bloodcell's own.",
    )


class ScheduleSettings(BaseModel):
    """When Airflow starts the Dags on schedule, and where an alarm goes."""

    nightly_cron: str = Field(
        "0 2 * * *",
        description="Cron expression of the Dag nightly_run, in UTC; empty: it is started only by hand and by `watch`.",
    )
    labels_cron: str = Field(
        "*/30 * * * *",
        description="Cron expression of the Dag import_labels, in UTC; empty: it is started only by hand.",
    )
    retrain_cron: str = Field(
        "0 6 * * 6", description="Cron expression of the Dag retrain, in UTC; empty: it is started only by hand."
    )
    check_cron: str = Field(
        "0 5 * * *", description="Cron expression of the Dag check_champion, in UTC; empty: it is started only by hand."
    )
    clean_cron: str = Field("0 4 * * 0", description="Cron expression of the Dag clean, in UTC; empty: only by hand.")
    verify_cron: str = Field(
        "0 12 * * 0", description="Cron expression of the Dag verify_store, in UTC; empty: it is started only by hand."
    )
    alarm_url: OptionalSecret = Field(
        None, description="Webhook that gets a JSON message when a check of the champion fails; default: none."
    )


class AirflowSettings(StorageSettings):
    """How bloodcell reaches Airflow, and who may approve a model there."""

    airflow_url: str = Field(default_factory=airflow_address, description="Address of Airflow; default: that of `up`.")
    airflow_public_url: OptionalText = Field(
        None,
        description="Address of the reverse proxy on this machine that shows the Airflow of `bloodcell up` to others "
        "(https://...); the proxy's X-Forwarded-For is then believed. Default: there is no proxy.",
    )
    airflow_user: str = Field("admin", description="Airflow user that bloodcell starts runs as.")
    airflow_password_file: OptionalPath = Field(
        None, description="File with that user's password; default: the one that `bloodcell up` generates."
    )
    approvers: str = Field(
        "", description="Airflow users who may approve a model, separated by commas; default: BLOODCELL_AIRFLOW_USER."
    )
    approval_timeout_h: float = Field(
        72, gt=0, description="Hours to wait for an approval; without a decision, the champion stays."
    )

    @property
    def approver_names(self) -> tuple[str, ...]:
        """Airflow users who may approve a model."""
        return tuple(filter(None, (name.strip() for name in self.approvers.split(",")))) or (self.airflow_user,)


class RetrainingSettings(BaseModel):
    """When a retraining starts, and how the labelled patients are split."""

    retrain_min_new_labels: int = Field(
        200, ge=1, description="Number of newly labelled cells below which a retraining is skipped."
    )
    holdout_fraction: float = Field(
        0.25, gt=0, lt=1, description="Share of the patients whose cells are used only to judge models."
    )
    validation_fraction: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Share of the patients whose cells are used for early stopping, calibration and thresholds.",
    )


class WatchSettings(BaseModel):
    """How `bloodcell watch` notices new nights, and where it sends its figures."""

    watch_polling: bool = Field(
        False,
        description="Whether to poll the drops folder instead of using native events; "
        "needed on network shares (NFS, SMB).",
    )
    watch_interval_s: float = Field(
        5, gt=0, description="Seconds between two checks for nights that have become complete."
    )
    metrics_url: OptionalSecret = Field(
        None, description="OTLP/HTTP address to which `watch` pushes its figures once a minute; default: none."
    )


GROUPS: Final = (
    StorageSettings,
    InboxSettings,
    ImageSettings,
    ModelSettings,
    DifferentialSettings,
    ScheduleSettings,
    RetrainingSettings,
    GateSettings,
    CheckSettings,
    AirflowSettings,
    DeskSettings,
    WatchSettings,
    ExchangeSettings,
    RetentionSettings,
)
"""The groups of settings, in the order in which they are documented."""


class Settings(
    RetentionSettings,
    ExchangeSettings,
    WatchSettings,
    DeskSettings,
    AirflowSettings,
    CheckSettings,
    GateSettings,
    RetrainingSettings,
    ScheduleSettings,
    DifferentialSettings,
    ModelSettings,
    ImageSettings,
    InboxSettings,
    BaseSettings,
):
    """All settings of one process, frozen.

    Raises:
        SettingError: A variable BLOODCELL_* has a value that is not allowed, or does not name a setting.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
    )

    @property
    def users_file(self) -> Path:
        """File with the people of the review desk who log in with a password of its own."""
        return self.desk_users_file or self.data_dir / "desk" / "users.json"

    @property
    def identity_keys(self) -> Path:
        """Folder with the keys of what orders say of patients."""
        return self.identity_keys_dir or self.data_dir / "identity-keys"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with some settings changed, whose new values are validated like those of the environment.

        Args:
            update: Name of a setting -> its new value; None restores the default of an optional setting.
            deep: Has no effect, since settings are immutable.

        Raises:
            SettingError: A value is not allowed, or a name is not that of a setting.
        """
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**kept | dict(update or {}))

    def as_variables(self) -> dict[str, str]:
        """Returns the environment variables that give another process these settings, secrets included."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"{PREFIX}{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in values.items()
            if value is not None
        }

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_by_name(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Turns everything that is wrong into one error that names the variables and never shows a secret."""
        refuse_unknown_variables(cls.model_fields)
        try:
            return handler(values)
        except ValidationError as error:
            raise settings_error(error, cls.model_fields) from None
