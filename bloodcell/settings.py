"""All settings of bloodcell, read once at an entry point and passed in.

Each setting is an environment variable `BLOODCELL_<NAME>`. Where a container gets its secrets as files, the file
`bloodcell_<name>` in /run/secrets is read if the variable is not set.

`Settings` is flat and composed of one group per topic. Nested models would have to map every variable name back by an
alias, and every changed copy would need two levels; a base class gives the same separation for less: a function that
needs one topic takes that group, and every `Settings` is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import platformdirs
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from bloodcell.environment import PREFIX, refuse_unknown_variables, settings_error

DROP_PATTERN: Final = r"(?P<slide>[^/]+)/(?P<code>[A-Za-z]+)_(?P<number>\d+)[^/]*\.(?i:jpe?g|png|bmp|tiff?)"
_SECRETS: Final = Path("/run/secrets")


def _not_empty(value: object) -> object:
    if value == "":  # a Path of it would be the current folder
        raise ValueError("expected a value, but the variable is empty")
    return value


OptionalPath = Annotated[Path | None, BeforeValidator(_not_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_not_empty)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_not_empty)]


class StorageSettings(BaseModel):
    """Where everything is kept."""

    data_dir: Annotated[Path, BeforeValidator(_not_empty)] = Field(
        default_factory=lambda: platformdirs.user_data_path("bloodcell"),
        description="Folder of everything bloodcell keeps: embedded Postgres, image store, models, Airflow.",
    )
    database_url: OptionalSecret = Field(
        None, description="SQLAlchemy URL of your Postgres (postgresql+psycopg2://...); default: embedded Postgres."
    )
    database_patience_s: float = Field(
        60, ge=0, description="Seconds a stage waits for a Postgres that went away before it fails and is retried."
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
        """SQLAlchemy URL of your Postgres with its password; None where the embedded one is used."""
        return self.database_url.get_secret_value() if self.database_url else None


class InboxSettings(StorageSettings):
    """The folders that other programs write into, and when their content counts as complete."""

    drops_dir: OptionalPath = Field(
        None, description="Folder that the analysers write nights into; default: <data_dir>/drops."
    )
    drop_pattern: str = Field(
        DROP_PATTERN,
        description="Regular expression for the path of a file inside a night; "
        "named groups slide, number and, optionally, code.",
    )
    settle_s: float = Field(
        120,
        ge=0,
        description="Seconds without change after which a slide or a label file counts as completely written.",
    )
    labels_dir: OptionalPath = Field(None, description="Inbox of label files; default: <data_dir>/labels.")

    @field_validator("drop_pattern")
    @classmethod
    def _pattern_names_its_groups(cls, pattern: str) -> str:
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"expected a regular expression: {error}") from error
        if not {"slide", "number"} <= groups:
            raise ValueError(f"expected the named groups slide and number, found {sorted(groups) or 'none'}")
        return pattern

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
        20_000_000, ge=1, description="Largest size of a cell's file in bytes; a larger one is quarantined."
    )
    max_pixels: int = Field(
        4_000_000, ge=1, description="Largest number of pixels of a cell's image; a larger one is quarantined."
    )
    min_side_px: int = Field(
        32, ge=1, description="Shortest side of a cell's image in pixels; a smaller one is quarantined."
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
        True,
        description="Whether an empty database gets the models that come with bloodcell; false: it waits for yours.",
    )
    weights_dir: OptionalPath = Field(
        None,
        description="Folder with ImageNet base weights, for sites without internet; default: Keras downloads them.",
    )
    batch_cells: int = Field(
        32, ge=1, description="Cells in one forward pass; `bloodcell models speed` measures the best number."
    )
    shard_cells: int = Field(4_000, ge=1, description="Approximate number of cells in one classify task.")


class DifferentialSettings(BaseModel):
    """How calls add up to a differential."""

    min_leucocytes: int = Field(
        100, ge=1, description="Leucocytes below which a differential is flagged 'insufficient count'."
    )


class GateSettings(BaseModel):
    """What a candidate model has to show on the hold-out before a person is asked to approve it."""

    gate_accuracy_margin: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Largest loss of hold-out accuracy that the 95 % interval of the difference may include.",
    )
    gate_first_accuracy: float = Field(
        0.8, ge=0, le=1, description="Lower end of the 95 % interval of hold-out accuracy that a first champion needs."
    )
    gate_class_margin: float = Field(
        0.05, ge=0, lt=1, description="Largest loss of a cell class's hold-out sensitivity that is allowed."
    )
    gate_max_calibration_error: float = Field(
        0.05, gt=0, le=1, description="Largest expected calibration error (ECE) on the hold-out."
    )
    gate_unclassified_margin: float = Field(
        0.05, ge=0, lt=1, description="Largest rise in the share of unclassified hold-out cells that is allowed."
    )
    gate_min_holdout_cells: int = Field(
        10, ge=1, description="Hold-out cells of each cell class without which a candidate cannot be judged."
    )
    gate_min_holdout_patients: int = Field(
        5, ge=2, description="Hold-out patients without which a candidate cannot be judged."
    )


class CheckSettings(BaseModel):
    """When the champion's nightly check raises an alarm, and where the alarm goes."""

    check_min_cells: int = Field(
        50, ge=1, description="Cells without which a nightly check of the champion gives no result."
    )
    check_min_agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Agreement with new labels below which the whole 95 % interval may not lie.",
    )
    check_max_psi: float = Field(
        0.25,
        gt=0,
        description="Largest population stability index of class mix, confidence and novelty against validation.",
    )
    # measured with the four shipped models on 400 unseen PBC images: changes that hardly move a call (10 degrees of
    # hue, a sixth of light, a third of colour, 1 px of blur, JPEG quality 50) gave 0.00 to 0.05; changes that leave
    # many cells unclassified (20 degrees of hue, half of the colour, 2 px of blur, a tenth off centre) 0.03 to 0.2;
    # a wrong stain 0.2 to 0.6
    check_max_mmd: float = Field(
        0.05, gt=0, description="Largest maximum mean discrepancy (squared) of embeddings against validation."
    )
    alarm_url: OptionalSecret = Field(
        None, description="Webhook that gets a JSON message when a check of the champion fails; default: none."
    )


