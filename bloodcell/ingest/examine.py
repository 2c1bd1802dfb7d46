"""One file of a drop is read, verified, and stored without metadata; otherwise the reason is returned."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bloodcell.cells.names import composed
from bloodcell.errors import RetryLaterError, StoreUnavailableError, UnusableFileError
from bloodcell.inbox.unchanged_files import StillWrittenError, read_unchanged
from bloodcell.ingest.file_outcomes import QUARANTINE_REASONS
from bloodcell.storage.bare_image import without_metadata
from bloodcell.storage.decoding import ImageBounds, decode, verify

if TYPE_CHECKING:
    from bloodcell.inbox.listing import ListedFile
    from bloodcell.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NamedCell:
    """What the path of a cell's file tells about the cell."""

    barcode: str
    file_name: str
    analyser_code: str | None
    number: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that is in the store.

    Attributes:
        sha256: Digest of the file without metadata, which is its name in the store.
        received_sha256: Digest of the file as it was received.
        size_bytes: Size of the file without metadata.
        width_px: Width.
        height_px: Height.
        format: Such as JPEG.
    """

    sha256: str
    received_sha256: str
    size_bytes: int
    width_px: int
    height_px: int
    format: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A file with its image, or with the reason why it has none."""

    file: ListedFile
    cell: NamedCell | None
    image: StoredImage | None = None
    reason: str | None = None
    detail: str | None = None


class Examiner:
    """Examines cell files; safe to call from several threads."""

    def __init__(self, pattern: str, bounds: ImageBounds, store: Store) -> None:
        self._pattern = re.compile(pattern)
        self._bounds = bounds
        self._store = store

    def named_cell(self, file: ListedFile) -> NamedCell | None:
        """Returns what the path tells about the cell; None if the path does not match the pattern."""
        path = composed(file.path)
        match = self._pattern.fullmatch(path)
        if match is None:
            return None
        barcode = match["slide"]
        file_name = path.removeprefix(f"{barcode}/")
        if not (match["number"] or "").isdecimal():
            return None
        code = match["code"] if "code" in self._pattern.groupindex else None
        return NamedCell(barcode, file_name, code.upper() if code else None, int(match["number"]))

    def order(self, file: ListedFile) -> tuple[int, str]:
        """Returns the key that sorts files as the analyser numbered them; of equal images the later is a duplicate."""
        cell = self.named_cell(file)
        return (cell.number if cell else 0), file.path

    def examine(self, file: ListedFile) -> Examined:
        """Returns the file with its image, which has then been stored, or with the reason why it has none.

        Raises:
            StillWrittenError: The file changed while it was read.
            StoreUnavailableError: The image cannot be stored.
        """
        cell = self.named_cell(file)
        try:
            if file.problem is not None:
                raise UnusableFileError(file.problem, QUARANTINE_REASONS[file.problem])
            if cell is None:
                raise UnusableFileError(
                    "name_fits_no_pattern", f"expected {self._pattern.pattern}, received {file.path}"
                )
            if file.size_bytes > self._bounds.max_file_bytes:
                raise UnusableFileError(
                    "too_many_bytes",
                    f"expected at most {self._bounds.max_file_bytes:,} bytes, received {file.size_bytes:,}",
                )
            return Examined(file, cell, image=self._stored(read_unchanged(file, self._bounds.max_file_bytes)))
        except UnusableFileError as error:
            return Examined(file, cell, reason=error.reason, detail=error.detail)
        except (RetryLaterError, StillWrittenError):
            raise
        except Exception as error:  # one file must not cost the others of its night
            log.exception("%s could not be examined", file.path)
            return Examined(file, cell, reason="unexpected_error", detail=type(error).__name__)

    def same_pixels(self, *digests: str) -> bool:
        """Returns whether two images of the store have equal pixels; False if one of them cannot be read."""
        try:
            one, other = (decode(self._store.read_image(digest), self._bounds) for digest in digests)
        except (UnusableFileError, StoreUnavailableError):
            return False
        return one.size == other.size and one.tobytes() == other.tobytes()

    def _stored(self, body: bytes) -> StoredImage:
        image = verify(body, self._bounds)
        bare = without_metadata(body, image.format, self._bounds)
        received_sha256 = hashlib.sha256(body).hexdigest()
        sha256 = received_sha256 if bare is body else hashlib.sha256(bare).hexdigest()
        self._store.put_image(sha256, bare)
        return StoredImage(sha256, received_sha256, len(bare), image.width_px, image.height_px, image.format)
