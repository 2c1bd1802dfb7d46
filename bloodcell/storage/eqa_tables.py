"""The tables of external quality assessment: rounds, readings and targets; see `tables`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from bloodcell.storage.schema import SCHEMA, metadata, of_run, set_at


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row.")


def _cell() -> sa.Column[int]:
    return sa.Column(
        "cell_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.cell.cell_id"), nullable=False, comment="The cell."
    )


def _label() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("class", sa.Text, comment="The cell class; empty for a code out of scope."),
        sa.Column("sub_label", sa.Text, comment="The code, where it is finer than the class or out of scope."),
    )


eqa_round = sa.Table(
    "eqa_round",
    metadata,
    _key("round_id"),
    sa.Column("name", sa.Text, nullable=False, comment="Name of the round in the quality file."),
    sa.Column("due", sa.TIMESTAMP(timezone=True), nullable=False, comment="Until when its cells can be read."),
    of_run("The run that found it in the quality file."),
    set_at("recorded_at", "When it did."),
    sa.Index("eqa_round_name", "name", "round_id"),
    comment="Rounds of external quality assessment; of a name, the newest row counts. Append-only.",
)

eqa_reading = sa.Table(
    "eqa_reading",
    metadata,
    _key("reading_id"),
    _cell(),
    *_label(),
    sa.Column("person", sa.Text, nullable=False, comment="Who read it."),
    sa.Column(
        "session_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.desk_session.session_id"),
        nullable=False,
        comment="Session of the review desk.",
    ),
    sa.Column("client_key", UUID(), nullable=False, unique=True, comment="Names the request, so that it counts once."),
    set_at("read_at", "When."),
    sa.CheckConstraint("class IS NOT NULL OR sub_label IS NOT NULL", name="eqa_reading_label"),
    sa.Index("eqa_reading_once", "cell_id", sa.text("lower(person)"), unique=True),
    comment="Blind readings of the cells of a round, one of each person and cell. They are no labels: they change no "
    "result, train nothing and judge no candidate. Append-only.",
)

eqa_target = sa.Table(
    "eqa_target",
    metadata,
    _key("target_id"),
    _cell(),
    *_label(),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Who brought it in."),
    sa.Column(
        "recorded_by", sa.Text, nullable=False, server_default=sa.text("session_user"), comment="Login that wrote it."
    ),
    set_at("recorded_at", "When."),
    sa.CheckConstraint("class IS NOT NULL OR sub_label IS NOT NULL", name="eqa_target_label"),
    sa.Index("eqa_target_cell", "cell_id", "target_id"),
    comment="What the organiser of a round says that its cells are; of a cell, the newest row counts. Append-only.",
)
