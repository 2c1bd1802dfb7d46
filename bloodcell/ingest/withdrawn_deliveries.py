"""Recognises files that belong to a withdrawn slide, so that a late or repeated delivery cannot bring it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bloodcell.cells.names import bare_name
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    import sqlalchemy as sa

    from bloodcell.ingest.cell_rows import SamePixels
    from bloodcell.ingest.examine import Examined
    from bloodcell.ingest.slide_record import SlideRecord

_SQL: Final = load_statements("ingest/withdrawn_deliveries.sql")


def withdrawn_delivery(
    connection: sa.Connection,
    barcode: str,
    night: date,
    record: SlideRecord | None,
    examined: Sequence[Examined],
    same_pixels: SamePixels,
) -> str | None:
    """Returns why files are taken for those of a slide that was withdrawn; None if they are another slide's.

    They are another slide's only if slide.json gives its own time of acquisition and none of the images is known from
    the withdrawn slide. Without such evidence a person has to decide: a wrong patient's cells would be reported again.

    Args:
        connection: Where to read.
        barcode: The barcode under which the files were delivered.
        night: The night that brought them.
        record: Their slide.json, if there is a valid one.
        examined: The files.
        same_pixels: Compares images of the store.
    """
    withdrawn = connection.execute(_SQL["withdrawn"], {"barcode": barcode}).all()
    if not withdrawn:
        return None
    acquired_at = record.acquired_at if record else None
    doubtful = [slide for slide in withdrawn if not _is_another(acquired_at, night, slide.acquired_at, slide.night)]
    if doubtful:
        return (
            f"a slide delivered as {barcode!r} in night {doubtful[0].night} was withdrawn, and no slide.json with "
            "another acquired_at says that this is another slide"
        )
    if _has_their_images(connection, barcode, examined, same_pixels):
        return f"a slide delivered as {barcode!r} in night {withdrawn[0].night} was withdrawn, and these are its images"
    return None


def _has_their_images(
    connection: sa.Connection, barcode: str, examined: Sequence[Examined], same_pixels: SamePixels
) -> bool:
    """Returns whether one of the files has an image of the withdrawn slide.

    An export of the same cell at another time differs in its metadata, and perhaps in its compression.
    """
    theirs = connection.execute(_SQL["their_images"], {"barcode": barcode}).all()
    digests = {digest for image in theirs for digest in (image.received_sha256, image.sha256)}
    if any(e.image and not digests.isdisjoint((e.image.sha256, e.image.received_sha256)) for e in examined):
        return True
    namesakes: dict[str, set[str]] = {}
    for image in theirs:
        namesakes.setdefault(bare_name(image.file_name), set()).add(image.sha256)
    return any(
        same_pixels(sha256, e.image.sha256)
        for e in examined
        if e.cell and e.image
        for sha256 in namesakes.get(bare_name(e.cell.file_name), ())
    )


def _is_another(
    acquired_at: datetime | None, night: date, withdrawn_acquired_at: datetime | None, withdrawn_night: date
) -> bool:
    if acquired_at is None:
        return False
    return acquired_at != withdrawn_acquired_at if withdrawn_acquired_at is not None else night != withdrawn_night
