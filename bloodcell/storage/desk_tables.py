"""The tables of the review desk: sessions, openings of slides, comments and leases; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from bloodcell.storage.schema import SCHEMA, metadata, one_of, set_at

ROLES_AT_THE_DESK: Final = ("viewer", "reader", "senior", "administrator")
LOGIN_METHODS: Final = ("local", "link", "ldap", "oidc")


def _of_slide(*, is_key: bool = False) -> sa.Column[int]:
    slide = sa.ForeignKey(f"{SCHEMA}.slide.slide_id")
    return sa.Column("slide_id", sa.BigInteger, slide, primary_key=is_key, nullable=False, comment="The slide.")


def _of_session() -> sa.Column[int]:
    session = sa.ForeignKey(f"{SCHEMA}.desk_session.session_id")
    return sa.Column("session_id", sa.BigInteger, session, nullable=False, comment="The person's session.")


desk_session = sa.Table(
    "desk_session",
    metadata,
    sa.Column("session_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the session."),
    sa.Column("token_digest", sa.String(64), nullable=False, comment="sha256 of the token in the browser's cookie."),
    sa.Column("person", sa.Text, nullable=False, comment="Who was authenticated."),
    sa.Column("roles", ARRAY(sa.Text), nullable=False, comment="viewer, reader, senior, administrator."),
    sa.Column("method", sa.Text, nullable=False, comment="How the person logged in: local, link, ldap or oidc."),
    sa.Column(
        "stamp", sa.Text, comment="State of the local user at log-in: another password or role ends the session."
    ),
    sa.Column("idle_s", sa.Integer, nullable=False, comment="Seconds without use after which it cannot be used."),
    set_at("opened_at", "When the person logged in."),
    sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When it ends in any case."),
    set_at("seen_at", "When it was last used."),
    sa.Column(
        "proved_at",
        sa.TIMESTAMP(timezone=True),
        comment="When the person was authenticated again, for a signature; empty once it has been used.",
    ),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True), comment="When it was ended; empty for one that ran out."),
    sa.Column("ended_for", sa.Text, comment="log_out, everywhere (by the person) or administrator."),
    sa.UniqueConstraint("token_digest", name="desk_session_token"),
    sa.CheckConstraint("length(trim(person)) > 0", name="desk_session_person"),
    sa.CheckConstraint(
        f"roles <@ ARRAY[{', '.join(repr(role) for role in ROLES_AT_THE_DESK)}]", name="desk_session_roles"
    ),
    one_of("method", LOGIN_METHODS, "desk_session_method"),
    sa.CheckConstraint("(ended_at IS NULL) = (ended_for IS NULL)", name="desk_session_ended"),
    one_of("ended_for", ("log_out", "everywhere", "administrator"), "desk_session_ended_for"),
    sa.Index("ix_bloodcell_desk_session_person", sa.text("lower(person)")),
    comment="Every session of the review desk. A person who is authenticated gets a token; only its digest is kept.",
)

slide_opening = sa.Table(
    "slide_opening",
    metadata,
    sa.Column("opening_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the opening."),
    _of_slide(),
    _of_session(),
    sa.Column("person", sa.Text, nullable=False, comment="Who opened it."),
    set_at("opened_at", "When it was opened first in the session."),
    sa.UniqueConstraint("slide_id", "session_id", name="slide_opening_once"),
    comment="Who looked at which slide at the review desk. Append-only.",
)

slide_comment = sa.Table(
    "slide_comment",
    metadata,
    sa.Column("comment_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the comment."),
    sa.Column(
        "slide_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide.slide_id"),
        nullable=False,
        index=True,
        comment="The slide.",
    ),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        comment="The cell; empty for a comment on the slide.",
    ),
    sa.Column("text", sa.Text, nullable=False, comment="The comment."),
    sa.Column("person", sa.Text, nullable=False, comment="Who wrote it."),
    _of_session(),
    sa.Column("client_key", UUID(), nullable=False, comment="Key of the browser's request, so that it is stored once."),
    set_at("written_at", "When it was written."),
    sa.UniqueConstraint("client_key", name="slide_comment_key"),
    sa.CheckConstraint("length(trim(text)) BETWEEN 1 AND 4000", name="slide_comment_text"),
    comment="What a person wrote about a slide or a cell. Append-only.",
)

slide_lease = sa.Table(
    "slide_lease",
    metadata,
    _of_slide(is_key=True),
    _of_session(),
    sa.Column("person", sa.Text, nullable=False, comment="Who has the slide."),
    set_at("taken_at", "Since when."),
    sa.Column("held_until", sa.TIMESTAMP(timezone=True), nullable=False, comment="Until when, unless it is renewed."),
    comment="Who is working on a slide at the review desk.",
)
