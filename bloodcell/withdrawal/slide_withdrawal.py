"""The stage itself: a slide is withdrawn, renamed or restored, in one transaction that only adds rows to the record."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import ConfigurationError
from bloodcell.report.night_page import rewrite_night_pages
from bloodcell.results.due_results import write_due_results
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.runs import recorded_run
from bloodcell.storage.statements import load_statements
from bloodcell.withdrawal.withdrawal_plan import KnownSlide, RightSlide, WithdrawalPlan, WithdrawalRequest, plan

if TYPE_CHECKING:
    import uuid
    from datetime import date, datetime

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("withdrawal/slide_withdrawal.sql")
_MAX_CHARACTERS: Final = 200
"""As in slide.json."""


@dataclass(frozen=True, slots=True)
class SlideChange:
    """What happens to one slide, and what its cells have been used for.

    Attributes:
        barcode: Its barcode until now.
        night: Its night.
        action: withdraw, rename or restore.
        renamed_to: The barcode that its cells get, or None.
        renamed_order_id: The order that they get, or None.
        renamed_patient_key: The patient that they get, or None.
        n_cells: Its cells.
        n_labels: Labels of them.
        reported_variant: Variant of the model whose calls were reported, or None.
        reported_model_id: Id of that model.
        reported_at: When these calls were added up.
        n_snapshots: Data sets that contain some of its cells; a data set never changes.
        trained_models: Models that were trained on some of its cells, as variant and id.
    """

    barcode: str
    night: date
    action: str
    renamed_to: str | None
    renamed_order_id: str | None
    renamed_patient_key: str | None
    n_cells: int
    n_labels: int
    reported_variant: str | None
    reported_model_id: str | None
    reported_at: datetime | None
    n_snapshots: int
    trained_models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a request does, or has done.

    Attributes:
        changes: One for each slide that is withdrawn, renamed or restored.
        reported: Barcodes for which the cells are reported now; empty for a plan.
    """

    changes: tuple[SlideChange, ...]
    reported: tuple[str, ...] = ()


def plan_withdrawal(database: Database, request: WithdrawalRequest) -> Withdrawal:
    """Returns what the request would do; changes nothing.

    Args:
        database: The database.
        request: What a person asks for.

    Raises:
        AlreadyDoneError: It has been done already.
        UnknownRecordError: No slide has or had this barcode.
        ConfigurationError: It would add up two slides or leave unclear which one is meant, or a value is not valid.
    """
    request = _checked(request)
    return database.transact(lambda connection: _plan(connection, request), patience_s=0)


def withdraw_slide(settings: Settings, request: WithdrawalRequest) -> Withdrawal:
    """Withdraws, renames or restores a slide, adds up its cells under the right barcode, and returns what was done.

    What was reported stays readable, marked as withdrawn. A kill leaves either nothing or the whole change; if the
    cells were not added up again before it, the next nightly run does that.

    Args:
        settings: The database, and the laboratory's rules.
        request: What a person asks for.

    Raises:
        AlreadyDoneError: It has been done already.
        UnknownRecordError: No slide has or had this barcode.
        ConfigurationError: It would add up two slides or leave unclear which one is meant, or a value is not valid; or
            it was done, but the night's page cannot be written.
    """
    request = _checked(request)
    database = open_database(settings)
    done = database.transact(lambda connection: _plan(connection, request))  # a refusal is not a run
    with recorded_run(database, "withdraw") as run:
        database.transact(lambda connection: _carry_out(connection, request, run.run_id))
        run.n_cells = sum(change.n_cells for change in done.changes)
        run.detail |= {"actions": [change.action for change in done.changes]}
    standing = [c.renamed_to or c.barcode for c in done.changes if c.action != "withdraw"]
    reported = write_due_results(settings, slides=standing) if standing else []
    barcodes = [barcode for c in done.changes for barcode in (c.barcode, c.renamed_to) if barcode]
    nights = database.transact(lambda connection: connection.scalars(_SQL["nights"], {"barcodes": barcodes}).all())
    rewrite_night_pages(settings, database, nights)
    return replace(done, reported=tuple(reported))


