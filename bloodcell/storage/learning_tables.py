"""The tables of labels, data sets, retraining and monitoring; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.variants import VARIANTS
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

LABEL_SOURCES: Final = ("csv", "folder", "view")
SPLITS: Final = ("training", "validation", "holdout")
IMAGE_SPLITS: Final = (*SPLITS, "out_of_scope")
TRAINING_STATES: Final = ("running", "skipped", "refused", "rejected", "expired", "promoted", "failed")
CHECKS: Final = (
    "agreement",
    "blind_agreement",
    "unclassified",
    "out_of_scope",
    "class_mix",
    "confidence",
    "novelty",
    "embedding",
)

cell_code = sa.Table(
    "cell_code",
    metadata,
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("class", sa.Text),
    sa.Column("name", sa.Text, nullable=False),
    one_of("class", CELL_CLASSES, "cell_code_class"),
    comment="The analyser's codes that a person may label a cell with; class is empty for those outside the eight "
    "groups.",
)

label = sa.Table(
    "label",
    metadata,
    sa.Column("label_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), nullable=False),
    sa.Column("class", sa.Text),
    sa.Column("sub_label", sa.Text, sa.ForeignKey(f"{SCHEMA}.cell_code.code")),
    sa.Column("labelled_by", sa.Text, nullable=False),
    sa.Column("labelled_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("is_blind", sa.Boolean, nullable=False),
    sa.Column("is_adjudication", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("note", sa.Text),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("run_id", UUID(), sa.ForeignKey(f"{SCHEMA}.run.run_id")),
    set_now("recorded_at"),
    sa.Column("recorded_by", sa.Text, nullable=False, server_default=sa.text("session_user")),
    sa.UniqueConstraint("cell_id", "labelled_by", "labelled_at", name="label_once"),
    one_of("class", CELL_CLASSES, "label_class"),
    one_of("source", LABEL_SOURCES, "label_source"),
    sa.CheckConstraint("class IS NOT NULL OR sub_label IS NOT NULL", name="label_says_something"),
    sa.CheckConstraint("length(trim(labelled_by)) > 0", name="label_has_a_person"),
    sa.CheckConstraint("labelled_at <= recorded_at + interval '5 minutes'", name="label_not_of_the_future"),
    sa.CheckConstraint("labelled_at >= '2000-01-01 00:00:00+00'", name="label_of_this_century"),
    sa.Index("label_adjudication", "cell_id", postgresql_where=sa.text("is_adjudication")),
    comment="What a person says of a cell. Append-only: a correction is a new row. class is empty for a code outside "
    "the eight groups; sub_label is the finer code (SNE, BNE, PMY ...).",
)

label_file = sa.Table(
    "label_file",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("n_rows", sa.Integer, nullable=False),
    sa.Column("n_labels", sa.Integer, nullable=False),
    of_run(is_key=True),
    set_now("seen_at"),
    one_of("outcome", ("imported", "quarantined"), "label_file_outcome"),
    sa.CheckConstraint("(outcome <> 'imported') <= (reason IS NOT NULL)", name="label_file_reason"),
    comment="The ledger of the label inbox: every file by its content, imported or set aside with the reason. One set "
    "aside for cells that are not there is judged again after an ingest: the newest row rules.",
)

data_split = sa.Table(
    "data_split",
    metadata,
    sa.Column("split_key", sa.Text, primary_key=True),
    sa.Column("split", sa.Text, nullable=False),
    sa.Column("is_blind", sa.Boolean, nullable=False),
    of_run(),
    set_now("assigned_at"),
    one_of("split", SPLITS, "data_split_split"),
    comment="The split that a patient's cells belong to, for good; split_key is the patient_key, or slide:<barcode> "
    "where there is none. Append-only.",
)

dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("dataset_digest", sa.String(64), primary_key=True),
    sa.Column("n_training", sa.Integer, nullable=False),
    sa.Column("n_validation", sa.Integer, nullable=False),
    sa.Column("n_holdout", sa.Integer, nullable=False),
    sa.Column("n_out_of_scope", sa.Integer, nullable=False),
    sa.Column("until_label_id", sa.BigInteger, nullable=False),
    sa.Column("left_out", JSONB, nullable=False),
    of_run(),
    set_now("created_at"),
    comment="A snapshot of labelled images, never changed. The digest is over every image, its class and split; "
    "left_out counts labelled cells that are not in it, by reason.",
)

dataset_image = sa.Table(
    "dataset_image",
    metadata,
    sa.Column("dataset_digest", sa.String(64), sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"), primary_key=True),
    sa.Column("sha256", sa.String(64), sa.ForeignKey(f"{SCHEMA}.image.sha256"), primary_key=True),
    sa.Column("split", sa.Text, nullable=False),
    sa.Column("class", sa.Text),
    sa.Column("cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), nullable=False),
    sa.Column("split_key", sa.Text, sa.ForeignKey(f"{SCHEMA}.data_split.split_key"), nullable=False),
    sa.Column("label_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.label.label_id"), nullable=False),
    one_of("split", IMAGE_SPLITS, "dataset_image_split"),
    one_of("class", CELL_CLASSES, "dataset_image_class"),
    sa.CheckConstraint("(split = 'out_of_scope') = (class IS NULL)", name="dataset_image_scope"),
    sa.Index("dataset_image_sha256", "sha256", "split"),
    comment="An image of a data set: its split, its class, and the label that says so. Append-only.",
)

training_run = sa.Table(
    "training_run",
    metadata,
    sa.Column("training_run_id", UUID(), primary_key=True),
    sa.Column("airflow_run", sa.Text),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("variants", ARRAY(sa.Text), nullable=False),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("epochs", sa.Integer),
    sa.Column("min_new_labels", sa.Integer, nullable=False),
    sa.Column("champion_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id")),
    sa.Column("dataset_digest", sa.String(64), sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest")),
    sa.Column("state", sa.Text, nullable=False, server_default="running"),
    sa.Column("state_reason", sa.Text),
    sa.Column("approval", JSONB),
    set_now("requested_at"),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True)),
    one_of("state", TRAINING_STATES, "training_run_state"),
    one_of("base", ("champion", "imagenet", "random"), "training_run_base"),
    comment="One retraining: what was asked, by whom, on which data set, against which champion, and how it ended.",
)

candidate = sa.Table(
    "candidate",
    metadata,
    sa.Column("training_run_id", UUID(), sa.ForeignKey(f"{SCHEMA}.training_run.training_run_id"), primary_key=True),
    sa.Column("variant", sa.Text, primary_key=True),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), nullable=False),
    of_run(),
    set_now("trained_at"),
    one_of("variant", VARIANTS, "candidate_variant"),
    comment="The model that a retraining made of a variant. Append-only.",
)

evaluation = sa.Table(
    "evaluation",
    metadata,
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), primary_key=True),
    sa.Column("dataset_digest", sa.String(64), sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"), primary_key=True),
    sa.Column("n_cells", sa.Integer, nullable=False),
    sa.Column("n_patients", sa.Integer, nullable=False),
    sa.Column("accuracy", sa.Float, nullable=False),
    sa.Column("accuracy_lower", sa.Float, nullable=False),
    sa.Column("accuracy_upper", sa.Float, nullable=False),
    sa.Column("macro_f1", sa.Float, nullable=False),
    sa.Column("calibration_error", sa.Float, nullable=False),
    sa.Column("unclassified", sa.Float, nullable=False),
    sa.Column("figures", JSONB, nullable=False),
    of_run(),
    set_now("evaluated_at"),
    comment="How good a model is on a data set's hold-out; figures has the confusion matrix and each class's "
    "precision, sensitivity and specificity with limits. Append-only.",
)

validation = sa.Table(
    "validation",
    metadata,
    sa.Column("validation_id", UUID(), primary_key=True),
    sa.Column("training_run_id", UUID(), sa.ForeignKey(f"{SCHEMA}.training_run.training_run_id")),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), nullable=False),
    sa.Column("champion_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id")),
    sa.Column("dataset_digest", sa.String(64), sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"), nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("gates", JSONB, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
    of_run(),
    set_now("validated_at"),
    sa.UniqueConstraint("training_run_id", "model_id", name="validation_once"),
    comment="A model judged against the champion on a hold-out: every gate, passed or not, measured, limit and reason; "
    "report is the page in the store. The newest of a model rules. Append-only.",
)

model_check = sa.Table(
    "model_check",
    metadata,
    sa.Column("check_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("class", sa.Text),
    sa.Column("n_cells", sa.Integer, nullable=False),
    sa.Column("measured", sa.Float),
    sa.Column("lower", sa.Float),
    sa.Column("upper", sa.Float),
    sa.Column("limit_value", sa.Float),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("until_label_id", sa.BigInteger, nullable=False),
    sa.Column("since_night", sa.Date),
    sa.Column("until_night", sa.Date),
    of_run(),
    set_now("checked_at"),
    one_of("kind", CHECKS, "model_check_kind"),
    comment="A nightly look at the champion: agreement with new labels, drift from its training reference. "
    "Append-only.",
)

checked_cell = sa.Table(
    "checked_cell",
    metadata,
    sa.Column("model_id", sa.String(64), sa.ForeignKey(f"{SCHEMA}.model.model_id"), primary_key=True),
    sa.Column("cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), primary_key=True),
    sa.Column("label_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.label.label_id"), nullable=False),
    sa.Column("class", sa.Text),
    sa.Column("called_class", sa.Text, nullable=False),
    sa.Column("is_blind", sa.Boolean, nullable=False),
    sa.Column("is_training", sa.Boolean, nullable=False),
    of_run(),
    one_of("class", CELL_CLASSES, "checked_cell_class"),
    comment="A labelled cell that a check compared a model's call with, once each model; class is empty for a label "
    "outside the eight groups. Append-only.",
)
