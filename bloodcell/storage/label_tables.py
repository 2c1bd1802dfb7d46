"""The tables of labels, the split of patients and data sets; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

LABEL_SOURCES: Final = ("csv", "folder", "view", "desk")
SPLITS: Final = ("training", "validation", "holdout", "lockbox")
IMAGE_SPLITS: Final = (*SPLITS, "out_of_scope")

cell_code = sa.Table(
    "cell_code",
    metadata,
    sa.Column("code", sa.Text, primary_key=True, comment="The analyser's code, in upper case."),
    sa.Column("class", sa.Text, comment="Cell class of the code; empty for a code out of scope."),
    sa.Column("name", sa.Text, nullable=False, comment="What the code means."),
    sa.Column(
        "sub_label",
        sa.Text,
        comment="The code itself if labels keep it because it is finer than its class or out of scope; else empty.",
    ),
    one_of("class", CELL_CLASSES, "cell_code_class"),
    sa.CheckConstraint("sub_label = code", name="cell_code_sub_label"),
    sa.CheckConstraint("class IS NOT NULL OR sub_label IS NOT NULL", name="cell_code_not_empty"),
    comment="The analyser's codes that a person may label a cell with. Append-only.",
)

label = sa.Table(
    "label",
    metadata,
    sa.Column("label_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the label."),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        nullable=False,
        comment="The cell that was labelled.",
    ),
    sa.Column("class", sa.Text, comment="The cell class; empty for a code out of scope."),
    sa.Column(
        "sub_label",
        sa.Text,
        sa.ForeignKey(f"{SCHEMA}.cell_code.code"),
        comment="The code, where it is finer than the class or out of scope.",
    ),
    sa.Column("labelled_by", sa.Text, nullable=False, comment="Who labelled the cell."),
    sa.Column("labelled_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When the person labelled it."),
    sa.Column("is_blind", sa.Boolean, nullable=False, comment="Whether the person had not seen a call of the cell."),
    sa.Column(
        "is_adjudication",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="Whether the label settles a contested cell.",
    ),
    sa.Column("note", sa.Text, comment="What the person noted."),
    sa.Column("source", sa.Text, nullable=False, comment="How the label came in: csv, folder, view or desk."),
    sa.Column(
        "run_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.run.run_id"),
        comment="The run that imported the label; empty where it was entered through the view.",
    ),
    set_now("recorded_at", "When the label reached the database."),
    sa.Column(
        "recorded_by",
        sa.Text,
        nullable=False,
        server_default=sa.text("session_user"),
        comment="The login that wrote the row.",
    ),
    sa.Column(
        "is_retraction",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="Whether the person took the own label back; then class and code are empty.",
    ),
    sa.Column(
        "session_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.desk_session.session_id"),
        comment="Session of the review desk; empty for a label that came in another way.",
    ),
    sa.Column("client_key", UUID(), comment="Key of the browser's request, so that it is stored once."),
    sa.UniqueConstraint("cell_id", "labelled_by", "labelled_at", name="label_once"),
    sa.UniqueConstraint("client_key", name="label_client_key"),
    one_of("class", CELL_CLASSES, "label_class"),
    one_of("source", LABEL_SOURCES, "label_source"),
    sa.CheckConstraint("is_retraction = (class IS NULL AND sub_label IS NULL)", name="label_not_empty"),
    sa.CheckConstraint(
        "(source = 'desk') = (session_id IS NOT NULL) AND (session_id IS NULL) = (client_key IS NULL)",
        name="label_of_session",
    ),
    sa.CheckConstraint("length(trim(labelled_by)) > 0", name="label_labelled_by"),
    sa.CheckConstraint("labelled_at <= recorded_at + interval '5 minutes'", name="label_not_in_the_future"),
    sa.CheckConstraint("labelled_at >= '2000-01-01 00:00:00+00'", name="label_not_before_2000"),
    sa.Index("label_of_person", "cell_id", sa.text("lower(labelled_by)"), "labelled_at"),
    sa.Index("label_adjudication", "cell_id", postgresql_where=sa.text("is_adjudication")),
    comment="What a person says of a cell. Append-only: a correction is a new row.",
)

label_file = sa.Table(
    "label_file",
    metadata,
    sa.Column("path", sa.Text, primary_key=True, comment="Path of the file or folder within the label inbox."),
    sa.Column("sha256", sa.String(64), primary_key=True, comment="Digest of the file, or of a folder's listing."),
    sa.Column("outcome", sa.Text, nullable=False, comment="imported or quarantined."),
    sa.Column("reason", sa.Text, comment="Why the file was quarantined, with its first wrong rows."),
    sa.Column("n_rows", sa.Integer, nullable=False, comment="Labels in the file."),
    sa.Column("n_labels", sa.Integer, nullable=False, comment="Labels in the file that were new."),
    of_run("The run that examined the file.", is_key=True),
    set_now("seen_at", "When the file was examined."),
    one_of("outcome", ("imported", "quarantined"), "label_file_outcome"),
    sa.CheckConstraint("(outcome <> 'imported') <= (reason IS NOT NULL)", name="label_file_reason"),
    comment="The ledger of the label inbox. A file whose cells are missing is examined again after an ingest, and its "
    "newest row counts. Append-only.",
)

sampled_cell = sa.Table(
    "sampled_cell",
    metadata,
    sa.Column("cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), primary_key=True, comment="The cell."),
    sa.Column("night", sa.Date, nullable=False, index=True, comment="The night that it was drawn of."),
    sa.Column("is_read_twice", sa.Boolean, nullable=False, comment="Whether two people read it, to compare readers."),
    sa.Column(
        "run_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.run.run_id"),
        comment="The ingest that drew it; empty for nights from before schema 0011.",
    ),
    set_now("drawn_at", "When it was drawn."),
    comment="The random sample of each night, for blind reading. Only these cells judge models. Append-only.",
)

data_split = sa.Table(
    "data_split",
    metadata,
    sa.Column(
        "split_key",
        sa.Text,
        primary_key=True,
        comment="The patient: the patient_key, or slide:<barcode> where there is none.",
    ),
    sa.Column("split", sa.Text, nullable=False, comment="training, validation, holdout or lockbox."),
    sa.Column(
        "is_blind",
        sa.Boolean,
        nullable=False,
        comment="Whether the patient had cells in a random sample; before schema 0011, a blind-read label.",
    ),
    of_run("The run that assigned the split."),
    set_now("assigned_at", "When the split was assigned."),
    one_of("split", SPLITS, "data_split_split"),
    comment="The split that a patient's cells belong to, permanently. Append-only.",
)

dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column(
        "dataset_digest", sa.String(64), primary_key=True, comment="Digest over every image, its class and its split."
    ),
    sa.Column("n_training", sa.Integer, nullable=False, comment="Images to train on."),
    sa.Column("n_validation", sa.Integer, nullable=False, comment="Images to choose thresholds with."),
    sa.Column("n_holdout", sa.Integer, nullable=False, comment="Images to validate a model on."),
    sa.Column("n_out_of_scope", sa.Integer, nullable=False, comment="Images with a label out of scope."),
    sa.Column("until_label_id", sa.BigInteger, nullable=False, comment="The newest label that was considered."),
    sa.Column("left_out", JSONB, nullable=False, comment="Reason and number of labelled cells that were left out."),
    of_run("The run that took the snapshot."),
    set_now("created_at", "When the snapshot was taken."),
    sa.Column(
        "n_lockbox",
        sa.Integer,
        nullable=False,
        server_default=sa.text("0"),
        comment="Images that judge a model only when it is promoted.",
    ),
    comment="A snapshot of labelled images, never changed. Append-only.",
)

dataset_image = sa.Table(
    "dataset_image",
    metadata,
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        primary_key=True,
        comment="The snapshot.",
    ),
    sa.Column(
        "sha256",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.image.sha256"),
        primary_key=True,
        comment="The image.",
    ),
    sa.Column("split", sa.Text, nullable=False, comment="training, validation, holdout, lockbox or out_of_scope."),
    sa.Column("class", sa.Text, comment="The cell class by the label; empty if out of scope."),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        nullable=False,
        index=True,
        comment="The cell that the image counts for.",
    ),
    sa.Column(
        "split_key",
        sa.Text,
        sa.ForeignKey(f"{SCHEMA}.data_split.split_key"),
        nullable=False,
        comment="The patient whose split the image follows.",
    ),
    sa.Column(
        "label_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.label.label_id"),
        nullable=False,
        index=True,
        comment="The label that gives the class.",
    ),
    one_of("split", IMAGE_SPLITS, "dataset_image_split"),
    one_of("class", CELL_CLASSES, "dataset_image_class"),
    sa.CheckConstraint("(split = 'out_of_scope') = (class IS NULL)", name="dataset_image_scope"),
    sa.Index("dataset_image_sha256", "sha256", "split"),
    comment="An image of a snapshot. Append-only.",
)
