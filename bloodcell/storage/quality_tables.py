"""The tables of the quality control: sentinel cells, control slides, checks and overrides; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_at, set_now

QUALITY_KINDS: Final = ("sentinel", "control", "figure")
RESTARTS: Final = ("sentinels", "figures")


sentinel = sa.Table(
    "sentinel",
    metadata,
    sa.Column(
        "sha256",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.image.sha256"),
        primary_key=True,
        comment="Digest of the image.",
    ),
    of_run("The run that chose it."),
    set_now("chosen_at", "When it was chosen."),
    comment="Images that every worker calls again each night, to see whether its models compute what they computed "
    "before. They stay in the store. Append-only.",
)

sentinel_reference = sa.Table(
    "sentinel_reference",
    metadata,
    sa.Column("reference_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column(
        "sha256",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.sentinel.sha256", ondelete="CASCADE"),
        nullable=False,
        comment="The sentinel.",
    ),
    sa.Column(
        "model_id",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.model.model_id"),
        nullable=False,
        comment="The model.",
    ),
    sa.Column("probabilities", ARRAY(sa.REAL), nullable=False, comment="The eight probabilities that it computed."),
    sa.Column("novelty", sa.REAL, nullable=False, comment="The novelty that it computed."),
    sa.Column("host", sa.Text, nullable=False, comment="The machine on which it did."),
    of_run("The run in which it did."),
    set_at("made_at", "When it did."),
    sa.Index("sentinel_reference_of", "model_id", "sha256", "reference_id"),
    comment="What a model computed for a sentinel when it first saw it; the newest row counts. Append-only.",
)

control_slide = sa.Table(
    "control_slide",
    metadata,
    sa.Column(
        "slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), primary_key=True, comment="The slide."
    ),
    sa.Column("name", sa.Text, nullable=False, comment="Name of the control, or of the round, in the quality file."),
    of_run("The run that found it."),
    set_now("found_at", "When it was found."),
    sa.Index("control_slide_name", "name"),
    comment="Slides of control material and of rounds of external quality assessment: never signed or sent. "
    "Append-only.",
)

quality_check = sa.Table(
    "quality_check",
    metadata,
    sa.Column("check_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column("kind", sa.Text, nullable=False, comment="sentinel, control or figure."),
    sa.Column("subject", sa.Text, nullable=False, comment="The control slide, the figure, or the machine."),
    sa.Column("night", sa.Date, comment="The night; empty for a worker that called slides of no named night."),
    sa.Column("analyser", sa.Text, comment="The analyser; empty: unknown, or none alone."),
    sa.Column(
        "whole_night", sa.Boolean, nullable=False, comment="Whether a failure holds the slides of all analysers."
    ),
    sa.Column(
        "model_id",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.model.model_id"),
        comment="The model whose calls were checked; empty: the images themselves were.",
    ),
    sa.Column(
        "called_by",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.run.run_id"),
        comment="Run whose calls a failure holds, for a sentinel.",
    ),
    sa.Column("passed", sa.Boolean, nullable=False, comment="False: the results are held until a person overrides."),
    sa.Column(
        "judged",
        sa.Boolean,
        nullable=False,
        server_default=sa.true(),
        comment="False: there was too little to judge; such a check passed, and replaces none that failed.",
    ),
    sa.Column("value", sa.Float, comment="What was measured."),
    sa.Column("center", sa.Float, comment="What was expected."),
    sa.Column("lower", sa.Float, comment="Lower control limit."),
    sa.Column("upper", sa.Float, comment="Upper control limit."),
    sa.Column("reason", sa.Text, nullable=False, comment="The outcome in a sentence."),
    sa.Column("figures", JSONB, nullable=False, comment="What the outcome rests on."),
    of_run("The run that made the check."),
    set_at("checked_at", "When it was made."),
    sa.Column(
        "key",
        sa.Text,
        sa.Computed(
            # as Postgres writes it, so that the migration and this table can be compared
            "md5(kind || '/'::text || subject || '/'::text || COALESCE((night - '2000-01-01'::date)::text, ''::text) "
            "|| '/'::text || COALESCE('a'::text || analyser, ''::text) || '/'::text "
            "|| COALESCE(model_id, ''::character varying)::text || '/'::text || COALESCE(called_by::text, ''::text))",
            persisted=True,
        ),
        nullable=False,
        comment="Digest of kind, subject, night, analyser, model and run: of these, the newest check counts.",
    ),
    one_of("kind", QUALITY_KINDS, "quality_check_kind"),
    sa.Index("quality_check_key", "key", "check_id"),
    sa.Index("quality_check_night", "kind", "night"),
    sa.Index("quality_check_failed", "check_id", postgresql_where=sa.text("NOT passed")),
    comment="Every check of the quality control. The newest of a kind, subject, night, analyser and model counts. "
    "Append-only.",
)

quality_override = sa.Table(
    "quality_override",
    metadata,
    sa.Column("override_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column(
        "check_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.quality_check.check_id"),
        nullable=False,
        unique=True,
        comment="The failed check.",
    ),
    sa.Column("reason", sa.Text, nullable=False, comment="Why the results may be used, in the person's words."),
    sa.Column("overridden_by", sa.Text, nullable=False, comment="The person."),
    sa.Column(
        "session_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.desk_session.session_id"),
        comment="Session at the desk; empty: a login of the database.",
    ),
    sa.Column(
        "recorded_by", sa.Text, nullable=False, server_default=sa.text("session_user"), comment="Login that wrote it."
    ),
    set_at("overridden_at", "When."),
    sa.CheckConstraint("length(trim(reason)) > 0", name="quality_override_reason"),
    comment="Failed checks whose results a named person released all the same. Append-only.",
)

quality_restart = sa.Table(
    "quality_restart",
    metadata,
    sa.Column("restart_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column("what", sa.Text, nullable=False, comment="sentinels or figures."),
    sa.Column("analyser", sa.Text, comment="The analyser, for figures; empty: the one without a name."),
    sa.Column("from_night", sa.Date, comment="First night of the new baseline, for figures."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Who asked for it."),
    sa.Column(
        "recorded_by", sa.Text, nullable=False, server_default=sa.text("session_user"), comment="Login that wrote it."
    ),
    set_at("restarted_at", "When."),
    one_of("what", RESTARTS, "quality_restart_what"),
    sa.CheckConstraint("(what = 'figures') = (from_night IS NOT NULL)", name="quality_restart_night"),
    sa.CheckConstraint("length(trim(reason)) > 0", name="quality_restart_reason"),
    comment="New baselines of moving figures and new references of sentinels, because a stain, a lamp or a release was "
    "changed. Append-only.",
)
