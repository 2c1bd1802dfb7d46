"""Reads a folder sorted by class: FOLDER/<class or code>/<file>, or FOLDER/<class or code>/<barcode>/<file>.

A cell is found by the digest of its image, whatever the file is called and whatever metadata it got. The time of a
label is the time at which its file was put there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.cells.label_meanings import Meaning, meaning_of
from bloodcell.cells.names import composed
from bloodcell.errors import UnusableFileError
from bloodcell.inbox.ignoring import ignore_reason
from bloodcell.inbox.listing import ListedFile, list_folder
from bloodcell.inbox.unchanged_files import read_unchanged
from bloodcell.ingest.file_outcomes import QUARANTINE_REASONS
from bloodcell.labels.csv_rows import Progress
from bloodcell.labels.label_outcomes import RowErrors, shown, unusable
from bloodcell.labels.label_rows import BadRowError, LabelRow

if TYPE_CHECKING:
    from bloodcell.settings import ImageSettings

_PROGRESS_EVERY: Final = 100


class FolderLabels:
    """The labels of a folder sorted by class. None counts as blind, since a model may have filled the folder.

    Args:
        folder: The folder.
        labelled_by: Who sorted it.
        settings: Bounds of an image; larger files are refused.

    Attributes:
        n_rows: Files read so far.
        ignored_columns: Always empty, since a folder has no columns.
        sha256: Digest over every file's path, size and time, once all files have been listed.
    """

    source: Final = "folder"
    ignored_columns: Final[tuple[str, ...]] = ()

    def __init__(self, folder: Path, labelled_by: str, settings: ImageSettings) -> None:
        self._folder, self._labelled_by, self._settings = folder, labelled_by, settings
        self.n_rows = 0
        self.sha256 = ""

    def read(self, errors: RowErrors, on_progress: Progress) -> Iterator[LabelRow]:
        """Yields a row for each file that is a label; the others go to `errors`. Can be called again.

        Raises:
            UnusableFileError: Not a folder of labels; reason one of `label_outcomes.FILE_REASONS`.
            StillWrittenError: A file changed while it was read.
        """
        self.n_rows, digest = 0, FolderDigest()
        for name, file in labelled_files(self._folder):
            digest.add(file)
            self.n_rows += 1
            if self.n_rows % _PROGRESS_EVERY == 0:
                on_progress("Read", self.n_rows, 0)
            try:
                yield self._row(self.n_rows, name, file)
            except (BadRowError, UnusableFileError) as error:
                errors.add(self.n_rows, f"{file.path}: {error}")
        self.sha256 = digest.hexdigest()
        if not self.n_rows:
            raise unusable("no_labels", "expected FOLDER/<class or code>/<file>, received no file")

    def _row(self, row: int, name: str, file: ListedFile) -> LabelRow:
        if file.problem is not None:
            raise UnusableFileError(file.problem, QUARANTINE_REASONS[file.problem])
        if file.size_bytes > self._settings.max_file_bytes:
            raise BadRowError(f"expected at most {self._settings.max_file_bytes:,} bytes, received {file.size_bytes:,}")
        meaning = _meaning(name)
        _, *folders, file_name = file.path.split("/")
        body = read_unchanged(file, self._settings.max_file_bytes)
        digests = hashlib.sha256(body).hexdigest(), hashlib.sha256(self._bare(body)).hexdigest()
        at = datetime.fromtimestamp(min(file.changed_ns, time.time_ns()) // 1_000 / 1e6, UTC).isoformat()
        barcode, inner = (folders[0], [*folders[1:], file_name]) if folders else (None, [file_name])
        place = (None if barcode is None else composed(barcode)), composed("/".join(inner))
        return LabelRow(row, *place, None, *digests, meaning, self._labelled_by, at, False, False, None)

    def _bare(self, body: bytes) -> bytes:
        from bloodcell.storage.bare_image import without_metadata
        from bloodcell.storage.decoding import ImageBounds, verify

        bounds = ImageBounds.of(self._settings)
        try:
            return without_metadata(body, verify(body, bounds).format, bounds)
        except UnusableFileError:  # no cell can have this image
            return body


class FolderDigest:
    """Identifies the state of a folder without reading its files, because the inbox is checked again and again."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"folder")
        self.n_files = 0

    def add(self, file: ListedFile) -> None:
        self.n_files += 1
        self._digest.update(f"\0{file.path}\0{file.size_bytes}\0{file.changed_ns}".encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def labelled_files(folder: Path) -> Iterator[tuple[str, ListedFile]]:
    """Yields each file that is not ignored, with the name of its class folder ("" for a loose file).

    Raises:
        UnusableFileError: reason unreadable.
    """
    try:
        for of_class in list_folder(folder):
            for file in of_class.files:
                if ignore_reason(file.path) is None:
                    yield of_class.name, file
    except OSError as error:
        raise unusable("unreadable", f"{folder}: {error.strerror}") from error


def _meaning(name: str) -> Meaning:
    if not name:
        raise BadRowError("it is not in a class folder")
    meaning = meaning_of(name.strip())
    if meaning is None:
        raise BadRowError(
            f"expected a folder named by a class (neutrophil, ig ...) or an analyser code (SNE, BL ...), "
            f"received {shown(name)}"
        )
    return meaning
