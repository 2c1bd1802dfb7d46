"""The tables of runs, drops, slides, cells, images and the file ledger; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

RUN_STATES: Final = ("running", "succeeded", "failed")
FILE_OUTCOMES: Final = ("cell", "duplicate", "quarantined", "ignored")
SLIDE_RECORD_STATES: Final = ("read", "absent", "unreadable")
LOCKED_WORK: Final = ("check", "order", "partition", "promotion", "split")
WITHDRAWAL_ACTIONS: Final = ("withdraw", "rename", "restore")

run = sa.Table(
    "run",
    metadata,
    sa.Column("run_id", UUID(), primary_key=True, comment="Identity of the run, chosen by the stage."),
    sa.Column("stage", sa.Text, nullable=False, comment="Stage that ran: ingest, classify, differential and so on."),
    sa.Column("night", sa.Date, comment="Night that the run worked on; empty if not limited to one."),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        server_default="running",
        comment="running, succeeded or failed; a run that was killed stays running.",
    ),
    set_now("started_at", "When the run began."),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True), comment="When the run ended; empty while it is running."),
    sa.Column("code_version", sa.Text, nullable=False, comment="Release of bloodcell, with the commit in a checkout."),
    sa.Column("host", sa.Text, nullable=False, comment="Machine that the run was on."),
    sa.Column("airflow_run", sa.Text, comment="Airflow's Dag run that started it; empty if Airflow did not."),
    sa.Column("n_cells", sa.Integer, comment="Cells the run worked on."),
    sa.Column("detail", JSONB, comment="Further counts and facts of the run; the keys depend on the stage."),
    sa.Column("error", sa.Text, comment="Why a failed run failed."),
    one_of("state", RUN_STATES, "run_state"),
    comment="One execution of a stage: which code, where, when, and how it ended.",
)

drop = sa.Table(
    "drop",
    metadata,
    sa.Column("night", sa.Date, primary_key=True, comment="The night, from the folder's name."),
    sa.Column("folder", sa.Text, nullable=False, comment="Where the folder is."),
    sa.Column(
        "completed_at",
        sa.TIMESTAMP(timezone=True),
        comment="When every slide of the folder had been read; empty while slides are still being written.",
    ),
    sa.Column(
        "folders_changed_ns",
        sa.BigInteger,
        comment="State of the folder at completed_at: the newest modification time of its folders, in nanoseconds.",
    ),
    set_now("first_seen_at", "When the folder was first read."),
    of_run("The run that first read the folder."),
    comment="One night's folder from the analysers.",
)

slide = sa.Table(
    "slide",
    metadata,
    sa.Column("slide_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the slide."),
    sa.Column("barcode", sa.Text, nullable=False, index=True, comment="Name of the slide, as the analyser writes it."),
    sa.Column(
        "night",
        sa.Date,
        sa.ForeignKey(f"{SCHEMA}.drop.night"),
        nullable=False,
        index=True,
        comment="First night that brought cells of the slide.",
    ),
    sa.Column("order_id", sa.Text, comment="The order, from slide.json."),
    sa.Column("analyser", sa.Text, comment="The analyser, from slide.json."),
    sa.Column("patient_key", sa.Text, index=True, comment="Pseudonym of the patient, from slide.json."),
    sa.Column("acquired_at", sa.TIMESTAMP(timezone=True), comment="When the slide was imaged, from slide.json."),
    sa.Column(
        "record_state", sa.Text, nullable=False, comment="What became of slide.json: read, absent or unreadable."
    ),
    of_run("The run that first read the slide."),
    sa.Column(
        "delivered_as",
        sa.Text,
        comment="Barcode under which the cells were delivered, if the slide was renamed; else empty.",
    ),
    sa.Column(
        "withdrawn_at",
        sa.TIMESTAMP(timezone=True),
        comment="When the slide was withdrawn; empty while it stands. Set by the trigger of slide_withdrawal.",
    ),
    sa.Column("age_months", sa.Integer, comment="Age of the patient in months, from slide.json."),
    sa.Column("sex", sa.Text, comment="Sex of the patient, from slide.json: female or male."),
    sa.Column("wbc_10e9_per_l", sa.Float, comment="The analyser's leucocyte count in 10^9 per litre, from slide.json."),
    sa.Column("wbc_is_corrected", sa.Boolean, comment="Whether that count leaves out nucleated red cells already."),
    one_of("record_state", SLIDE_RECORD_STATES, "slide_record_state"),
    sa.CheckConstraint("age_months BETWEEN 0 AND 1559", name="slide_age"),
    one_of("sex", ("female", "male"), "slide_sex"),
    sa.CheckConstraint("wbc_10e9_per_l > 0", name="slide_wbc"),
    sa.Index("slide_standing_barcode", "barcode", unique=True, postgresql_where=sa.text("withdrawn_at IS NULL")),
    comment="One smear of one order, named by its barcode. A withdrawn slide keeps its row.",
)

slide_withdrawal = sa.Table(
    "slide_withdrawal",
    metadata,
    sa.Column("withdrawal_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column(
        "slide_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide.slide_id"),
        nullable=False,
        index=True,
        comment="The slide.",
    ),
    sa.Column(
        "action",
        sa.Text,
        nullable=False,
        comment="withdraw; rename (its cells become those of renamed_to); restore (the withdrawal was an error).",
    ),
    sa.Column(
        "renamed_to",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide.slide_id"),
        index=True,
        comment="The slide with the right barcode, to which the cells were moved.",
    ),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in the words of the person who asked for it."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="The person who asked for it, as the command says."),
    sa.Column(
        "recorded_by",
        sa.Text,
        nullable=False,
        server_default=sa.text("session_user"),
        comment="The login that wrote the row.",
    ),
    set_now("recorded_at", "When it was done."),
    of_run(),
    one_of("action", WITHDRAWAL_ACTIONS, "slide_withdrawal_action"),
    sa.CheckConstraint("(action = 'rename') = (renamed_to IS NOT NULL)", name="slide_withdrawal_renamed_to"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="slide_withdrawal_reason"),
    sa.CheckConstraint("length(trim(requested_by)) > 0", name="slide_withdrawal_requested_by"),
    comment="A slide was withdrawn, renamed or restored. A trigger carries out what a row says. Append-only.",
)

image = sa.Table(
    "image",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True, comment="Digest of what is stored, its name in the store."),
    sa.Column("size_bytes", sa.Integer, nullable=False, comment="Size of what is stored in bytes."),
    sa.Column("width_px", sa.Integer, nullable=False, comment="Width in pixels."),
    sa.Column("height_px", sa.Integer, nullable=False, comment="Height in pixels."),
    sa.Column("format", sa.Text, nullable=False, comment="Format of the file, such as JPEG."),
    set_now("stored_at", "When the image was stored."),
    sa.Column(
        "removed_at",
        sa.TIMESTAMP(timezone=True),
        comment="When its bytes were removed because of their age; empty while they are kept.",
    ),
    sa.Index("image_removed", "sha256", postgresql_where=sa.text("removed_at IS NOT NULL")),
    comment="One stored image, without metadata since release 0.3; its bytes are in the store under its digest.",
)

cell = sa.Table(
    "cell",
    metadata,
    sa.Column("cell_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the cell."),
    sa.Column(
        "slide_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide.slide_id"),
        nullable=False,
        comment="The slide that the cell is on.",
    ),
    sa.Column("file_name", sa.Text, nullable=False, comment="Name of the file within the slide's folder."),
    sa.Column(
        "night",
        sa.Date,
        sa.ForeignKey(f"{SCHEMA}.drop.night"),
        nullable=False,
        index=True,
        comment="Night that brought the cell; the slide may have begun in an earlier one.",
    ),
    sa.Column(
        "sha256",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.image.sha256"),
        nullable=False,
        index=True,
        comment="The image of the cell.",
    ),
    sa.Column("analyser_code", sa.Text, comment="The analyser's pre-classification; never given to a model."),
    sa.Column("analyser_class", sa.Text, comment="Cell class of analyser_code; empty for a code out of scope."),
    of_run("The run that ingested the cell."),
    sa.Column(
        "received_sha256",
        sa.String(64),
        comment="Digest of the file as it was received; empty if it had no metadata and is stored as it was.",
    ),
    sa.UniqueConstraint("slide_id", "file_name", name="cell_once_per_file"),
    sa.UniqueConstraint("slide_id", "sha256", name="cell_once_per_image"),
    sa.UniqueConstraint("cell_id", "night", name="cell_and_night"),
    one_of("analyser_class", CELL_CLASSES, "cell_analyser_class"),
    comment="One image of one cell on a slide.",
)

drop_file = sa.Table(
    "drop_file",
    metadata,
    sa.Column(
        "night", sa.Date, sa.ForeignKey(f"{SCHEMA}.drop.night"), primary_key=True, comment="Night of the folder."
    ),
    sa.Column("path", sa.Text, primary_key=True, comment="Path of the file, relative to the night's folder."),
    sa.Column("barcode", sa.Text, comment="Slide that the path names; empty where it names none."),
    sa.Column(
        "outcome", sa.Text, nullable=False, comment="What became of the file: cell, duplicate, quarantined or ignored."
    ),
    sa.Column("reason", sa.Text, comment="Why the file did not become a cell."),
    sa.Column("detail", sa.Text, comment="What was expected and what was received."),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        index=True,
        comment="The cell that the file became, or that a duplicate repeats.",
    ),
    sa.Column("sha256", sa.String(64), comment="Digest of the file; empty where it could not be read."),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, comment="Size of the file in bytes."),
    sa.Column("changed_ns", sa.BigInteger, nullable=False, comment="Modification time of the file, in nanoseconds."),
    of_run("The run that last examined the file."),
    set_now("first_seen_at", "When the file was first seen."),
    set_now("updated_at", "When the row was last updated."),
    sa.Column(
        "stored_sha256",
        sa.String(64),
        comment="Digest of the image that the store has of a file which is not a cell; else empty.",
    ),
    one_of("outcome", FILE_OUTCOMES, "drop_file_outcome"),
    sa.CheckConstraint("(outcome IN ('cell', 'duplicate')) <= (cell_id IS NOT NULL)", name="drop_file_cell"),
    sa.CheckConstraint("(outcome <> 'cell') <= (reason IS NOT NULL)", name="drop_file_reason"),
    sa.Index("drop_file_barcode", "barcode"),
    sa.Index("drop_file_set_aside", "night", postgresql_where=sa.text("outcome = 'quarantined'")),
    sa.Index("drop_file_stored", "stored_sha256", postgresql_where=sa.text("stored_sha256 IS NOT NULL")),
    comment="The file ledger: every file of a night's folder, accounted for exactly once.",
)

drop_file_history = sa.Table(
    "drop_file_history",
    metadata,
    sa.Column("night", sa.Date, nullable=False, comment="Night of the folder."),
    sa.Column("path", sa.Text, nullable=False, comment="Path of the file, relative to the night's folder."),
    sa.Column("outcome", sa.Text, nullable=False, comment="The earlier outcome."),
    sa.Column("reason", sa.Text, comment="The earlier reason."),
    sa.Column("detail", sa.Text, comment="The earlier detail."),
    sa.Column("sha256", sa.String(64), comment="The earlier digest."),
    sa.Column("run_id", UUID(), nullable=False, comment="The run that examined the file at that time."),
    sa.Column(
        "replaced_at",
        sa.TIMESTAMP(timezone=True),
        nullable=False,
        server_default=sa.func.now(),
        comment="When a new outcome replaced this one.",
    ),
    sa.Column("stored_sha256", sa.String(64), comment="The earlier digest of the stored image."),
    sa.Index("drop_file_history_path", "night", "path"),
    comment="Earlier outcomes of files that were examined again. Written by a trigger, append-only.",
)

lock = sa.Table(
    "lock",
    metadata,
    sa.Column("work", sa.Text, primary_key=True, comment="check, partition, promotion or split."),
    one_of("work", LOCKED_WORK, "lock_work"),
    comment="Work that only one transaction may do at a time; that transaction locks the row.",
)
