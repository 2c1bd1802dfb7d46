"""The tables of counts, differentials and results; see `tables`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES, CODES_OUT_OF_SCOPE, CONTESTED, UNCLASSIFIED
from bloodcell.storage.result_states import RESULT_STATES
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_at, set_now

laboratory_rules = sa.Table(
    "laboratory_rules",
    metadata,
    sa.Column("rules_digest", sa.String(64), primary_key=True, comment="Digest of the document."),
    sa.Column("version", sa.Text, nullable=False, comment="The laboratory's own name of this version."),
    sa.Column("document", JSONB, nullable=False, comment="Everything that the rules file said."),
    set_now("first_used_at", "When a result was first made with it."),
    comment="Every version of the laboratory's rules that a result was made with: reference ranges, review rules, and "
    "when percentages are withheld. Append-only.",
)

slide_report = sa.Table(
    "slide_report",
    metadata,
    sa.Column("report_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the count."),
    sa.Column(
        "slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), nullable=False, comment="The slide."
    ),
    sa.Column(
        "model_id",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.model.model_id"),
        nullable=False,
        comment="The model whose calls are added up.",
    ),
    sa.Column(
        "number", sa.Integer, nullable=False, comment="1 for the first count of this slide and model, and so on."
    ),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells of the slide when they were counted."),
    sa.Column(
        "n_leucocytes",
        sa.Integer,
        nullable=False,
        comment="Cells of the six leucocyte classes and other leucocytes, the denominator of the percentages.",
    ),
    sa.Column(
        "n_other_leucocytes", sa.Integer, nullable=False, comment="Of n_leucocytes, those of a code out of scope."
    ),
    sa.Column(
        "n_unverified",
        sa.Integer,
        nullable=False,
        comment="Of n_other_leucocytes, those that only the analyser's code names.",
    ),
    sa.Column(
        "n_blasts",
        sa.Integer,
        nullable=False,
        comment="Cells that are a blast by a person's label or, without one, by the analyser's code; also contested "
        "cells of which one person says so.",
    ),
    sa.Column(
        "n_unclassified",
        sa.Integer,
        nullable=False,
        comment="Cells that may be leucocytes and that neither a person nor the model could name.",
    ),
    sa.Column("n_contested", sa.Integer, nullable=False, comment="Of n_unclassified, those on which people disagree."),
    sa.Column("n_labelled", sa.Integer, nullable=False, comment="Of n_cells, those that a person's label decides."),
    sa.Column("n_labels", sa.Integer, nullable=False, comment="Labels that the slide's cells had, also former ones."),
    sa.Column(
        "is_sufficient",
        sa.Boolean,
        nullable=False,
        comment="Whether there are enough leucocytes for a sufficient count.",
    ),
    sa.Column("nrbc_per_100_wbc", sa.Float, comment="Erythroblasts per 100 leucocytes; empty without leucocytes."),
    sa.Column("nrbc_lower", sa.Float, comment="Lower end of the 95 % interval of nrbc_per_100_wbc."),
    sa.Column("nrbc_upper", sa.Float, comment="Upper end of the 95 % interval of nrbc_per_100_wbc."),
    sa.Column(
        "n_compared", sa.Integer, nullable=False, comment="Cells with a call and with an analyser code in scope."
    ),
    sa.Column("n_agree", sa.Integer, nullable=False, comment="Cells of n_compared where call and code agree."),
    sa.Column(
        "age_months", sa.Integer, comment="Age that the reference ranges were chosen by; empty: those of adults."
    ),
    sa.Column("sex", sa.Text, comment="Sex that the reference ranges were chosen by; empty: unknown."),
    sa.Column("wbc_received", sa.Float, comment="The analyser's leucocyte count in 10^9 per litre, from slide.json."),
    sa.Column("wbc_is_corrected", sa.Boolean, comment="Whether wbc_received leaves out nucleated red cells already."),
    sa.Column(
        "wbc_10e9_per_l",
        sa.Float,
        comment="Leucocyte count of the absolute counts; less than wbc_received if bloodcell corrected it.",
    ),
    sa.Column(
        "rules_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.laboratory_rules.rules_digest"),
        comment="The rules that flagged it; empty before schema 0010.",
    ),
    sa.Column(
        "calls_digest",
        sa.String(64),
        comment="sha256 over a line for each cell: image, call and analyser code; empty before schema 0010.",
    ),
    sa.Column(
        "labels_digest",
        sa.String(64),
        comment="sha256 over a line for each labelled cell: image and label; empty before schema 0010.",
    ),
    sa.Column(
        "called_at", sa.TIMESTAMP(timezone=True), comment="When the newest call was made; empty before schema 0010."
    ),
    of_run("The run that counted the cells."),
    set_now("written_at", "When they were counted."),
    sa.UniqueConstraint("slide_id", "model_id", "number", name="slide_report_number"),
    sa.UniqueConstraint("report_id", "slide_id", name="slide_report_of_slide"),
    comment="What a slide's labels, and the calls of one model, add up to. Append-only: a new count is a new row.",
)

differential = sa.Table(
    "differential",
    metadata,
    sa.Column(
        "report_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide_report.report_id"),
        primary_key=True,
        comment="The count.",
    ),
    sa.Column(
        "class",
        sa.Text,
        primary_key=True,
        comment="One of the eight cell classes, unclassified, contested, or a code out of scope.",
    ),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells that count as this."),
    sa.Column("n_labelled", sa.Integer, nullable=False, comment="Of n_cells, those that a person's label decides."),
    sa.Column(
        "n_unverified",
        sa.Integer,
        nullable=False,
        comment="Of n_cells, those that only the analyser's code names.",
    ),
    sa.Column("percentage", sa.Float, comment="Share of the leucocytes in percent; empty for what is no leucocyte."),
    sa.Column("lower", sa.Float, comment="Lower end of the exact 95 % interval of percentage."),
    sa.Column("upper", sa.Float, comment="Upper end of the exact 95 % interval of percentage."),
    sa.Column(
        "bound_lower", sa.Float, comment="The percentage if no unclassified cell were of this class but a leucocyte."
    ),
    sa.Column("bound_upper", sa.Float, comment="The percentage if every unclassified cell were of this class."),
    sa.Column("absolute", sa.Float, comment="Cells in 10^9 per litre; empty without a leucocyte count."),
    sa.Column("absolute_lower", sa.Float, comment="Absolute count at the lower end of the interval of percentage."),
    sa.Column("absolute_upper", sa.Float, comment="Absolute count at the upper end of the interval of percentage."),
    sa.Column(
        "flag",
        sa.Text,
        comment="low, possibly_low, possibly_high or high relative to the reference range; empty within it.",
    ),
    one_of("class", (*CELL_CLASSES, UNCLASSIFIED, CONTESTED, *CODES_OUT_OF_SCOPE), "differential_class"),
    comment="A slide's cells of one line of a count. Append-only.",
)

result = sa.Table(
    "result",
    metadata,
    sa.Column("result_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the version."),
    sa.Column(
        "slide_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.slide.slide_id"), nullable=False, comment="The slide."
    ),
    sa.Column("number", sa.Integer, nullable=False, comment="1 for the slide's first version, and so on."),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        comment="machine (nobody has looked), withheld (the percentages are not to be used), final (signed), "
        "amended or corrected (signed again).",
    ),
    sa.Column(
        "report_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.slide_report.report_id"),
        nullable=False,
        index=True,
        comment="The count that is reported.",
    ),
    sa.Column(
        "causes",
        ARRAY(sa.Text),
        nullable=False,
        comment="What differs from the version before: first, cells, labels, calls, model, facts, rules, night, "
        "patient or signature.",
    ),
    sa.Column("withheld_for", ARRAY(sa.Text), nullable=False, comment="Why the percentages are withheld, if they are."),
    sa.Column("review_for", ARRAY(sa.Text), nullable=False, comment="Review rules that name the slide."),
    sa.Column(
        "digest",
        sa.String(64),
        comment="sha256 over the model, the digests of calls, labels and rules, and the facts of slide.json; empty "
        "before schema 0010.",
    ),
    set_at("made_at", "When the version was made."),
    sa.Column(
        "run_id", UUID(), sa.ForeignKey(f"{SCHEMA}.run.run_id"), comment="The run that made it; empty if signed."
    ),
    sa.Column("signed_by", sa.Text, comment="The login of the person who signed it; empty if a run made it."),
    sa.Column("reason", sa.Text, comment="Why it was signed again, in that person's words."),
    sa.Column(
        "recorded_by",
        sa.Text,
        nullable=False,
        server_default=sa.text("session_user"),
        comment="The login that wrote the row.",
    ),
    sa.Column(
        "session_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.desk_session.session_id"),
        comment="Session of the review desk in which it was signed; empty if it was not signed there.",
    ),
    sa.UniqueConstraint("slide_id", "number", name="result_number"),
    sa.Index(
        "result_held",
        "slide_id",
        postgresql_where=sa.text("signed_by IS NULL AND 'quality_control' = ANY (withheld_for)"),
    ),
    sa.ForeignKeyConstraint(
        ["report_id", "slide_id"],
        [f"{SCHEMA}.slide_report.report_id", f"{SCHEMA}.slide_report.slide_id"],
        name="result_of_slide",
    ),
    one_of("state", RESULT_STATES, "result_state"),
    sa.CheckConstraint(
        "(state <> 'machine' OR withheld_for = '{}') AND (state <> 'withheld' OR withheld_for <> '{}')",
        name="result_withheld",
    ),
    sa.CheckConstraint("(state IN ('final', 'amended', 'corrected')) = (signed_by IS NOT NULL)", name="result_signed"),
    sa.CheckConstraint("(run_id IS NULL) = (signed_by IS NOT NULL)", name="result_made_by"),
    sa.CheckConstraint("session_id IS NULL OR signed_by IS NOT NULL", name="result_of_session"),
    sa.CheckConstraint("state NOT IN ('amended', 'corrected') OR length(trim(reason)) > 0", name="result_reason"),
    comment="A version of a slide's result. Append-only: the newest signed one counts, or else the newest.",
)
