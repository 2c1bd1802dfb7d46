"""Sprites: the thumbnails of up to 200 cells of a slide in one JPEG, each made once.

A sprite is named by the digest of what it shows, so that browsers may keep it for good. The files are a cache below the
data folder; those that were not used for a week are removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import simplejpeg
from PIL import Image, ImageDraw

from bloodcell.errors import StoreUnavailableError, UnusableFileError
from bloodcell.review.desk_records import Sprite
from bloodcell.storage.atomic_write import atomic_file
from bloodcell.storage.decoding import ImageBounds, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bloodcell.storage.store import Store

SPRITE_CELLS: Final = 200
TILE_PX: Final = 96
"""Side of a thumbnail. A cell of 360 pixels stays recognisable, and 200 of them are a JPEG of 0.5 MB."""
_COLUMNS: Final = 20
_QUALITY: Final = 88
_KEPT_S: Final = 7 * 24 * 3600
_SWEPT_EVERY_S: Final = 24 * 3600
_MISSING: Final = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG, and whether the store had every image that it shows."""

    body: bytes
    is_complete: bool


def sprites_of(slide_id: int, images: Sequence[str]) -> list[Sprite]:
    """Returns the sprites of a slide.

    Args:
        slide_id: The slide.
        images: Digests of the images of its cells, in the order in which the cells came.
    """
    parts = [images[start : start + SPRITE_CELLS] for start in range(0, len(images), SPRITE_CELLS)]
    return [Sprite(f"/slides/{slide_id}/sprites/{_digest(part)}.jpg", _COLUMNS, TILE_PX, len(part)) for part in parts]


class Sprites:
    """Makes sprites and keeps them.

    Args:
        folder: Where they are kept.
        store: Where the images are.
        bounds: Bounds of an image.
        threads: Threads that read and decode images.
    """

    def __init__(self, folder: Path, store: Store, bounds: ImageBounds, threads: int) -> None:
        self._folder = folder
        self._store = store
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sprite")
        self._next_sweep = time.monotonic() + _SWEPT_EVERY_S

    def read(self, images: Sequence[str], digest: str) -> Picture | None:
        """Returns the sprite with this digest, made if it is not there; None if the slide has none such.

        A sprite is kept only if the store had all of its images: those that are restored are shown then.

        Args:
            images: Digests of the images of the slide's cells, in the order in which the cells came; empty: removed.
            digest: The sprite.
        """
        parts = (images[start : start + SPRITE_CELLS] for start in range(0, len(images), SPRITE_CELLS))
        part = next((part for part in parts if _digest(part) == digest), None)
        if part is None:
            return None
        path = self._folder / f"{digest}.jpg"
        with suppress(FileNotFoundError):
            return Picture(path.read_bytes(), is_complete=True)
        self._sweep_daily()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # two requests at once, of two threads or of two processes, make it once
        with _locked(self._folder / f"{digest}.lock"):
            with suppress(FileNotFoundError):
                return Picture(path.read_bytes(), is_complete=True)
            made = self._made(part)
            if made.is_complete:
                with atomic_file(path) as file:
                    file.write(made.body)
        return made

    def sweep(self) -> int:
        """Removes sprites that were not made within a week, and returns how many; they are made again when needed."""
        oldest, n = time.time() - _KEPT_S, 0
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    n += path.suffix == ".jpg"
        return n

    def _sweep_daily(self) -> None:
        if time.monotonic() > self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEPT_EVERY_S
            self.sweep()

    def _made(self, images: Sequence[str]) -> Picture:
        rows = -(-len(images) // _COLUMNS)
        sheet = Image.new("RGB", (_COLUMNS * TILE_PX, rows * TILE_PX), _MISSING)
        is_complete = True
        for number, tile in enumerate(self._threads.map(self._tile, images)):
            row, column = divmod(number, _COLUMNS)
            sheet.paste(tile or _crossed_out(), (column * TILE_PX, row * TILE_PX))
            is_complete = is_complete and (tile is not None or not images[number])
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
        return Picture(buffer.getvalue(), is_complete)

    def _tile(self, sha256: str) -> Image.Image | None:
        """Returns the thumbnail of an image; None if the store does not have it."""
        if not sha256:
            return None
        try:
            image = self._decoded(self._store.read_image(sha256))
        except StoreUnavailableError:
            return None
        except UnusableFileError:
            return _crossed_out()
        image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
        tile = Image.new("RGB", (TILE_PX, TILE_PX), image.getpixel((0, 0)))
        tile.paste(image, ((TILE_PX - image.width) // 2, (TILE_PX - image.height) // 2))
        return tile

    def _decoded(self, body: bytes) -> Image.Image:
        if body[:2] == b"\xff\xd8":
            with suppress(ValueError):  # at half the size: a third of the time
                height, width, *_ = simplejpeg.decode_jpeg_header(body)
                if width * height <= self._bounds.max_pixels:
                    half = simplejpeg.decode_jpeg(body, min_height=TILE_PX, min_width=TILE_PX, fastdct=True)
                    return Image.fromarray(half)
        return decode(body, self._bounds)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other threads and processes out; fasteners' lock, one of fcntl(2), keeps out only other processes."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _crossed_out() -> Image.Image:
    """Returns the picture of an image that is missing in the store."""
    tile = Image.new("RGB", (TILE_PX, TILE_PX), _MISSING)
    drawn, end = ImageDraw.Draw(tile), TILE_PX - 16
    drawn.line((16, 16, end, end), fill=(255, 255, 255), width=4)
    drawn.line((16, end, end, 16), fill=(255, 255, 255), width=4)
    return tile


def _digest(images: Sequence[str]) -> str:
    told = f"1 {TILE_PX} {_COLUMNS} {_QUALITY}\n" + "\n".join(images)  # 1: the way in which this release draws
    return hashlib.sha256(told.encode()).hexdigest()[:32]
