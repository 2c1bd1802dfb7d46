"""The tables of models, promotions and calls; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES, UNCLASSIFIED
from bloodcell.cells.variants import VARIANTS
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

UNCLASSIFIED_REASONS: Final = ("low_confidence", "novel")

model = sa.Table(
    "model",
    metadata,
    sa.Column("model_id", sa.String(64), primary_key=True, comment="Digest of the bundle's bundle.json."),
    sa.Column("variant", sa.Text, nullable=False, comment="Kind of model."),
    sa.Column(
        "confidence_threshold", sa.Float, nullable=False, comment="A cell with a lower confidence stays unclassified."
    ),
    sa.Column(
        "novelty_threshold", sa.Float, nullable=False, comment="A cell with a higher novelty stays unclassified."
    ),
    sa.Column("manifest", JSONB, nullable=False, comment="The whole bundle.json."),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When the model was trained."),
    set_now("registered_at", "When the model was registered in this database."),
    sa.Column("registered_by", sa.Text, nullable=False, comment="Who registered it."),
    one_of("variant", VARIANTS, "model_variant"),
    comment="One registered bundle. Append-only.",
)

promotion = sa.Table(
    "promotion",
    metadata,
    sa.Column(
        "promotion_id",
        sa.BigInteger,
        sa.Identity(always=True),
        primary_key=True,
        comment="Key of the promotion; the highest one names the champion.",
    ),
    sa.Column(
        "model_id",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.model.model_id"),
        nullable=False,
        comment="The model that became champion.",
    ),
    sa.Column("action", sa.Text, nullable=False, comment="promote, or rollback to the previous champion."),
    sa.Column(
        "promoted_by",
        sa.Text,
        nullable=False,
        comment="Who decided, as the command says; for a retraining, the login that Airflow authenticated.",
    ),
    set_now("promoted_at", "When the model became champion."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in the words of the person who decided."),
    sa.Column(
        "evidence",
        JSONB,
        nullable=False,
        server_default=sa.text("'{}'::jsonb"),
        comment="What the decision rests on; for a retraining, its gates, approval and report.",
    ),
    sa.Column(
        "recorded_by",
        sa.Text,
        server_default=sa.text("session_user"),
        comment="Login that wrote the row; empty before schema 0005.",
    ),
    one_of("action", ("promote", "rollback"), "promotion_action"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="promotion_reason"),
    comment="Which model became champion, when, who decided it, why and on what evidence. Append-only; the last row "
    "counts.",
)

cell_call = sa.Table(
    "cell_call",
    metadata,
    sa.Column("cell_id", sa.BigInteger, comment="The cell that was called."),
    sa.Column(
        "model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), comment="The model that called it."
    ),
    sa.Column("night", sa.Date, comment="Night of the cell, by which the table is partitioned."),
    sa.Column("called_class", sa.Text, nullable=False, comment="The cell class called, or unclassified."),
    sa.Column("top_class", sa.Text, nullable=False, comment="The most probable class, even if unclassified."),
    sa.Column("unclassified_reason", sa.Text, comment="Why the cell is unclassified: low_confidence or novel."),
    sa.Column("confidence", sa.REAL, nullable=False, comment="Calibrated probability of top_class, 0 to 1."),
    sa.Column("novelty", sa.REAL, nullable=False, comment="How unlike the training cells it is, on the model's scale."),
    *(
        sa.Column(f"p_{cell_class}", sa.REAL, nullable=False, comment=f"Calibrated probability of {cell_class}.")
        for cell_class in CELL_CLASSES
    ),
    of_run("The run that called the cell."),
    set_now("called_at", "When the cell was called."),
    sa.Column("resembles", sa.Text, comment="Code out of scope that a novel cell resembles, if the model knows one."),
    # night first: the same index finds one cell's calls and all calls of a night
    sa.PrimaryKeyConstraint("night", "cell_id", "model_id"),
    sa.ForeignKeyConstraint(["cell_id", "night"], [f"{SCHEMA}.cell.cell_id", f"{SCHEMA}.cell.night"]),
    one_of("called_class", (*CELL_CLASSES, UNCLASSIFIED), "cell_call_class"),
    one_of("top_class", CELL_CLASSES, "cell_call_top_class"),
    one_of("unclassified_reason", UNCLASSIFIED_REASONS, "cell_call_reason"),
    sa.CheckConstraint(
        "(called_class = 'unclassified') = (unclassified_reason IS NOT NULL)", name="cell_call_unclassified"
    ),
    sa.CheckConstraint("resembles IS NULL OR unclassified_reason = 'novel'", name="cell_call_resembles"),
    sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="cell_call_confidence"),
    comment="What one model says of one cell, the newest if it was asked again. Partitioned by the month of the night. "
    "Append-only: a redo moves what it replaces to former_call.",
    postgresql_partition_by="RANGE (night)",
)

# a plain copy, whose rows replace_calls moves here
former_call = sa.Table(
    "former_call",
    metadata,
    *(
        sa.Column(column.name, column.type, nullable=False, comment=column.comment)
        if column.name != "unclassified_reason"
        else sa.Column(column.name, column.type, comment=column.comment)
        for column in cell_call.columns
        if column.name != "resembles"
    ),
    sa.Column("replaced_by", UUID(), nullable=False, comment="The run whose calls replaced them."),
    set_now("replaced_at", "When they were replaced."),
    sa.Column("resembles", sa.Text, comment=cell_call.c.resembles.comment),
    sa.PrimaryKeyConstraint("night", "cell_id", "model_id", "replaced_by"),
    sa.ForeignKeyConstraint(["cell_id", "night"], [f"{SCHEMA}.cell.cell_id", f"{SCHEMA}.cell.night"]),
    sa.ForeignKeyConstraint(["model_id"], [f"{SCHEMA}.model.model_id"]),
    sa.ForeignKeyConstraint(["run_id"], [f"{SCHEMA}.run.run_id"]),
    sa.ForeignKeyConstraint(["replaced_by"], [f"{SCHEMA}.run.run_id"]),
    comment="Calls that a redo has replaced. Append-only.",
)
