"""Reads a slide's result back, with its slide, model and run: the version in force, another one, or a model's count."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from bloodcell.cells.intervals import Proportion, proportion
from bloodcell.cells.names import composed
from bloodcell.differential.counting import Differential, LineCount, SlideCounts, SlideFacts, count_differential
from bloodcell.differential.laboratory_rules import LaboratoryRules, read_rules, rules_of
from bloodcell.errors import UnknownRecordError
from bloodcell.presentation.numbers import moment
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import date, datetime

    import sqlalchemy as sa

    from bloodcell.differential.reference_ranges import Flag
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("results/stored_result.sql")


@dataclass(frozen=True, slots=True)
class SlideWithdrawal:
    """Why a slide was withdrawn, for whom, and the barcode that its cells have now, if they have one."""

    withdrawn_at: datetime
    reason: str
    requested_by: str
    renamed_to: str | None


@dataclass(frozen=True, slots=True)
class Slide:
    """One smear, as the analyser described it.

    Attributes:
        delivered_as: Barcode under which the cells were delivered, if the slide was renamed.
        withdrawal: None while the slide stands.
        earlier: Withdrawals of other slides that had this barcode, the newest first.
    """

    slide_id: int
    barcode: str
    night: date
    order_id: str | None
    analyser: str | None
    patient_key: str | None
    acquired_at: datetime | None
    delivered_as: str | None = None
    withdrawal: SlideWithdrawal | None = None
    earlier: tuple[SlideWithdrawal, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportingModel:
    """The model whose calls a differential counts."""

    model_id: str
    variant: str
    title: str
    created_at: datetime
    confidence_threshold: float
    novelty_threshold: float
    dataset_digest: str | None
    code_version: str | None


@dataclass(frozen=True, slots=True)
class ResultVersion:
    """One version of a slide's result.

    Attributes:
        number: 1 for the slide's first version, and so on.
        state: machine, withheld, final, amended or corrected.
        made_at: When it was made.
        signed_by: Login of the person who signed it; None if a run made it.
        reason: Why it was signed again, in that person's words.
        why: Why it differs from the version before, as a sentence.
        withheld_for: Why its percentages are, or were until it was signed, withheld.
        review_for: Review rules that name the slide.
        digest: What it was made from; None before schema 0010.
        in_force_from: From when it counted; None if it waits for a person because an earlier one was signed.
        in_force_until: When another version took its place; None until then.
    """

    number: int
    state: str
    made_at: datetime
    signed_by: str | None
    reason: str | None
    why: str
    withheld_for: tuple[str, ...]
    review_for: tuple[str, ...]
    digest: str | None
    in_force_from: datetime | None
    in_force_until: datetime | None

    @property
    def is_signed(self) -> bool:
        """Whether a person has signed it."""
        return self.signed_by is not None

    @property
    def is_in_force(self) -> bool:
        """Whether it counts now."""
        return self.in_force_from is not None and self.in_force_until is None


@dataclass(frozen=True, slots=True)
class SlideResult:
    """A version of a slide's result, or the count of a model that is not reported.

    Attributes:
        slide: The smear.
        model: The model whose calls were counted.
        differential: Counts, percentages, intervals and flags as they were written.
        facts: Age, sex and leucocyte count that it rests on.
        rules: The laboratory's rules that it was made with.
        rules_digest: Their digest; None before schema 0010.
        agreement: Calls equal to the analyser's class, among the cells to which both gave one of the eight classes.
        version: The version; None for the count of a challenger.
        versions: All versions of the slide's result, the oldest first.
        n_waiting: Cells of the slide that neither this nor a newer version counts yet.
        run_id: Run that counted it.
        code_version: Release of bloodcell that counted it.
        written_at: When it was counted.
    """

    slide: Slide
    model: ReportingModel
    differential: Differential
    facts: SlideFacts
    rules: LaboratoryRules
    rules_digest: str | None
    agreement: Proportion
    version: ResultVersion | None
    versions: tuple[ResultVersion, ...]
    n_waiting: int
    run_id: uuid.UUID
    code_version: str
    written_at: datetime

    @property
    def is_reported(self) -> bool:
        """Whether this counts now: it is the version in force of a slide that stands."""
        return self.version is not None and self.version.is_in_force and self.slide.withdrawal is None

    @property
    def waiting_version(self) -> ResultVersion | None:
        """A newer version that differs from the signed one and waits for a person; None if there is none."""
        newest = self.versions[-1] if self.versions else None
        if newest is None or newest.in_force_from is not None:
            return None
        return newest if all(each.digest != newest.digest for each in self.versions if each.is_in_force) else None

    @property
    def superseding(self) -> ResultVersion | None:
        """The version that took the place of this one; None while this one counts, or if it never did."""
        if self.version is None or self.version.in_force_until is None:
            return None
        return next((each for each in self.versions if each.number > self.version.number and each.in_force_from), None)

    @property
    def is_withheld(self) -> bool:
        """Whether the percentages are not to be used before a person has looked."""
        return self.version is not None and self.version.state == "withheld"


def read_result(
    database: Database,
    barcode: str,
    *,
    version: int | None = None,
    as_of: datetime | None = None,
    model_id: str | None = None,
) -> SlideResult:
    """Returns a result of the slide with this barcode: the version in force, unless an argument asks for another.

    Args:
        database: Where it is stored.
        barcode: The slide's barcode.
        version: Number of a version.
        as_of: The version that was in force at this moment.
        model_id: The newest count by this model: its id, or its first characters.

    Raises:
        UnknownRecordError: There is no such slide, version or model, or no result yet; the message names the next step.
    """
    return database.transact(
        lambda c: result_of(c, find_slide(c, barcode, as_of=as_of), version=version, as_of=as_of, model_id=model_id),
        patience_s=0,
    )


def result_of(
    connection: sa.Connection,
    slide: Slide,
    *,
    version: int | None = None,
    as_of: datetime | None = None,
    model_id: str | None = None,
) -> SlideResult:
    """Returns a result of a slide: the version in force, unless one of the arguments asks for something else.

    Args:
        connection: Where to read.
        slide: The smear.
        version: Number of a version.
        as_of: The version that was in force at this moment.
        model_id: The newest count by this model: its id, or its first characters.

    Raises:
        UnknownRecordError: There is no such version or model, or no result yet; the message names the next step.
    """
    versions = _versions(connection, slide)
    in_force = next((pair for pair in versions if pair[0].is_in_force), None)
    if model_id is not None:
        newest = _newest_count(connection, slide, model_id)
        if in_force is None or _count(connection, in_force[1]).model_id != newest.model_id:
            return _assembled(connection, slide, newest, None, versions)
    chosen = in_force
    if version is not None:
        chosen = next((pair for pair in versions if pair[0].number == version), None)
        if chosen is None and versions:
            raise UnknownRecordError(
                f"Slide {slide.barcode} has no version {version}; its versions are 1 to {versions[-1][0].number}."
            )
    elif as_of is not None:
        chosen = next((pair for pair in versions if _was_in_force(pair[0], as_of)), None)
        if chosen is None and versions:
            raise UnknownRecordError(
                f"Slide {slide.barcode} had no result on {moment(as_of)}: its first version was made on "
                f"{moment(versions[0][0].made_at)}."
            )
    if chosen is None:
        raise UnknownRecordError(_why_missing(connection, slide, None))
    return _assembled(connection, slide, _count(connection, chosen[1]), chosen[0], versions)


def find_slide(
    connection: sa.Connection, barcode: str, *, as_of: datetime | None = None, slide_id: int | None = None
) -> Slide:
    """Returns the slide with this barcode; if it was withdrawn and no other has it, the withdrawn one.

    Args:
        connection: Where to read.
        barcode: The barcode.
        as_of: The slide that had the barcode, and a result, at this moment; None: the one that has it now.
        slide_id: The slide with this key, of all that have or had the barcode.

    Raises:
        UnknownRecordError: There is none.
    """
    rows = connection.execute(_SQL["slides"], {"barcode": composed(barcode), "as_of": as_of}).all()
    if not rows:
        raise UnknownRecordError(
            f"No slide has the barcode {barcode!r}. Barcodes are case-sensitive. Next: bloodcell ingest NIGHT_FOLDER, "
            "if its night has not been ingested."
        )
    if as_of is not None:  # of two slides, the one that stood then; else the versions say that there was no result
        rows = sorted(rows, key=lambda row: not row.stood_with_result)
        if not rows[0].stood_with_result:
            raise UnknownRecordError(
                f"Slide {barcode} had no result on {moment(as_of)}: it was not counted yet, or was withdrawn then. "
                f"bloodcell result {barcode} lists its versions."
            )
    first, *others = rows if slide_id is None else sorted(rows, key=lambda row: row.slide_id != slide_id)
    facts = [name for name in Slide.__dataclass_fields__ if name not in ("withdrawal", "earlier")]
    return Slide(
        **{name: first._mapping[name] for name in facts},
        withdrawal=_withdrawal(first) if first.withdrawn_at else None,
        earlier=tuple(_withdrawal(row) for row in others if row.withdrawn_at),
    )


def _withdrawal(row: sa.Row[Any]) -> SlideWithdrawal:
    return SlideWithdrawal(row.withdrawn_at, row.reason, row.requested_by, row.renamed_to)


def withdrawn_text(slide: Slide) -> str:
    """Returns that the slide was withdrawn, when, for whom, why, and where its cells are; empty while it stands."""
    withdrawal = slide.withdrawal
    if withdrawal is None:
        return ""
    cells = f" Its cells are slide {withdrawal.renamed_to} now." if withdrawal.renamed_to else ""
    return (
        f"Slide {slide.barcode} of night {slide.night} was withdrawn on {moment(withdrawal.withdrawn_at)} for "
        f'{withdrawal.requested_by}: "{withdrawal.reason}".{cells}'
    )


def count_cells(connection: sa.Connection, slide: Slide) -> int:
    """Returns how many cells the slide has now."""
    return int(connection.execute(_SQL["n_cells"], {"slide_id": slide.slide_id}).scalar_one())


def _versions(connection: sa.Connection, slide: Slide) -> list[tuple[ResultVersion, int]]:
    """Returns the versions of a slide's result, the oldest first, each with the key of its count."""
    named = [each.name for each in fields(ResultVersion) if each.name not in ("number", "withheld_for", "review_for")]
    return [
        (
            ResultVersion(
                number=row.version,
                withheld_for=tuple(row.withheld_for),
                review_for=tuple(row.review_for),
                **{name: row._mapping[name] for name in named},
            ),
            row.report_id,
        )
        for row in connection.execute(_SQL["versions"], {"slide_id": slide.slide_id})
    ]


