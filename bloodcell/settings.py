"""All settings of bloodcell, read once at an entry point and passed in.

Each is an environment variable `BLOODCELL_<NAME>`; the page of settings is made of the descriptions. Where containers
are given secrets as files, a file `bloodcell_<name>` among them is read where the variable is not set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRETS = Path("/run/secrets")
DROP_PATTERN = r"(?P<slide>[^/]+)/(?P<code>[A-Za-z]+)_(?P<number>\d+)[^/]*\.(?i:jpe?g|png|bmp|tiff?)"


class Settings(BaseSettings):
    """Settings of one process, frozen."""

    model_config = SettingsConfigDict(
        env_prefix="BLOODCELL_", frozen=True, extra="ignore", secrets_dir=SECRETS if SECRETS.is_dir() else None
    )

    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("bloodcell"),
        description="Folder of everything bloodcell keeps: embedded Postgres, image store, models, Airflow.",
    )
    drops_dir: Path | None = Field(
        None, description="Folder the analysers write nights into; default <data_dir>/drops."
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of your Postgres (postgresql+psycopg2://...); default: embedded Postgres."
    )
    store_url: str | None = Field(
        None, description="fsspec URL of the image and model store (file path, s3://...); default <data_dir>/store."
    )
    weights_dir: Path | None = Field(
        None, description="Folder with ImageNet base weights, for sites without internet; default: Keras downloads."
    )
    shipped_models: bool = Field(
        True,
        description="A database without any model gets the ones that come with bloodcell; false: it waits for yours.",
    )

    drop_pattern: str = Field(
        DROP_PATTERN,
        description="Regular expression for a file's path inside a night; groups slide, number and, optional, code.",
    )
    settle_s: float = Field(
        120, ge=0, description="Seconds without change after which a slide counts as completely written."
    )
    max_file_bytes: int = Field(20_000_000, ge=1, description="Largest cell file in bytes; larger is quarantined.")
    max_pixels: int = Field(4_000_000, ge=1, description="Largest cell image in pixels; larger is quarantined.")
    min_side_px: int = Field(32, ge=1, description="Smallest side of a cell image in pixels; smaller is quarantined.")
    reader_threads: int = Field(
        default_factory=lambda: min(
            os.cpu_count() or 1, 8
        ),  # 16 were slower than 8 on 16 cores: benchmarks/speed/GPU.md
        ge=1,
        description="Threads that read and decode images; default: the number of cores, eight at most.",
    )

    batch_cells: int = Field(32, ge=1, description="Cells per forward pass; `bloodcell models speed` says how many.")
    shard_cells: int = Field(4_000, ge=1, description="Cells per Airflow classify task, about.")
    min_leucocytes: int = Field(
        100, ge=1, description="Leucocytes below which a differential says 'insufficient count'."
    )

    database_patience_s: float = Field(
        60, ge=0, description="Seconds a stage waits for a Postgres that went away, before it fails and is retried."
    )
    nightly_cron: str = Field(
        "0 2 * * *", description="Cron of the Dag nightly_run, in UTC; empty: only by hand and watch."
    )
    labels_dir: Path | None = Field(None, description="Inbox of label files; default <data_dir>/labels.")
    labels_cron: str = Field("*/30 * * * *", description="Cron of the Dag import_labels, in UTC; empty: only by hand.")

    retrain_cron: str = Field("0 6 * * 6", description="Cron of the Dag retrain, in UTC; empty: only by hand.")
    retrain_min_new_labels: int = Field(
        200, ge=1, description="Newly labelled cells without which a retraining is skipped."
    )
    holdout_fraction: float = Field(
        0.25, gt=0, lt=1, description="Share of patients whose cells judge models and never train one."
    )
    validation_fraction: float = Field(
        0.15, gt=0, lt=1, description="Share of patients for early stopping, calibration and thresholds."
    )
    approvers: str = Field(
        "", description="Airflow users who may approve a model, separated by commas; default: BLOODCELL_AIRFLOW_USER."
    )
    approval_timeout_h: float = Field(
        72, gt=0, description="Hours an approval is waited for; without an answer the champion stays."
    )
    gate_accuracy_margin: float = Field(
        0.01, ge=0, lt=1, description="Loss of hold-out accuracy that the lower 95 % limit of the difference may show."
    )
    gate_first_accuracy: float = Field(
        0.8, ge=0, le=1, description="Lower 95 % limit of hold-out accuracy that a first champion needs."
    )
    gate_class_margin: float = Field(
        0.05, ge=0, lt=1, description="Loss of a class's hold-out sensitivity that is let pass."
    )
    gate_max_calibration_error: float = Field(
        0.05, gt=0, le=1, description="Largest expected calibration error (ECE) on the hold-out."
    )
    gate_unclassified_margin: float = Field(
        0.05, ge=0, lt=1, description="Rise of the share of unclassified hold-out cells that is let pass."
    )
    gate_min_holdout_cells: int = Field(10, ge=1, description="Hold-out cells of each class that a judgement needs.")
    gate_min_holdout_patients: int = Field(5, ge=2, description="Hold-out patients that a judgement needs.")

    check_cron: str = Field("0 5 * * *", description="Cron of the Dag check_champion, in UTC; empty: only by hand.")
    check_min_cells: int = Field(50, ge=1, description="Cells without which a nightly check says nothing.")
    check_min_agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Champion's agreement with new labels whose upper 95 % limit may not be below this.",
    )
    check_max_psi: float = Field(
        0.25,
        gt=0,
        description="Largest population stability index of class mix, confidence and novelty against validation.",
    )
    # measured with the four shipped models on 400 unseen PBC images: what hardly changes a call (10 degrees of hue, a
    # sixth of light, a third of colour, 1 px of blur, JPEG quality 50) 0.00 to 0.05; what leaves many cells without one
    # (20 degrees of hue, half of the colour, 2 px of blur, a tenth off centre) 0.03 to 0.2; a wrong stain 0.2 to 0.6
    check_max_mmd: float = Field(
        0.05, gt=0, description="Largest maximum mean discrepancy (squared) of embeddings against validation."
    )
    alarm_url: str | None = Field(
        None, description="Webhook that gets a JSON message when a check of the champion fails; default: none."
    )

    metrics_url: str | None = Field(
        None, description="OTLP/HTTP address that `watch` pushes its figures to once a minute; default: none."
    )
    watch_polling: bool = Field(
        False, description="Poll the drops folder instead of native events: needed on network shares (NFS, SMB)."
    )
    watch_interval_s: float = Field(5, gt=0, description="Seconds between two looks for nights that became complete.")
    airflow_url: str = Field("http://127.0.0.1:8080", description="Address of Airflow's API server.")
    airflow_user: str = Field("admin", description="Airflow user that `watch` and `demo` trigger runs as.")
    airflow_password_file: Path | None = Field(
        None, description="File with that user's password; default: the one `bloodcell up` generates."
    )

    @field_validator(
        "data_dir",
        "drops_dir",
        "weights_dir",
        "airflow_password_file",
        "labels_dir",
        "store_url",
        "database_url",
        "alarm_url",
        "metrics_url",
        mode="before",
    )
    @classmethod
    def _not_empty(cls, value: object) -> object:
        if value == "":  # a Path of it would be the current folder
            raise ValueError("is set and empty: unset it for the default")
        return value

    @field_validator("drop_pattern")
    @classmethod
    def _pattern_names_its_groups(cls, pattern: str) -> str:
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if not {"slide", "number"} <= groups:
            raise ValueError(f"needs the named groups slide and number, has: {sorted(groups)}")
        return pattern

    @property
    def drops(self) -> Path:
        """Folder the analysers write nights into."""
        return self.drops_dir or self.data_dir / "drops"

    @property
    def labels(self) -> Path:
        """Inbox of label files."""
        return self.labels_dir or self.data_dir / "labels"

    @property
    def approver_names(self) -> tuple[str, ...]:
        """Airflow users who may approve a model."""
        return tuple(filter(None, (name.strip() for name in self.approvers.split(",")))) or (self.airflow_user,)

    @property
    def store(self) -> str:
        """Fsspec URL or path of the content-addressed store."""
        return self.store_url or str(self.data_dir / "store")