def _checked(request: WithdrawalRequest) -> WithdrawalRequest:
    reason, person = request.reason.strip(), request.requested_by.strip()
    if not reason or not person:
        raise ConfigurationError("A withdrawal needs a reason and a person who asks for it; both are kept permanently.")
    barcode = request.renamed_to
    if barcode is not None:
        barcode = unicodedata.normalize("NFC", barcode)
        is_clean = all(unicodedata.category(char)[0] != "C" and char not in "/\\" for char in barcode)
        if not is_clean or barcode != barcode.strip() or not 0 < len(barcode) <= _MAX_CHARACTERS:
            raise ConfigurationError(
                f"--renamed-to: expected a barcode of at most {_MAX_CHARACTERS} characters, without slashes, control "
                f"characters and blanks at its ends, received {barcode!r}"
            )
    if barcode is None and (request.swap or request.record):
        raise ConfigurationError("--swap and --record need the right barcode: --renamed-to BARCODE")
    if (request.swap and request.record) or (request.undo and barcode is not None):
        raise ConfigurationError(
            "--swap takes orders and patients from the two slides, and --undo knows the former barcode: leave out "
            "--record or --renamed-to."
        )
    return replace(request, reason=reason, requested_by=person, renamed_to=barcode)


def _plan(connection: sa.Connection, request: WithdrawalRequest) -> Withdrawal:
    # one snapshot: half of another withdrawal would look like a contradiction
    connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    return _described(connection, plan(connection, request))


def _carry_out(connection: sa.Connection, request: WithdrawalRequest, run_id: uuid.UUID) -> None:
    rows = tables.slide_withdrawal
    if connection.scalar(sa.select(sa.exists().where(rows.c.run_id == run_id))):
        return  # the first commit took place, although the connection was lost
    connection.execute(_SQL["lock_slides"], {"barcode": request.barcode, "renamed_to": request.renamed_to})
    planned = plan(connection, request)
    said = {"reason": request.reason, "requested_by": request.requested_by, "run_id": run_id}

    def record(slide: KnownSlide, action: str, renamed_to: int | None = None) -> None:
        row = {"slide_id": slide.slide_id, "action": action, "renamed_to": renamed_to, **said}
        connection.execute(insert(rows).values(row))

    for slide in planned.withdrawn:  # all of them first: two slides that are swapped need each other's barcode
        record(slide, "withdraw")
    for slide, right in planned.moves:
        record(slide, "rename", _put(connection, slide, right, run_id))
    if planned.restored is not None:
        record(planned.restored, "restore")


def _put(connection: sa.Connection, source: KnownSlide, right: RightSlide, run_id: uuid.UUID) -> int:
    """Makes the slide with the right barcode, or completes the one that is there without cells; returns its key."""
    table = tables.slide
    known = {
        "order_id": right.order_id,
        "patient_key": right.patient_key,
        "analyser": right.analyser,
        "acquired_at": right.acquired_at,
        "record_state": right.record_state,
        "delivered_as": right.delivered_as,
        "age_months": right.age_months,
        "sex": right.sex,
        "wbc_10e9_per_l": right.wbc_10e9_per_l,
        "wbc_is_corrected": right.wbc_is_corrected,
    }
    if right.slide_id is not None:
        connection.execute(sa.update(table).where(table.c.slide_id == right.slide_id).values(**known))
        return right.slide_id
    made = {"barcode": right.barcode, "night": source.night, "run_id": run_id, **known}
    new_slide = insert(table).values(made).on_conflict_do_nothing().returning(table.c.slide_id)
    slide_id = connection.scalar(new_slide)
    if slide_id is None:
        raise ConfigurationError(f"Slide {right.barcode} was delivered at this moment. Next: run the command again.")
    return int(slide_id)


def _described(connection: sa.Connection, planned: WithdrawalPlan) -> Withdrawal:
    moves = {source.slide_id: right for source, right in planned.moves}
    slides = {slide.slide_id: slide for slide in (*planned.withdrawn, *(source for source, _ in planned.moves))}
    changes = [
        _change(connection, slide, "rename" if slide_id in moves else "withdraw", moves.get(slide_id))
        for slide_id, slide in slides.items()
    ]
    if planned.restored is not None:
        changes.append(_change(connection, planned.restored, "restore", None))
    return Withdrawal(tuple(changes))


def _change(connection: sa.Connection, slide: KnownSlide, action: str, right: RightSlide | None) -> SlideChange:
    of_slide = {"slide_id": slide.slide_id}
    uses: dict[str, Any] = dict(connection.execute(_SQL["uses"], of_slide).one()._mapping)
    trained = tuple(
        f"{variant} {model_id}" for variant, model_id in connection.execute(_SQL["trained_models"], of_slide)
    )
    return SlideChange(
        slide.barcode,
        slide.night,
        action,
        renamed_to=right.barcode if right else None,
        renamed_order_id=right.order_id if right else None,
        renamed_patient_key=right.patient_key if right else None,
        n_cells=slide.n_cells,
        trained_models=trained,
        **uses,
    )
