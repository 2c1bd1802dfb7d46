"""Makes small pictures of cells, to be embedded in a page."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from PIL import Image

from bloodcell.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.storage.store import Store

_SIDE_PX: Final = 144
"""Shown at 104 CSS pixels, so a picture is sharp on a high-density screen and on paper, at about 5 kB per cell."""

_JPEG_QUALITY: Final = 82
_READERS: Final = 8
"""Threads; they wait for a remote store most of the time."""


def thumbnails(store: Store, digests: Sequence[str]) -> dict[str, str]:
    """Returns digest -> `data:` URI of a small JPEG; an image that is missing or altered in the store is left out.

    Raises:
        StoreUnavailableError: None of the images could be read, so the store itself is unavailable.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        pictures = dict(zip(digests, readers.map(lambda digest: _thumbnail(store, digest), digests), strict=True))
    failures = [picture for picture in pictures.values() if isinstance(picture, StoreUnavailableError)]
    if failures and len(failures) == len(pictures):
        raise failures[0]
    return {digest: picture for digest, picture in pictures.items() if isinstance(picture, str)}


def _thumbnail(store: Store, digest: str) -> str | StoreUnavailableError:
    try:
        body = store.read_image(digest)
    except StoreUnavailableError as error:
        return error
    with Image.open(io.BytesIO(body)) as image:
        image.draft("RGB", (2 * _SIDE_PX, 2 * _SIDE_PX))
        small = image.convert("RGB")
    small.info.clear()  # or Pillow writes the comment of an image of an earlier release into the picture
    small.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")