class ScheduleSettings(BaseModel):
    """When the Dags run by themselves."""

    nightly_cron: str = Field(
        "0 2 * * *", description="Cron of the Dag nightly_run, in UTC; empty: started only by hand and by `watch`."
    )
    labels_cron: str = Field(
        "*/30 * * * *", description="Cron of the Dag import_labels, in UTC; empty: started only by hand."
    )
    retrain_cron: str = Field("0 6 * * 6", description="Cron of the Dag retrain, in UTC; empty: started only by hand.")
    check_cron: str = Field(
        "0 5 * * *", description="Cron of the Dag check_champion, in UTC; empty: started only by hand."
    )


class AirflowSettings(StorageSettings):
    """How bloodcell reaches Airflow, and who may approve a model there."""

    airflow_url: str = Field("http://127.0.0.1:8080", description="Address of Airflow's API server.")
    airflow_user: str = Field("admin", description="Airflow user as whom bloodcell starts runs.")
    airflow_password_file: OptionalPath = Field(
        None, description="File with that user's password; default: the one that `bloodcell up` generates."
    )
    approvers: str = Field(
        "", description="Airflow users who may approve a model, separated by commas; default: BLOODCELL_AIRFLOW_USER."
    )
    approval_timeout_h: float = Field(
        72, gt=0, description="Hours to wait for an approval; without an answer the champion stays."
    )

    @property
    def approver_names(self) -> tuple[str, ...]:
        """Airflow users who may approve a model."""
        return tuple(filter(None, (name.strip() for name in self.approvers.split(",")))) or (self.airflow_user,)


class RetrainingSettings(BaseModel):
    """When a retraining starts, and how the labelled patients are split."""

    retrain_min_new_labels: int = Field(
        200, ge=1, description="Newly labelled cells without which a retraining is skipped."
    )
    holdout_fraction: float = Field(
        0.25, gt=0, lt=1, description="Share of the patients whose cells are used only to judge models."
    )
    validation_fraction: float = Field(
        0.15, gt=0, lt=1, description="Share of the patients for early stopping, calibration and thresholds."
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
    WatchSettings,
)
"""The groups of settings, in the order in which they are documented."""


class Settings(
    WatchSettings,
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
        SettingError: A variable BLOODCELL_* has a value that is not allowed, or is the name of no setting.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with some settings changed, which are validated as those of the environment are.

        Args:
            update: Name of a setting -> its new value; None restores the default of an optional one.
            deep: Without effect, since settings are immutable.

        Raises:
            SettingError: A value is not allowed, or a name is that of no setting.
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
        """Turns what is wrong into one error that names the variables, and never shows a secret."""
        refuse_unknown_variables(cls.model_fields)
        try:
            return handler(values)
        except ValidationError as error:
            raise settings_error(error, cls.model_fields) from None
