"""The settings of `bloodcell clean`, a group of `bloodcell.settings`."""

from __future__ import annotations

from pydantic import BaseModel, Field


class RetentionSettings(BaseModel):
    """What `bloodcell clean` removes, and at what age. By default it removes nothing."""

    keep_images_days: int | None = Field(
        None,
        ge=30,
        description="Days for which the bytes of an image are kept, unless its cell has a label or waits for a call; "
        "default: for ever.",
    )
    keep_logs_days: int | None = Field(
        None, ge=1, description="Days for which the logs of Airflow's tasks are kept; default: for ever."
    )
    keep_airflow_days: int | None = Field(
        None,
        ge=7,
        description="Days for which Airflow's own tables keep runs, tasks, XComs and events (airflow db clean); "
        "default: for ever.",
    )
    keep_features_days: int | None = Field(
        None,
        ge=1,
        description="Days for which features and checkpoints are kept that no training has used; default: for ever.",
    )
    keep_snapshots_days: int | None = Field(
        None,
        ge=1,
        description="Days for which the image list of a snapshot is kept on which no model was trained or judged; "
        "default: for ever.",
    )
