"""The tables of the exchange with other systems: orders, receivers, messages, attempts; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from bloodcell.storage.schema import SCHEMA, metadata, one_of, set_at, set_now

PROTOCOLS: Final = ("hl7", "fhir")
MESSAGE_KINDS: Final = ("result", "withdrawal")
MESSAGE_STATES: Final = ("waiting", "held", "delivered", "superseded", "skipped")
ATTEMPT_OUTCOMES: Final = ("delivered", "rejected", "no_answer")
MESSAGE_ACTIONS: Final = ("replay", "skip")

ORDER_ACTIONS: Final = ("new", "change", "cancel")

lab_order = sa.Table(
    "lab_order",
    metadata,
    sa.Column("lab_order_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column("barcode", sa.Text, nullable=False, comment="The specimen that was ordered for."),
    sa.Column("order_id", sa.Text, nullable=False, comment="Number of the order, as its placer gave it."),
    sa.Column("action", sa.Text, nullable=False, comment="new, change or cancel."),
    sa.Column(
        "patient_digest",
        sa.String(64),
        comment="Keyed digest of the patient's identifier, to tell patients apart; empty: the order named none.",
    ),
    sa.Column("age_months", sa.Integer, comment="Age of the patient when the specimen was collected, in months."),
    sa.Column("sex", sa.Text, comment="female or male; empty: unknown."),
    sa.Column("wbc_10e9_per_l", sa.Float, comment="Leucocyte count in 10^9 per litre."),
    sa.Column("wbc_is_corrected", sa.Boolean, comment="Whether that count leaves out nucleated red cells already."),
    sa.Column("collected_at", sa.TIMESTAMP(timezone=True), comment="When the specimen was collected."),
    sa.Column("sender", sa.Text, nullable=False, comment="Who sent it: application and facility."),
    sa.Column("control_id", sa.Text, nullable=False, comment="Name of the message, given by its sender (MSH-10)."),
    sa.Column("position", sa.Integer, nullable=False, comment="1 for the first order of the message, and so on."),
    sa.Column(
        "message_digest",
        sa.String(64),
        nullable=False,
        comment="Keyed digest of the message: a sender may use a control id again for another one.",
    ),
    sa.Column(
        "is_conflict",
        sa.Boolean,
        nullable=False,
        comment="Whether the barcode has an order for another patient; then this one counts for nothing.",
    ),
    set_now("received_at", "When it was received."),
    sa.UniqueConstraint("sender", "control_id", "message_digest", "position", name="lab_order_message"),
    sa.Index("lab_order_barcode", "barcode", "lab_order_id"),
    one_of("action", ORDER_ACTIONS, "lab_order_action"),
    one_of("sex", ("female", "male"), "lab_order_sex"),
    comment="Every order that was received, and every change of one. Append-only. Of the patient it has no identity.",
)


omop_concept = sa.Table(
    "omop_concept",
    metadata,
    sa.Column("class", sa.Text, primary_key=True, comment="Line of the differential."),
    sa.Column("what", sa.Text, primary_key=True, comment="percent or absolute."),
    sa.Column("concept_id", sa.Integer, nullable=False, comment="OMOP's standard concept of it."),
    sa.Column("unit_concept_id", sa.Integer, nullable=False, comment="OMOP's concept of the unit."),
    one_of("what", ("percent", "absolute"), "omop_concept_what"),
    comment="The OMOP concepts of the site, which its data engineers write.",
)


def _of_message() -> sa.Column[int]:
    """A column that refers to a message."""
    key = sa.ForeignKey(f"{SCHEMA}.outgoing_message.message_id")
    return sa.Column("message_id", sa.BigInteger, key, nullable=False, index=True, comment="The message.")


receiver = sa.Table(
    "receiver",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="Name in the exchange file."),
    sa.Column("protocol", sa.Text, nullable=False, comment="hl7 (version 2.5.1 over MLLP) or fhir (R4 over HTTP)."),
    sa.Column(
        "gets_unsigned", sa.Boolean, nullable=False, comment="Whether it also gets results that nobody has signed."
    ),
    set_now("added_at", "When it was added: results from then on are sent to it."),
    sa.Column(
        "removed_at", sa.TIMESTAMP(timezone=True), comment="When somebody ended that it gets results; else empty."
    ),
    one_of("protocol", PROTOCOLS, "receiver_protocol"),
    comment="The systems that results are sent to, as the exchange file names them.",
)

outgoing_message = sa.Table(
    "outgoing_message",
    metadata,
    sa.Column("message_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the message."),
    sa.Column("receiver", sa.Text, sa.ForeignKey(f"{SCHEMA}.receiver.name"), nullable=False, comment="Who it is for."),
    sa.Column(
        "slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), nullable=False, comment="The slide."
    ),
    sa.Column(
        "result_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.result.result_id"),
        nullable=False,
        index=True,
        comment="The version that it reports, or the last one before the slide was withdrawn.",
    ),
    sa.Column(
        "kind", sa.Text, nullable=False, comment="result, or withdrawal: what was sent of the slide is not valid."
    ),
    sa.Column(
        "control_id",
        sa.String(20),
        nullable=False,
        unique=True,
        comment="Names the message to its receiver (MSH-10), the same each time it is sent.",
    ),
    set_at("made_at", "When it was made, in the transaction of what it reports."),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        server_default=sa.text("'waiting'"),
        comment="waiting (to be sent, or sent again), held (rejected; waits for a person), delivered, superseded (a "
        "newer message made it unnecessary) or skipped (by a person).",
    ),
    sa.Column("n_attempts", sa.Integer, nullable=False, server_default=sa.text("0"), comment="How often it was sent."),
    sa.Column(
        "next_attempt_at",
        sa.TIMESTAMP(timezone=True),
        comment="Earliest time of the next attempt, after one without an answer; empty: now.",
    ),
    sa.Column(
        "taken_at",
        sa.TIMESTAMP(timezone=True),
        comment="When a sender first took it: from then on, the receiver may have it. Empty before.",
    ),
    sa.Column("delivered_at", sa.TIMESTAMP(timezone=True), comment="When it was last delivered; empty before."),
    sa.Column(
        "lab_order_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.lab_order.lab_order_id", ondelete="SET NULL"),
        index=True,
        comment="The order that it was last sent with; empty: none.",
    ),
    sa.Index("outgoing_message_slide", "slide_id", "receiver", "message_id"),
    sa.Index(
        "outgoing_message_open", "receiver", "message_id", postgresql_where=sa.text("state IN ('waiting', 'held')")
    ),
    sa.Index("outgoing_message_held", "message_id", postgresql_where=sa.text("state = 'held'")),
    sa.Index("outgoing_message_delivered", "receiver", "delivered_at"),
    one_of("kind", MESSAGE_KINDS, "outgoing_message_kind"),
    one_of("state", MESSAGE_STATES, "outgoing_message_state"),
    comment="One row per receiver and version that it gets, written in the transaction that makes the version.",
)

message_attempt = sa.Table(
    "message_attempt",
    metadata,
    sa.Column("attempt_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the attempt."),
    _of_message(),
    sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When it was sent."),
    set_at("ended_at", "When it was answered, or given up."),
    sa.Column(
        "outcome",
        sa.Text,
        nullable=False,
        comment="delivered, rejected (the receiver refuses the message) or no_answer (it is sent again).",
    ),
    sa.Column("answer", sa.Text, nullable=False, comment="What the receiver answered, or what was wrong."),
    sa.Column("sent_digest", sa.String(64), comment="sha256 of the message; empty if it was not made."),
    one_of("outcome", ATTEMPT_OUTCOMES, "message_attempt_outcome"),
    comment="Each attempt to deliver a message, and its answer. Append-only.",
)

message_action = sa.Table(
    "message_action",
    metadata,
    sa.Column("action_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    _of_message(),
    sa.Column("action", sa.Text, nullable=False, comment="replay (send it again) or skip (never send it)."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in the words of the person."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Who asked for it."),
    sa.Column(
        "recorded_by",
        sa.Text,
        nullable=False,
        server_default=sa.text("session_user"),
        comment="The login that wrote the row.",
    ),
    set_now("recorded_at", "When."),
    one_of("action", MESSAGE_ACTIONS, "message_action_action"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="message_action_reason"),
    comment="What people decided about messages that were rejected or lost. Append-only.",
)
