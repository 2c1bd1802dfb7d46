"""Whether the review desk responds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_TIMEOUT_S: Final = 2.0


def desk_responds(settings: Settings) -> bool:
    """Returns whether the review desk answers on its address.

    Args:
        settings: Where it listens.
    """
    try:
        return httpx.get(f"{settings.desk_url}/healthz", timeout=_TIMEOUT_S).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
