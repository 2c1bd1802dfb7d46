"""Makes pictures of cells that are embedded in a page: in their own size, so that a person can look closely."""

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

_MOST_PX: Final = 512
"""Longer side of a picture. Analysers write about 360 pixels; anything larger makes the page needlessly heavy."""

_JPEG_QUALITY: Final = 88
_READERS: Final = 8
"""Threads; they wait for a remote store most of the time."""


def pictures(store: Store, digests: Sequence[str]) -> dict[str, str]:
    """Returns digest -> `data:` URI of a JPEG; an image that is missing or altered in the store is left out.

    Raises:
        StoreUnavailableError: None of the images could be read, so the store itself is unavailable.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        made = dict(zip(digests, readers.map(lambda digest: _picture(store, digest), digests), strict=True))
    failures = [picture for picture in made.values() if isinstance(picture, StoreUnavailableError)]
    if failures and len(failures) == len(made):
        raise failures[0]
    return {digest: picture for digest, picture in made.items() if isinstance(picture, str)}


def _picture(store: Store, digest: str) -> str | StoreUnavailableError:
    try:
        body = store.read_image(digest)
    except StoreUnavailableError as error:
        return error
    with Image.open(io.BytesIO(body)) as image:
        image.draft("RGB", (_MOST_PX, _MOST_PX))
        shown = image.convert("RGB")
    shown.info.clear()  # or Pillow writes the comment of an image of an earlier release into the picture
    shown.thumbnail((_MOST_PX, _MOST_PX), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    shown.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii")
