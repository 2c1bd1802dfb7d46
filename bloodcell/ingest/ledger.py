"""One slide's files become rows: slide, images, cells, and a ledger row for every file.

Writing the rows again, or in two runs at once, leaves the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

from bloodcell.ingest.cell_rows import repeated_cells, write_cells
from bloodcell.ingest.ledger_rows import FileRow, among, as_json, fields_of, insert_of, known_files, quarantined
from bloodcell.ingest.withdrawn_deliveries import withdrawn_delivery
from bloodcell.storage import tables

_MAX_DAYS_APART: Final = 14
"""Days within which further cells of a slide may come without a record: rescanned smears come within a few days."""
_CONFIRMING: Final = ("order_id", "acquired_at")
_SAID_ONCE: Final = ("order_id", "analyser", "patient_key", "acquired_at", "age_months", "sex")
_SAID_AGAIN: Final = ("wbc_10e9_per_l", "wbc_is_corrected")
"""What slide.json may correct later: a new count of the leucocytes is no other slide."""
_AGES_APART_MONTHS: Final = 12

if TYPE_CHECKING:
    from bloodcell.ingest.cell_rows import SamePixels
    from bloodcell.ingest.examine import Examined
    from bloodcell.ingest.slide_record import SlideRecord


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """Everything about one slide that is written at once.

    Attributes:
        barcode: The slide; None for files that belong to no slide.
        record: Its slide.json; None if that is absent or unreadable.
        record_state: One of `ingest_tables.SLIDE_RECORD_STATES`.
        contradiction: Why it is unclear whose slide this is; None if it is clear.
        examined: Its cells' files, in the analyser's order.
        others: Its other files, whose outcome is known already (ignored, or an unusable slide.json).
    """

    barcode: str | None
    record: SlideRecord | None
    record_state: str
    contradiction: str | None
    examined: Sequence[Examined]
    others: Sequence[FileRow]


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Why files may be another slide's; if `is_of_new_cells`, files that repeat cells of the slide are beyond doubt."""

    text: str
    is_of_new_cells: bool = False


def write_slide(
    connection: sa.Connection, run_id: uuid.UUID, night: date, files: SlideFiles, same_pixels: SamePixels
) -> list[str]:
    """Writes a slide's rows and returns the paths of the files that were set aside; the images are already stored.

    A transaction may write several slides. If two runs write the same slides in different orders, Postgres aborts one
    of the transactions and `transact` repeats it.
    """
    rows = list(files.others)
    if files.barcode is None:
        rows += [_set_aside(examined, None) for examined in files.examined]
    else:
        if is_erased(connection, files.barcode, files.record):  # while its files were being examined
            connection.execute(_LEAVE_TO_ERASURE, {"images": [e.image.sha256 for e in files.examined if e.image]})
            return []
        # two runs on one night wait for each other here, slide by slide
        known = connection.execute(_KNOWN_SLIDE, {"barcode": files.barcode}).one_or_none()
        withdrawn = withdrawn_delivery(connection, files.barcode, night, files.record, files.examined, same_pixels)
        if withdrawn is not None:
            rows += _withdrawn_again(connection, night, files, withdrawn)
            _write_ledger(connection, run_id, night, rows, files.examined)
            return [row.path for row in rows if row.outcome == "quarantined"]
        slide_id, doubt = _write_slide_row(connection, run_id, night, files, known)
        usable = [(e.file, e.cell, e.image) for e in files.examined if e.cell is not None and e.image is not None]
        if doubt is not None:
            repeating = repeated_cells(connection, slide_id, usable) if slide_id and doubt.is_of_new_cells else []
            paths = {file.path for file, _, _ in repeating}
            rows += [
                quarantined(e.file, files.barcode, "slide_identity", doubt.text)
                if e.image
                else _set_aside(e, files.barcode)
                for e in files.examined
                if e.file.path not in paths
            ]
            usable = repeating
        else:
            rows += [_set_aside(e, files.barcode) for e in files.examined if e.cell is None or e.image is None]
        if slide_id is not None and usable:
            rows += write_cells(connection, run_id, night, slide_id, usable, same_pixels)
    _write_ledger(connection, run_id, night, rows, files.examined)
    return [row.path for row in rows if row.outcome == "quarantined"]


