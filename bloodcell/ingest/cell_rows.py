"""A slide's usable files become cells; a cell counts once, however often and in whatever form it was delivered.

Two files are one cell if their images are equal without metadata. Two files whose names differ only in ending, case or
leading zeros are one cell if their pixels are equal; if not, the second one is set aside, since one of them is wrong.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.classes import class_of_code
from bloodcell.cells.names import bare_name
from bloodcell.ingest.file_outcomes import QUARANTINE_REASONS
from bloodcell.ingest.ledger_rows import FileRow, as_json, fields_of, insert_of, known_files
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.inbox.listing import ListedFile
    from bloodcell.ingest.examine import NamedCell, StoredImage

SamePixels = Callable[[str, str], bool]
"""Returns whether two images of the store, given by their digests, have equal pixels."""


@dataclass(frozen=True, slots=True)
class _Cell:
    file_name: str
    cell_id: int
    night: date
    sha256: str
    received_sha256: str
    path: str | None


class _KnownCells:
    """Cells of a slide, found by file name, by image or by bare name."""

    def __init__(self, cells: Iterable[_Cell]) -> None:
        self.by_name: dict[str, _Cell] = {}
        self.by_image: dict[str, _Cell] = {}
        self.by_bare_name: dict[str, _Cell] = {}
        for cell in cells:
            self.by_name[cell.file_name] = cell
            self.by_image.setdefault(cell.sha256, cell)
            self.by_bare_name.setdefault(bare_name(cell.file_name), cell)


Usable = tuple["ListedFile", "NamedCell", "StoredImage"]
"""A file, the cell that it is named after, and its image."""


def write_cells(
    connection: sa.Connection,
    run_id: uuid.UUID,
    night: date,
    slide_id: int,
    usable: Sequence[Usable],
    same_pixels: SamePixels,
) -> list[FileRow]:
    """Writes those images and cells of a slide that are new, and returns a ledger row for each usable file.

    Args:
        connection: An open transaction that has the slide's lock.
        run_id: The run.
        night: Night of the files.
        slide_id: The slide.
        usable: The files, in the analyser's order.
        same_pixels: Compares images of the store.
    """
    _write_images(connection, [image for _, _, image in usable])
    cells = _known_cells(connection, slide_id, usable)
    known = _KnownCells(cells)
    if new := _new_cells(known, usable):
        of_slide = {"slide_id": slide_id, "night": night, "run_id": run_id}
        put = connection.execute(_PUT_CELLS, as_json([{**of_slide, **cell} for cell in new]))
        known = _KnownCells([*cells, *(_Cell(*row) for row in put)])
    before = known_files(connection, night, [file.path for file, _, _ in usable])
    paths = {cell.cell_id: cell.path for cell in known.by_name.values()}
    rows = []
    for file, cell, image in usable:
        namesake = known.by_name.get(cell.file_name)
        if namesake is None:
            outcome, reason, cell_id = _repeats(cell, image, known, same_pixels)
        elif image.sha256 != namesake.sha256 and image.received_sha256 != namesake.received_sha256:
            row = before.get(file.path)
            was_the_cell = row is not None and (row.outcome == "cell" or row.reason == "changed_after_ingest")
            reason = "changed_after_ingest" if was_the_cell else "name_taken"
            outcome, cell_id = "quarantined", namesake.cell_id
        elif namesake.night != night:
            outcome, reason, cell_id = "duplicate", "delivered_again", namesake.cell_id
        elif paths[namesake.cell_id] not in (None, file.path):  # the name composed, and once more decomposed
            outcome, reason, cell_id = "duplicate", "same_cell", namesake.cell_id
        else:
            outcome, reason, cell_id = "cell", None, namesake.cell_id
            paths[cell_id] = file.path
        detail = QUARANTINE_REASONS.get(reason) if reason else None
        facts = (image.received_sha256, file.size_bytes, file.changed_ns)
        rows.append(FileRow(file.path, cell.barcode, outcome, reason, detail, cell_id, *facts))
    return rows


def repeated_cells(connection: sa.Connection, slide_id: int, usable: Sequence[Usable]) -> list[Usable]:
    """Returns those of the usable files whose images are cells of the slide already."""
    images = _KnownCells(_known_cells(connection, slide_id, usable)).by_image.keys() if usable else ()
    return [file for file in usable if not set(_digests(file[2])).isdisjoint(images)]


def _new_cells(known: _KnownCells, usable: Sequence[Usable]) -> list[dict[str, object]]:
    names, images, bare_names = set(known.by_name), set(known.by_image), set(known.by_bare_name)
    new: list[dict[str, object]] = []
    for _, cell, image in usable:
        bare = bare_name(cell.file_name)
        if cell.file_name in names or not images.isdisjoint(_digests(image)) or bare in bare_names:
            continue
        names.add(cell.file_name)
        images.add(image.sha256)
        bare_names.add(bare)
        new.append(
            {
                "file_name": cell.file_name,
                "sha256": image.sha256,
                "received_sha256": image.received_sha256 if image.received_sha256 != image.sha256 else None,
                "analyser_code": cell.analyser_code,
                "analyser_class": class_of_code(cell.analyser_code),
            }
        )
    return new


def _repeats(cell: NamedCell, image: StoredImage, known: _KnownCells, same_pixels: SamePixels) -> tuple[str, str, int]:
    """Returns outcome, reason and cell of a file that has another cell's image, or its name in another form."""
    for digest in _digests(image):
        if same := known.by_image.get(digest):
            return "duplicate", "same_image", same.cell_id
    other = known.by_bare_name[bare_name(cell.file_name)]
    if same_pixels(other.sha256, image.sha256):
        return "duplicate", "same_cell", other.cell_id
    return "quarantined", "name_taken", other.cell_id


def _digests(image: StoredImage) -> tuple[str, str]:
    """Returns the digests under which the store may have the image: earlier releases stored files as received."""
    return image.sha256, image.received_sha256


def _write_images(connection: sa.Connection, images: Sequence[StoredImage]) -> None:
    # in the order of the key, so that two slides with the same images cannot deadlock
    rows = [fields_of(image) for image in sorted(images, key=lambda image: image.sha256)]
    if rows:
        connection.execute(_PUT_IMAGES, as_json(rows))


def _known_cells(connection: sa.Connection, slide_id: int, usable: Sequence[Usable]) -> list[_Cell]:
    values = {
        "slide_id": slide_id,
        "names": [cell.file_name for _, cell, _ in usable],
        "images": [digest for _, _, image in usable for digest in _digests(image)],
        "bare_names": [bare_name(cell.file_name) for _, cell, _ in usable],
    }
    return [_Cell(*row) for row in connection.execute(_SQL["known_cells"], values)]


_SQL: Final = load_statements("ingest/cell_rows.sql")
_PUT_IMAGES: Final = insert_of(
    tables.image, "sha256", "size_bytes", "width_px", "height_px", "format"
).on_conflict_do_nothing()
_PUT_CELLS: Final = insert_of(
    tables.cell,
    "slide_id",
    "file_name",
    "night",
    "sha256",
    "received_sha256",
    "analyser_code",
    "analyser_class",
    "run_id",
).returning(
    tables.cell.c.file_name,
    tables.cell.c.cell_id,
    tables.cell.c.night,
    tables.cell.c.sha256,
    sa.func.coalesce(tables.cell.c.received_sha256, tables.cell.c.sha256),
    sa.null().label("path"),
)
