"""The tables of schema `bloodcell`, one object each; docs beside each say what a row means.

`sql/versions` makes them, this module is what the library reads and writes through; a test holds the two together.
Those of labels and retraining are declared in `learning_tables` and used from here as well.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.cells.variants import VARIANTS
from bloodcell.storage.learning_tables import (
    candidate,
    cell_code,
    checked_cell,
    data_split,
    dataset,
    dataset_image,
    evaluation,
    label,
    label_file,
    model_check,
    training_run,
    validation,
)
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

__all__ = [
    "SCHEMA",
    "candidate",
    "cell",
    "cell_call",
    "cell_code",
    "checked_cell",
    "data_split",
    "dataset",
    "dataset_image",
    "differential",
    "drop",
    "drop_file",
    "drop_file_history",
    "evaluation",
    "image",
    "label",
    "label_file",
    "metadata",
    "model",
    "model_check",
    "promotion",
    "run",
    "slide",
    "slide_report",
    "training_run",
    "validation",
]

RUN_STATES: Final = ("running", "succeeded", "failed")
FILE_OUTCOMES: Final = ("cell", "duplicate", "quarantined", "ignored")
SLIDE_RECORD_STATES: Final = ("read", "absent", "unreadable")
UNCLASSIFIED_REASONS: Final = ("low_confidence", "novel")

run = sa.Table(
    "run",
    metadata,
    sa.Column("run_id", UUID(), primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("night", sa.Date),
    sa.Column("state", sa.Text, nullable=False, server_default="running"),
    set_now("started_at"),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("airflow_run", sa.Text),
    sa.Column("n_cells", sa.Integer),
    sa.Column("detail", JSONB),
    sa.Column("error", sa.Text),
    one_of("state", RUN_STATES, "run_state"),
    comment="One execution of a stage: which code, where, when, and how it ended.",
)

drop = sa.Table(
    "drop",
    metadata,
    sa.Column("night", sa.Date, primary_key=True),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("completed_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("folders_changed_ns", sa.BigInteger),
    set_now("first_seen_at"),
    of_run(),
    comment="One night's folder from the analysers; completed_at is set once every slide of it was read, "
    "folders_changed_ns says of which state of the folder that is true.",
)

slide = sa.Table(
    "slide",
    metadata,
    sa.Column("slide_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("barcode", sa.Text, nullable=False, unique=True),
    sa.Column("night", sa.Date, sa.ForeignKey(f"{SCHEMA}.drop.night"), nullable=False, index=True),
    sa.Column("order_id", sa.Text),
    sa.Column("analyser", sa.Text),
    sa.Column("patient_key", sa.Text, index=True),
    sa.Column("acquired_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("record_state", sa.Text, nullable=False),
    of_run(),
    one_of("record_state", SLIDE_RECORD_STATES, "slide_record_state"),
    comment="One smear, named by its barcode; night is the first night that brought cells of it.",
)

image = sa.Table(
    "image",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("width_px", sa.Integer, nullable=False),
    sa.Column("height_px", sa.Integer, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    set_now("stored_at"),
    comment="One stored image file; its bytes lie in the store under its digest.",
)

cell = sa.Table(
    "cell",
    metadata,
    sa.Column("cell_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("night", sa.Date, sa.ForeignKey(f"{SCHEMA}.drop.night"), nullable=False, index=True),
    sa.Column("sha256", sa.String(64), sa.ForeignKey(f"{SCHEMA}.image.sha256"), nullable=False, index=True),
    sa.Column("analyser_code", sa.Text),
    sa.Column("analyser_class", sa.Text),
    of_run(),
    sa.UniqueConstraint("slide_id", "file_name", name="cell_once_per_file"),
    sa.UniqueConstraint("slide_id", "sha256", name="cell_once_per_image"),
    sa.UniqueConstraint("cell_id", "night", name="cell_and_night"),
    one_of("analyser_class", CELL_CLASSES, "cell_analyser_class"),
    comment="One image of one cell of a slide. The analyser's code is kept and compared with, never fed to a model.",
)

drop_file = sa.Table(
    "drop_file",
    metadata,
    sa.Column("night", sa.Date, sa.ForeignKey(f"{SCHEMA}.drop.night"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("barcode", sa.Text),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("detail", sa.Text),
    sa.Column("cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), index=True),
    sa.Column("sha256", sa.String(64)),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("changed_ns", sa.BigInteger, nullable=False),
    of_run(),
    set_now("first_seen_at"),
    set_now("updated_at"),
    one_of("outcome", FILE_OUTCOMES, "drop_file_outcome"),
    sa.CheckConstraint("(outcome IN ('cell', 'duplicate')) <= (cell_id IS NOT NULL)", name="drop_file_cell"),
    sa.CheckConstraint("(outcome <> 'cell') <= (reason IS NOT NULL)", name="drop_file_reason"),
    sa.Index("drop_file_barcode", "barcode"),
    sa.Index("drop_file_set_aside", "night", postgresql_where=sa.text("outcome = 'quarantined'")),
    comment="The ledger: every file of a night's folder, accounted for exactly once. path is relative to the folder.",
)

drop_file_history = sa.Table(
    "drop_file_history",
    metadata,
    sa.Column("night", sa.Date, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("detail", sa.Text),
    sa.Column("sha256", sa.String(64)),
    sa.Column("run_id", UUID(), nullable=False),
    sa.Column("replaced_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Index("drop_file_history_path", "night", "path"),
    comment="What the ledger said before a file was judged again. Written by a trigger, never changed.",
)

model = sa.Table(
    "model",
    metadata,
    sa.Column("model_id", sa.String(64), primary_key=True),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("confidence_threshold", sa.Float, nullable=False),
    sa.Column("novelty_threshold", sa.Float, nullable=False),
    sa.Column("manifest", JSONB, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    set_now("registered_at"),
    sa.Column("registered_by", sa.Text, nullable=False),
    one_of("variant", VARIANTS, "model_variant"),
    comment="One registered bundle; model_id is the digest of its bundle.json. Append-only.",
)

promotion = sa.Table(
    "promotion",
    metadata,
    sa.Column("promotion_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("promoted_by", sa.Text, nullable=False),
    set_now("promoted_at"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    one_of("action", ("promote", "rollback"), "promotion_action"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="promotion_reason"),
    comment="Which model became champion, who said so, when, why, on what evidence. Append-only; the last row rules.",
)

cell_call = sa.Table(
    "cell_call",
    metadata,
    sa.Column("cell_id", sa.BigInteger),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id")),
    sa.Column("night", sa.Date),
    sa.Column("called_class", sa.Text, nullable=False),
    sa.Column("top_class", sa.Text, nullable=False),
    sa.Column("unclassified_reason", sa.Text),
    sa.Column("confidence", sa.REAL, nullable=False),
    sa.Column("novelty", sa.REAL, nullable=False),
    *(sa.Column(f"p_{cell_class}", sa.REAL, nullable=False) for cell_class in CELL_CLASSES),
    of_run(),
    set_now("called_at"),
    # night first: the same index finds one cell's calls and all calls of a night
    sa.PrimaryKeyConstraint("night", "cell_id", "model_id"),
    sa.ForeignKeyConstraint(["cell_id", "night"], [f"{SCHEMA}.cell.cell_id", f"{SCHEMA}.cell.night"]),
    one_of("called_class", (*CELL_CLASSES, UNCLASSIFIED), "cell_call_class"),
    one_of("top_class", CELL_CLASSES, "cell_call_top_class"),
    one_of("unclassified_reason", UNCLASSIFIED_REASONS, "cell_call_reason"),
    sa.CheckConstraint("(called_class = 'unclassified') = (unclassified_reason IS NOT NULL)", name="cell_call_why"),
    sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="cell_call_confidence"),
    comment="What one model says of one cell. Partitioned by month of the night.",
    postgresql_partition_by="RANGE (night)",
)

differential = sa.Table(
    "differential",
    metadata,
    sa.Column("slide_id", sa.BigInteger, primary_key=True),
    sa.Column("model_id", sa.String(64), primary_key=True),
    sa.Column("class", sa.Text, primary_key=True),
    sa.Column("n_cells", sa.Integer, nullable=False),
    sa.Column("percentage", sa.Float),
    sa.Column("lower", sa.Float),
    sa.Column("upper", sa.Float),
    sa.Column("flag", sa.Text),
    sa.ForeignKeyConstraint(
        ["slide_id", "model_id"],
        [f"{SCHEMA}.slide_report.slide_id", f"{SCHEMA}.slide_report.model_id"],
        ondelete="CASCADE",
    ),
    one_of("class", (*CELL_CLASSES, UNCLASSIFIED), "differential_class"),
    comment="A slide's count by class and model; percentage of leucocytes with exact 95 % limits for the six groups.",
)

slide_report = sa.Table(
    "slide_report",
    metadata,
    sa.Column("slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), primary_key=True),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), primary_key=True),
    sa.Column("n_cells", sa.Integer, nullable=False),
    sa.Column("n_leucocytes", sa.Integer, nullable=False),
    sa.Column("n_unclassified", sa.Integer, nullable=False),
    sa.Column("is_sufficient", sa.Boolean, nullable=False),
    sa.Column("nrbc_per_100_wbc", sa.Float),
    sa.Column("nrbc_lower", sa.Float),
    sa.Column("nrbc_upper", sa.Float),
    sa.Column("n_compared", sa.Integer, nullable=False),
    sa.Column("n_agree", sa.Integer, nullable=False),
    of_run(),
    set_now("written_at"),
    comment="What a slide's calls by one model add up to; n_compared and n_agree: against the analyser's own class.",
)