def is_erased(connection: sa.Connection, barcode: str, record: SlideRecord | None) -> bool:
    """Returns whether a slide was erased; waits for an erasure that is under way."""
    known = {name: getattr(record, name, None) for name in ("order_id", "patient_key", "acquired_at")}
    return bool(connection.scalar(_IS_ERASED, {"barcode": barcode, **known}))


def set_slide_aside(
    connection: sa.Connection, run_id: uuid.UUID, night: date, files: SlideFiles, reason: str, detail: str
) -> list[str]:
    """Sets all files of a slide aside that are not accounted for by a rule; returns their paths."""
    rows = [quarantined(examined.file, files.barcode, reason, detail) for examined in files.examined]
    _write_ledger(connection, run_id, night, [*files.others, *rows], files.examined)
    return [row.path for row in rows]


def note_gone(connection: sa.Connection, run_id: uuid.UUID, night: date, still_set_aside: Collection[str]) -> None:
    """Marks as gone the files that were set aside earlier and that this run did not find.

    Files that contradict a cell (`name_taken`, `changed_after_ingest`) stay: a person has to find out why.
    """
    connection.execute(_PUT_GONE, {"of_night": night, "by_run": run_id, "paths": list(still_set_aside)})


def _withdrawn_again(connection: sa.Connection, night: date, files: SlideFiles, detail: str) -> list[FileRow]:
    """Returns the rows of files that belong to a withdrawn slide; a file that is a cell already stays that cell."""
    known = known_files(connection, night, [examined.file.path for examined in files.examined])
    rows = []
    for examined in files.examined:
        file, before = examined.file, known.get(examined.file.path)
        if examined.image is None:
            rows.append(_set_aside(examined, files.barcode))
        elif before and before.outcome in ("cell", "duplicate") and before.sha256 == examined.image.received_sha256:
            rows.append(replace(before, size_bytes=file.size_bytes, changed_ns=file.changed_ns))
        else:
            rows.append(quarantined(file, files.barcode, "slide_withdrawn", detail))
    return rows


def _write_slide_row(
    connection: sa.Connection, run_id: uuid.UUID, night: date, files: SlideFiles, known: sa.Row[Any] | None
) -> tuple[int | None, _Doubt | None]:
    doubt = _Doubt(files.contradiction) if files.contradiction is not None else None
    table = tables.slide
    recorded = {name: getattr(files.record, name) for name in (*_SAID_ONCE, *_SAID_AGAIN)} if files.record else {}
    if known is None and doubt is not None:
        return None, doubt
    if known is None:
        values = {"barcode": files.barcode, "night": night, "record_state": files.record_state, "run_id": run_id}
        new_slide = insert(table).values(**values, **recorded).on_conflict_do_nothing().returning(table.c.slide_id)
        slide_id = connection.scalar(new_slide)
        if slide_id is not None:
            return int(slide_id), doubt
        # another run has written the slide in the meantime
        known = connection.execute(_KNOWN_SLIDE, {"barcode": files.barcode}).one()
    doubt = doubt or _doubt(known, recorded, night)
    # what is said once differs only where it was unknown or is an age said more precisely, or there is a doubt
    new = {name: value for name, value in recorded.items() if value is not None and value != getattr(known, name)}
    if files.record is not None and known.record_state != "read":
        new["record_state"] = "read"
    if new and doubt is None:
        connection.execute(sa.update(table).where(table.c.slide_id == known.slide_id).values(**new))
    return int(known.slide_id), doubt