def _was_in_force(version: ResultVersion, moment: datetime) -> bool:
    since, until = version.in_force_from, version.in_force_until
    return since is not None and since <= moment and (until is None or until > moment)


def _count(connection: sa.Connection, report_id: int) -> sa.Row[Any]:
    return connection.execute(_SQL["count"], {"report_id": report_id}).one()


def _newest_count(connection: sa.Connection, slide: Slide, model_id: str) -> sa.Row[Any]:
    """Returns the newest count of a slide by the one model whose id begins with `model_id`."""
    found = connection.execute(_SQL["newest_counts"], {"slide_id": slide.slide_id, "model_id": model_id}).all()
    if not found:
        raise UnknownRecordError(_why_missing(connection, slide, model_id))
    if len(found) > 1 or not model_id:
        raise UnknownRecordError(
            f"{model_id!r} does not name one of the models that have counted slide {slide.barcode}. "
            "Next: bloodcell models list"
        )
    return _count(connection, found[0].report_id)


def _why_missing(connection: sa.Connection, slide: Slide, model_id: str | None) -> str:
    n_cells = count_cells(connection, slide)
    if slide.withdrawal is not None:
        by = f"by model {model_id[:12]} " if model_id else ""
        return f"{withdrawn_text(slide)} No differential {by}had been reported for it."
    if n_cells == 0:
        return (
            f"Slide {slide.barcode} of night {slide.night} has no usable cell, so it has no differential. "
            f"`bloodcell report {slide.barcode} --html FILE` lists its files and why each was quarantined."
        )
    by = f"model {model_id[:12]}" if model_id else "a model that is or was champion"
    return (
        f"Slide {slide.barcode} of night {slide.night} has {n_cells:,} cells and no differential by {by} yet. "
        f"Run `bloodcell classify --slide {slide.barcode}`; `bloodcell models list` shows the models."
    )


