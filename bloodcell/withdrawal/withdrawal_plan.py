"""Finds the slides that a withdrawal is about, and refuses what would report a wrong result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import AlreadyDoneError, ConfigurationError, UnknownRecordError
from bloodcell.presentation.numbers import moment
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from datetime import date, datetime

    import sqlalchemy as sa

    from bloodcell.ingest.slide_record import SlideRecord

_SQL: Final = load_statements("withdrawal/withdrawal_plan.sql")


_OF_BARCODE: Final = ("order_id", "patient_key", "age_months", "sex", "wbc_10e9_per_l", "wbc_is_corrected")
"""What slide.json says of the patient and the specimen, not of these cells."""


@dataclass(frozen=True, slots=True)
class WithdrawalRequest:
    """What a person asks for.

    Attributes:
        barcode: The slide's present barcode; with `undo`, the one that it had.
        reason: Why, kept for good.
        requested_by: The person.
        renamed_to: The right barcode; None if it is not known, or if there is none.
        record: The right slide.json, with order and patient of `renamed_to`.
        swap: The slide `renamed_to` has cells of its own, and gets this slide's barcode.
        undo: Take back what was done to this slide last.
        night: The slide's night, where a barcode was used for several slides.
    """

    barcode: str
    reason: str
    requested_by: str
    renamed_to: str | None = None
    record: SlideRecord | None = None
    swap: bool = False
    undo: bool = False
    night: date | None = None


@dataclass(frozen=True, slots=True)
class KnownSlide:
    """A slide that has or had a barcode; `renamed_to` is where its cells are now."""

    slide_id: int
    barcode: str
    night: date
    order_id: str | None
    patient_key: str | None
    analyser: str | None
    acquired_at: datetime | None
    record_state: str
    delivered_as: str | None
    age_months: int | None
    sex: str | None
    wbc_10e9_per_l: float | None
    wbc_is_corrected: bool | None
    withdrawn_at: datetime | None
    reason: str | None
    requested_by: str | None
    renamed_to: str | None
    n_cells: int


@dataclass(frozen=True, slots=True)
class RightSlide:
    """The slide with the right barcode, to which order, patient and specimen belong; the rest belongs to the cells.

    `slide_id` is None for a slide that has to be made.
    """

    slide_id: int | None
    barcode: str
    order_id: str | None
    patient_key: str | None
    analyser: str | None
    acquired_at: datetime | None
    record_state: str
    delivered_as: str | None
    age_months: int | None
    sex: str | None
    wbc_10e9_per_l: float | None
    wbc_is_corrected: bool | None


@dataclass(frozen=True, slots=True)
class WithdrawalPlan:
    """What is done, in this order: slides are withdrawn, their cells moved, or a slide is restored."""

    withdrawn: tuple[KnownSlide, ...] = ()
    moves: tuple[tuple[KnownSlide, RightSlide], ...] = ()
    restored: KnownSlide | None = None


def plan(connection: sa.Connection, request: WithdrawalRequest) -> WithdrawalPlan:
    """Returns what the request means now.

    Raises:
        AlreadyDoneError: It has been done already.
        UnknownRecordError: No slide has or had this barcode.
        ConfigurationError: It would add up two slides, or leave unclear which slide is meant.
    """
    known = _slides(connection, request.barcode)
    slides = [slide for slide in known if request.night in (None, slide.night)]
    if not slides:
        of_night = f" in night {request.night}" if request.night else ""
        raise UnknownRecordError(
            f"No slide has or had the barcode {request.barcode!r}{of_night}. Barcodes are case-sensitive. "
            "Next: bloodcell db psql -c 'TABLE slide_status'"
        )
    if request.undo:
        return _undoing(connection, known, slides)
    if request.renamed_to is None:
        standing = _standing(slides)
        if standing is None:
            raise AlreadyDoneError(_already(slides[-1]))
        return WithdrawalPlan(withdrawn=(standing,))
    if request.swap:
        return _swapping(slides, _slides(connection, request.renamed_to), request.renamed_to)
    source = _source(slides, request.renamed_to)
    right = _right_slide(source, request.renamed_to, _slides(connection, request.renamed_to), request.record)
    return WithdrawalPlan(_unless_withdrawn(source), ((source, right),))


def _slides(connection: sa.Connection, barcode: str) -> list[KnownSlide]:
    return [KnownSlide(**row._mapping) for row in connection.execute(_SQL["slides"], {"barcode": barcode})]


def _standing(slides: list[KnownSlide]) -> KnownSlide | None:
    return next((slide for slide in slides if slide.withdrawn_at is None), None)


def _unless_withdrawn(slide: KnownSlide) -> tuple[KnownSlide, ...]:
    return () if slide.withdrawn_at else (slide,)


def _source(slides: list[KnownSlide], renamed_to: str) -> KnownSlide:
    """Returns the slide to rename: the one whose cells are still its own."""
    with_cells = [slide for slide in slides if slide.n_cells]
    if not with_cells:
        last = slides[-1]
        if last.renamed_to == renamed_to:
            raise AlreadyDoneError(_already(last))
        if last.renamed_to is not None:
            raise ConfigurationError(
                f"{_already(last)} To rename it again: bloodcell withdraw {last.renamed_to} --renamed-to {renamed_to}"
            )
        raise ConfigurationError(
            f"Slide {last.barcode} of night {last.night} has no cells that could get another barcode. Withdraw it "
            "without --renamed-to."
        )
    if len(with_cells) > 1:
        nights = ", ".join(str(slide.night) for slide in with_cells)
        raise ConfigurationError(
            f"{len(with_cells)} slides have or had the barcode {with_cells[0].barcode!r}, of the nights {nights}. "
            "Say which one is meant: --night"
        )
    return with_cells[0]


def _right_slide(source: KnownSlide, barcode: str, others: list[KnownSlide], record: SlideRecord | None) -> RightSlide:
    """Returns the slide that gets the cells of `source`; refuses to add up two slides."""
    if barcode == source.barcode:
        if record is None:
            raise ConfigurationError(
                f"Slide {barcode} already has this barcode. To correct its order or patient, give the right "
                "slide.json: --record FILE"
            )
        if all(getattr(record, name) == getattr(source, name) for name in _OF_BARCODE):
            raise AlreadyDoneError(f"Slide {barcode} already has this order and this patient.")
        return _merged(source, barcode, None, record, None)
    standing = _standing(others)
    if standing is not None and standing.n_cells:
        raise ConfigurationError(
            f"Slide {barcode} of night {standing.night} has {standing.n_cells:,} cells of its own, and two slides are "
            "never added up. If the two were swapped, add --swap. If both are one specimen, withdraw "
            f"{source.barcode} without --renamed-to and deliver its folder again as {barcode}."
        )
    # without a record, order and patient stay empty: those of a withdrawn slide may be why it was withdrawn
    return _merged(source, barcode, standing, record, None)


def _merged(
    source: KnownSlide,
    barcode: str,
    standing: KnownSlide | None,
    record: SlideRecord | None,
    former: KnownSlide | None,
) -> RightSlide:
    of_barcode = [each for each in (standing, record) if each is not None] or [each for each in (former,) if each]
    of_cells = [each for each in (source, standing, record) if each is not None]
    found = {
        name: _agreed(name, barcode, [getattr(each, name) for each in those])
        for those, names in ((of_barcode, _OF_BARCODE), (of_cells, ("analyser", "acquired_at")))
        for name in names
    }
    delivered_as = source.delivered_as or source.barcode
    return RightSlide(
        slide_id=standing.slide_id if standing else None,
        barcode=barcode,
        record_state="read" if any(value is not None for value in found.values()) else "absent",
        delivered_as=None if delivered_as == barcode else delivered_as,
        **found,
    )


def _agreed(name: str, barcode: str, values: list[Any]) -> Any:
    given = {value for value in values if value is not None}
    if len(given) > 1:  # without the values: a pseudonym is not for everyone who reads this
        raise ConfigurationError(
            f"What is known of slide {barcode}, its record and the cells contradict each other in {name}. Find out "
            "whose cells these are before they get this barcode."
        )
    return next(iter(given), None)


def _swapping(slides: list[KnownSlide], others: list[KnownSlide], barcode: str) -> WithdrawalPlan:
    one, other = _standing(slides), _standing(others)
    if one is None or other is None or one.slide_id == other.slide_id or not (one.n_cells and other.n_cells):
        raise ConfigurationError(
            f"--swap needs two slides that are not withdrawn and have cells: expected {slides[0].barcode} and "
            f"{barcode}. Without --swap, the cells of one slide get a barcode that has none."
        )
    if (one.delivered_as, other.delivered_as) == (other.barcode, one.barcode):
        raise AlreadyDoneError(f"Slides {one.barcode} and {other.barcode} were swapped already. To swap back: --undo")
    return WithdrawalPlan(
        (one, other),
        ((one, _merged(one, other.barcode, None, None, other)), (other, _merged(other, one.barcode, None, None, one))),
    )


def _undoing(connection: sa.Connection, known: list[KnownSlide], slides: list[KnownSlide]) -> WithdrawalPlan:
    """Returns how the last withdrawal or renaming of the slide is taken back, which is done by further rows."""
    standing = _standing(known)
    withdrawn = sorted((s for s in slides if s.withdrawn_at is not None), key=lambda s: (s.withdrawn_at, s.slide_id))
    if not withdrawn:
        raise AlreadyDoneError(f"Slide {slides[-1].barcode} of night {slides[-1].night} is not withdrawn.")
    last = withdrawn[-1]
    if last.renamed_to is None:
        if standing is not None:
            raise ConfigurationError(_taken(last, standing))
        return WithdrawalPlan(restored=last)
    others = _slides(connection, last.renamed_to)
    moved = _standing(others)
    if moved is None and standing is not None and standing.delivered_as == last.delivered_as:
        raise AlreadyDoneError(
            f"{_already(last)} That was taken back: its cells are on slide {standing.barcode} again."
        )
    if moved is None or (moved.delivered_as or moved.barcode) != (last.delivered_as or last.barcode):
        raise ConfigurationError(
            f"{_already(last)} Slide {last.renamed_to} has changed since. See the view withdrawal_history."
        )
    if standing is None or standing.slide_id == moved.slide_id:
        return WithdrawalPlan((moved,), ((moved, _merged(moved, last.barcode, None, None, last)),))
    if standing.delivered_as == last.renamed_to:
        return WithdrawalPlan(
            (moved, standing),
            (
                (moved, _merged(moved, last.barcode, None, None, standing)),
                (standing, _merged(standing, moved.barcode, None, None, moved)),
            ),
        )
    raise ConfigurationError(_taken(last, standing))


def _already(slide: KnownSlide) -> str:
    renamed = f", and its cells are now slide {slide.renamed_to}" if slide.renamed_to else ""
    return (
        f"Slide {slide.barcode} of night {slide.night} was withdrawn on {moment(slide.withdrawn_at)} for "
        f'{slide.requested_by} ("{slide.reason}"){renamed}.'
    )


def _taken(slide: KnownSlide, standing: KnownSlide) -> str:
    return (
        f"{_already(slide)} Another slide of night {standing.night} has this barcode now, so it cannot be given back. "
        "If that is wrong, withdraw the other one first."
    )
