"""The tables of retraining, validation and the nightly check; see `tables`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.variants import VARIANTS
from bloodcell.storage.schema import SCHEMA, metadata, of_run, one_of, set_now

TRAINING_STATES: Final = ("running", "skipped", "refused", "rejected", "expired", "promoted", "failed")
CHECKS: Final = (
    "agreement",
    "blind_agreement",
    "precision",
    "unclassified",
    "out_of_scope",
    "class_mix",
    "confidence",
    "novelty",
    "embedding",
)


def _model(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    """A column that refers to a model."""
    model = sa.ForeignKey(f"{SCHEMA}.model.model_id")
    return sa.Column(name, sa.String(64), model, primary_key=primary_key, nullable=nullable, comment=comment)


training_run = sa.Table(
    "training_run",
    metadata,
    sa.Column("training_run_id", UUID(), primary_key=True, comment="Key of the retraining."),
    sa.Column("airflow_run", sa.Text, comment="Airflow's Dag run; empty where Airflow did not start it."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Who requested it, as they wrote it."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why it was requested."),
    sa.Column("variants", ARRAY(sa.Text), nullable=False, comment="Variants to train."),
    sa.Column(
        "base",
        sa.Text,
        nullable=False,
        comment="Start: champion, imagenet, site (last layers only) or random.",
    ),
    sa.Column("seed", sa.Integer, nullable=False, comment="Seed of everything random."),
    sa.Column("epochs", sa.Integer, comment="Maximum epochs of each stage; empty: the recipe's."),
    sa.Column("min_new_labels", sa.Integer, nullable=False, comment="Newly labelled cells below which it is skipped."),
    _model("champion_id", "The champion when the retraining began.", nullable=True),
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        comment="The snapshot it trained on; empty where it was skipped.",
    ),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        server_default="running",
        comment="running; skipped; refused by the gates; rejected by a person; expired; promoted; failed.",
    ),
    sa.Column("state_reason", sa.Text, comment="Why it ended in this state."),
    sa.Column("approval", JSONB, comment="The person's decision: chosen, by, at, reason."),
    set_now("requested_at", "When it was requested."),
    sa.Column("ended_at", sa.TIMESTAMP(timezone=True), comment="When it ended."),
    sa.Column(
        "triggered_by",
        sa.Text,
        comment="Login that Airflow authenticated when the run was triggered; empty for a scheduled run.",
    ),
    one_of("state", TRAINING_STATES, "training_run_state"),
    one_of("base", ("champion", "imagenet", "site", "random"), "training_run_base"),
    comment="One retraining: what was requested, by whom, on which snapshot, against which champion, and how it ended.",
)

candidate = sa.Table(
    "candidate",
    metadata,
    sa.Column(
        "training_run_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.training_run.training_run_id"),
        primary_key=True,
        comment="The retraining.",
    ),
    sa.Column("variant", sa.Text, primary_key=True, comment="Variant that was trained."),
    _model("model_id", "The model that was trained."),
    of_run("The run that trained it."),
    set_now("trained_at", "When it was trained."),
    one_of("variant", VARIANTS, "candidate_variant"),
    comment="The model of one variant that a retraining trained. Append-only.",
)

evaluation = sa.Table(
    "evaluation",
    metadata,
    _model("model_id", "The model.", primary_key=True),
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        primary_key=True,
        comment="The snapshot whose hold-out it was evaluated on.",
    ),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells of the hold-out."),
    sa.Column("n_patients", sa.Integer, nullable=False, comment="Patients of the hold-out."),
    sa.Column(
        "accuracy", sa.Float, nullable=False, comment="Share of cells whose most probable class is right, 0 to 1."
    ),
    sa.Column("accuracy_lower", sa.Float, nullable=False, comment="Lower end of its 95 % interval, over patients."),
    sa.Column("accuracy_upper", sa.Float, nullable=False, comment="Upper end of its 95 % interval, over patients."),
    sa.Column("macro_f1", sa.Float, nullable=False, comment="Mean F1 of the classes that occur."),
    sa.Column(
        "calibration_error", sa.Float, nullable=False, comment="Calibration error, 0 to 1; debiased since schema 0011."
    ),
    sa.Column("unclassified", sa.Float, nullable=False, comment="Share of cells left unclassified, 0 to 1."),
    sa.Column(
        "figures",
        JSONB,
        nullable=False,
        comment="Confusion matrix and figures of each class, also by patient. Older rows say groups for classes.",
    ),
    of_run("The run that evaluated the model."),
    set_now("evaluated_at", "When it was evaluated."),
    comment="How well a model performs on a snapshot's hold-out. Append-only.",
)

validation = sa.Table(
    "validation",
    metadata,
    sa.Column("validation_id", UUID(), primary_key=True, comment="Key of the validation."),
    sa.Column(
        "training_run_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.training_run.training_run_id"),
        comment="The retraining it belongs to; empty where it was started by hand.",
    ),
    _model("model_id", "The model that was validated."),
    _model("champion_id", "The champion it was compared with; empty where there was none.", nullable=True),
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        nullable=False,
        comment="The snapshot whose hold-out it was validated on.",
    ),
    sa.Column("passed", sa.Boolean, nullable=False, comment="Whether every gate passed."),
    sa.Column(
        "gates",
        JSONB,
        nullable=False,
        comment="Each gate with gate, passed, measured, threshold and reason. Older rows say limit for threshold.",
    ),
    sa.Column("report", sa.Text, nullable=False, comment="Where the validation page is in the store."),
    of_run("The run that validated the model."),
    set_now("validated_at", "When it was validated."),
    sa.Column("summary", sa.Text, comment="What a person who is asked to approve the model reads, in Markdown."),
    sa.UniqueConstraint("training_run_id", "model_id", name="validation_once"),
    comment="A model validated against the champion on a hold-out. The newest row of a model counts. Append-only.",
)

lockbox_opening = sa.Table(
    "lockbox_opening",
    metadata,
    sa.Column("opening_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the opening."),
    _model("model_id", "The candidate."),
    _model("champion_id", "The champion it was compared with; empty where there was none.", nullable=True),
    sa.Column(
        "dataset_digest",
        sa.String(64),
        sa.ForeignKey(f"{SCHEMA}.dataset.dataset_digest"),
        nullable=False,
        comment="The snapshot whose lockbox was opened.",
    ),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells of the lockbox."),
    sa.Column("n_patients", sa.Integer, nullable=False, comment="Patients of the lockbox."),
    sa.Column("accuracy", sa.Float, nullable=False, comment="Accuracy of the candidate, 0 to 1."),
    sa.Column("champion_accuracy", sa.Float, comment="Accuracy of the champion."),
    sa.Column("difference", sa.Float, comment="Candidate minus champion."),
    sa.Column("lower", sa.Float, comment="Lower end of its 95 % interval, over patients."),
    sa.Column("upper", sa.Float, comment="Upper end of its 95 % interval, over patients."),
    sa.Column("passed", sa.Boolean, nullable=False, comment="False if the lockbox contradicts the gates."),
    sa.Column("reason", sa.Text, nullable=False, comment="The result in a sentence."),
    of_run("The run that opened it."),
    set_now("opened_at", "When it was opened."),
    sa.Index("lockbox_opening_once", "model_id", sa.text("coalesce(champion_id, '')"), "dataset_digest", unique=True),
    comment="The lockbox, opened for a candidate that is about to be promoted. Append-only.",
)

approval_question = sa.Table(
    "approval_question",
    metadata,
    sa.Column("question_id", UUID(), primary_key=True, comment="Airflow's id of the task instance that asks."),
    sa.Column(
        "training_run_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.training_run.training_run_id"),
        nullable=False,
        comment="The retraining.",
    ),
    _model("model_id", "The candidate that it is about."),
    set_now("asked_at", "When it was asked."),
    sa.Index("approval_question_training_run", "training_run_id", "asked_at"),
    comment="People were asked whether a candidate becomes champion. The newest question of a retraining counts. "
    "Append-only.",
)

approval_answer = sa.Table(
    "approval_answer",
    metadata,
    sa.Column(
        "question_id",
        UUID(),
        sa.ForeignKey(f"{SCHEMA}.approval_question.question_id"),
        primary_key=True,
        comment="The question.",
    ),
    sa.Column("decision", sa.Text, nullable=False, comment="Approve or Reject."),
    sa.Column("answered_by", sa.Text, nullable=False, comment="Login of the person, as Airflow authenticated it."),
    sa.Column("answered_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When they answered."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in their words."),
    set_now("recorded_at", "When the row was written."),
    one_of("decision", ("Approve", "Reject"), "approval_answer_decision"),
    comment="A person's answer, as Airflow gave it to the task that asked. Append-only.",
)

model_check = sa.Table(
    "model_check",
    metadata,
    sa.Column("check_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    _model("model_id", "The champion that was checked."),
    sa.Column("kind", sa.Text, nullable=False, comment="What was measured."),
    sa.Column("class", sa.Text, comment="Class that was measured; empty: all classes."),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells it rests on."),
    sa.Column("measured", sa.Float, comment="The figure; empty if there were too few cells."),
    sa.Column("lower", sa.Float, comment="Lower end of its 95 % interval."),
    sa.Column("upper", sa.Float, comment="Upper end of its 95 % interval."),
    sa.Column("threshold", sa.Float, comment="What the figure is compared with; empty if with nothing."),
    sa.Column("passed", sa.Boolean, nullable=False, comment="False if the threshold is crossed."),
    sa.Column("reason", sa.Text, nullable=False, comment="The result in a sentence."),
    sa.Column("until_label_id", sa.BigInteger, nullable=False, comment="The newest label at that time."),
    sa.Column("since_night", sa.Date, comment="First night that a drift figure covers."),
    sa.Column("until_night", sa.Date, comment="Last night that a drift figure covers."),
    of_run("The run that made the check."),
    set_now("checked_at", "When the check was made."),
    one_of("kind", CHECKS, "model_check_kind"),
    comment="One figure of a nightly check of the champion. Append-only.",
)

look_check = sa.Table(
    "look_check",
    metadata,
    sa.Column("check_id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Key of the row."),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        nullable=False,
        comment="First cell of the slide that was compared: what was found follows it to another barcode.",
    ),
    _model("model_id", "The model with whose known images the slide's were compared."),
    sa.Column("n_cells", sa.Integer, nullable=False, comment="Cells of the slide whose images were compared."),
    sa.Column("distance", sa.Float, comment="Median distance to the nearest known looks; empty if nothing was judged."),
    sa.Column("threshold", sa.Float, comment="Distance above which the images are unlike what the model knows."),
    sa.Column("passed", sa.Boolean, nullable=False, comment="False if the images are unlike what the model knows."),
    sa.Column("reason", sa.Text, nullable=False, comment="The result in a sentence."),
    sa.Column("figures", JSONB, nullable=False, comment="Each figure of a look with known, found and difference."),
    of_run("The run that made the comparison."),
    set_now("checked_at", "When it was made."),
    sa.Index("look_check_cell", "cell_id", "model_id"),
    comment="A slide's images compared with those that a model knows: colour, sharpness and scale. A slide that was "
    "once found unlike stays so for the model. Append-only.",
)

checked_cell = sa.Table(
    "checked_cell",
    metadata,
    _model("model_id", "The champion that was checked.", primary_key=True),
    sa.Column(
        "cell_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.cell.cell_id"),
        primary_key=True,
        index=True,
        comment="The cell.",
    ),
    sa.Column(
        "label_id",
        sa.BigInteger,
        sa.ForeignKey(f"{SCHEMA}.label.label_id"),
        nullable=False,
        index=True,
        comment="The newest of the labels that the call was compared with.",
    ),
    sa.Column("class", sa.Text, comment="The class by the labels; empty if out of scope."),
    sa.Column("called_class", sa.Text, nullable=False, comment="What the champion called the cell."),
    sa.Column("is_blind", sa.Boolean, nullable=False, comment="Whether one of the labels was read blind."),
    sa.Column("is_training", sa.Boolean, nullable=False, comment="Whether the champion was trained on this image."),
    of_run("The run that made the comparison."),
    one_of("class", CELL_CLASSES, "checked_cell_class"),
    comment="A labelled cell on which a check compared a champion's call, once for each champion. Append-only.",
)