def _assembled(
    connection: sa.Connection,
    slide: Slide,
    row: sa.Row[Any],
    version: ResultVersion | None,
    versions: Sequence[tuple[ResultVersion, int]],
) -> SlideResult:
    lines = connection.execute(_SQL["lines"], {"report_id": row.report_id}).all()
    counts = {line._mapping["class"]: LineCount(line.n_cells, line.n_labelled, line.n_unverified) for line in lines}
    flags: dict[str, Flag | None] = {line._mapping["class"]: line.flag for line in lines}
    facts = SlideFacts(row.age_months, row.sex, row.wbc_received, row.wbc_is_corrected)
    # before schema 0010 the rules were those of adults, and were not kept
    rules = rules_of(row.document) if row.document else read_rules(None)
    # intervals follow from the counts; flags and sufficiency stay as written, whatever a later release would decide
    differential = count_differential(SlideCounts(counts, facts), rules).as_written(
        flags, is_sufficient=row.is_sufficient
    )
    return SlideResult(
        slide=slide,
        model=ReportingModel(
            model_id=row.model_id,
            variant=row.variant,
            title=row.title,
            created_at=row.created_at,
            confidence_threshold=row.confidence_threshold,
            novelty_threshold=row.novelty_threshold,
            dataset_digest=row.dataset_digest,
            code_version=row.model_code_version,
        ),
        differential=differential,
        facts=facts,
        rules=rules,
        rules_digest=row.rules_digest,
        agreement=proportion(row.n_agree, row.n_compared),
        version=version,
        versions=tuple(each for each, _ in versions),
        n_waiting=0 if slide.withdrawal else row.n_cells_now - max(row.n_cells, row.n_cells_newest or 0),
        run_id=row.run_id,
        code_version=row.code_version,
        written_at=row.written_at,
    )