def _doubt(known: sa.Row[Any], recorded: Mapping[str, object], night: date) -> _Doubt | None:
    """Returns why new files under a known barcode are another slide's; None if nothing speaks against the same slide.

    A barcode that is used again must never be added up with the first slide: two people's cells would be one result. A
    slide whose cells were delivered under another barcode has cells already, and the slide that has always had this
    barcode is still to come. Only the time of acquisition belongs to the cells: order and patient are the barcode's.
    """
    said = [name for name in recorded if name in _SAID_ONCE and None not in (recorded[name], getattr(known, name))]
    differing = [name for name in said if not _is_same(name, recorded[name], getattr(known, name))]
    if differing:  # without the values: readers see this text, and a pseudonym is not for them
        return _Doubt(
            f"barcode {known.barcode!r} is known from night {known.night}, and its slide.json now says another "
            f"{', '.join(differing)}"
        )
    if known.delivered_as is not None and None in (known.acquired_at, recorded.get("acquired_at")):
        return _Doubt(
            f"slide {known.barcode!r} has the cells that were delivered as {known.delivered_as!r}, and no acquired_at "
            "in both slide.json says that these are more of them",
            is_of_new_cells=True,
        )
    confirmed = any(recorded.get(name) is not None and recorded[name] == getattr(known, name) for name in _CONFIRMING)
    if not confirmed and abs((night - known.night).days) > _MAX_DAYS_APART:
        return _Doubt(
            f"barcode {known.barcode!r} is known from night {known.night}, more than {_MAX_DAYS_APART} days away, and "
            f"no {' or '.join(_CONFIRMING)} says that it is the same slide"
        )
    return None


def _is_same(name: str, said: Any, known: Any) -> bool:
    """Returns whether two records say the same; ages may be a year apart, because one may be given in years."""
    return abs(said - known) <= _AGES_APART_MONTHS if name == "age_months" else bool(said == known)


def _set_aside(examined: Examined, barcode: str | None) -> FileRow:
    return quarantined(examined.file, barcode, examined.reason or "name_fits_no_pattern", examined.detail or "")


def _write_ledger(
    connection: sa.Connection, run_id: uuid.UUID, night: date, rows: Sequence[FileRow], examined: Sequence[Examined]
) -> None:
    """Writes the rows, with the images that the store has of files which are not cells: an erasure has to find them."""
    stored = {each.file.path: each.image.sha256 for each in examined if each.image}
    ordered = [
        row if row.outcome == "cell" else replace(row, stored_sha256=stored.get(row.path))
        for row in sorted(rows, key=lambda row: row.path)
    ]
    if ordered:
        connection.execute(
            _PUT_FILES, as_json([{"night": night, "run_id": run_id, **fields_of(row)} for row in ordered])
        )


def _put_files() -> Insert:
    table = tables.drop_file
    statement = insert_of(table, "night", "run_id", *FileRow.__dataclass_fields__)
    judged = ("outcome", "reason", "detail", "cell_id", "sha256", "size_bytes", "changed_ns", "stored_sha256")
    return statement.on_conflict_do_update(
        index_elements=[table.c.night, table.c.path],
        set_={name: statement.excluded[name] for name in ("barcode", *judged, "run_id")}
        | {"updated_at": sa.func.now()},
        where=sa.or_(*(table.c[name].is_distinct_from(statement.excluded[name]) for name in judged)),
    )


_IS_ERASED: Final = sa.select(
    sa.func.bloodcell.is_erased(
        sa.bindparam("barcode"),
        sa.bindparam("order_id", type_=sa.Text),
        sa.bindparam("patient_key", type_=sa.Text),
        sa.bindparam("acquired_at", type_=sa.TIMESTAMP(timezone=True)),
    )
)
_LEAVE_TO_ERASURE: Final = sa.select(
    sa.func.bloodcell.leave_to_erasure(sa.bindparam("images", type_=ARRAY(sa.Text)).cast(ARRAY(sa.Text)))
)
# rows may refer to the slide while it is locked (key_share)
_KNOWN_SLIDE: Final = (
    sa.select(tables.slide)
    .where(tables.slide.c.barcode == sa.bindparam("barcode"), tables.slide.c.withdrawn_at.is_(None))
    .with_for_update(key_share=True)
)
_PUT_FILES: Final = _put_files()
# rows that another run wrote in the meantime are left to that run
_PUT_GONE: Final = (
    sa.update(tables.drop_file)
    .values(outcome="ignored", reason="gone", detail=None, run_id=sa.bindparam("by_run"), updated_at=sa.func.now())
    .where(
        tables.drop_file.c.night == sa.bindparam("of_night"),
        tables.drop_file.c.outcome == "quarantined",
        tables.drop_file.c.cell_id.is_(None),
        sa.not_(among(tables.drop_file.c.path, "paths")),
        tables.drop_file.c.updated_at
        < sa.select(tables.run.c.started_at).where(tables.run.c.run_id == sa.bindparam("by_run")).scalar_subquery(),
    )
)
