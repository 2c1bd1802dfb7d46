"""The tables of erasures: what was removed, and how an erased slide is recognised; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from bloodcell.storage.label_tables import IMAGE_SPLITS
from bloodcell.storage.schema import SCHEMA, metadata, one_of, set_at, set_now

ERASURE_KINDS: Final = ("patient", "slide")
PENDING_KINDS: Final = ("image", "name")


def _of_erasure(*, is_key: bool = False) -> sa.Column[int]:
    """A column that refers to an erasure."""
    erasure_key = sa.ForeignKey(f"{SCHEMA}.erasure.erasure_id")
    return sa.Column(
        "erasure_id", sa.BigInteger, erasure_key, primary_key=is_key, nullable=False, comment="The erasure."
    )


erasure = sa.Table(
    "erasure",
    metadata,
    sa.Column("erasure_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the erasure."),
    sa.Column("kind", sa.Text, nullable=False, comment="What was erased: all slides of a patient, or one slide."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in the words of the person who erased."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Login name on the machine where it was requested."),
    sa.Column(
        "erased_by",
        sa.Text,
        nullable=False,
        server_default=sa.text("session_user"),
        comment="The login of the database that erased.",
    ),
    set_now("erased_at", "When the rows were removed."),
    one_of("kind", ERASURE_KINDS, "erasure_kind"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="erasure_reason"),
    comment="One erasure: when, by whom and why, but not of whom. Append-only.",
)

erasure_removal = sa.Table(
    "erasure_removal",
    metadata,
    sa.Column("removal_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    _of_erasure(),
    sa.Column("part", sa.Text, nullable=False, comment="What was removed: rows of a table, or a kind of file."),
    sa.Column("n", sa.BigInteger, nullable=False, comment="How many."),
    set_at("removed_at", "When they were removed."),
    comment="How many of what an erasure removed. Append-only.",
)

erasure_dataset = sa.Table(
    "erasure_dataset",
    metadata,
    _of_erasure(is_key=True),
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        primary_key=True,
        comment="The snapshot.",
    ),
    sa.Column("split", sa.Text, primary_key=True, comment="training, validation, holdout or out_of_scope."),
    sa.Column("n_images", sa.BigInteger, nullable=False, comment="Images of the snapshot that were erased."),
    one_of("split", IMAGE_SPLITS, "erasure_dataset_split"),
    comment="Snapshots, and so models, that used erased images; what a model learnt from them remains. Append-only.",
)

erased_slide = sa.Table(
    "erased_slide",
    metadata,
    sa.Column("erased_slide_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    _of_erasure(),
    sa.Column("barcode", sa.LargeBinary, nullable=False, comment="Keyed digest of the barcode."),
    sa.Column("order_id", sa.LargeBinary, comment="Keyed digest of the order; empty if it was not known."),
    sa.Column("patient_key", sa.LargeBinary, comment="Keyed digest of the patient key; empty if it was not known."),
    sa.Column("acquired_at", sa.LargeBinary, comment="Keyed digest of the time of imaging; empty if it was not known."),
    sa.Index("erased_slide_barcode", "barcode"),
    comment="How an ingest recognises an erased slide. Only the owner can read it. Append-only.",
)

erasure_pending = sa.Table(
    "erasure_pending",
    metadata,
    _of_erasure(is_key=True),
    sa.Column("kind", sa.Text, primary_key=True, comment="image, or a name to blank out in logs and pages."),
    sa.Column("value", sa.Text, primary_key=True, comment="Digest of the image, or the name."),
    one_of("kind", PENDING_KINDS, "erasure_pending_kind"),
    comment="What an erasure still has to remove outside the database. Only the owner can read it.",
)

erasure_secret = sa.Table(
    "erasure_secret",
    metadata,
    sa.Column("secret", sa.LargeBinary, primary_key=True, comment="32 random bytes."),
    comment="The secret of the keyed digests in erased_slide. Only the owner can read it.",
)
