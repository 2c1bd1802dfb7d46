"""Starts a new baseline, or resets the references, after a stain, a lamp or a release was changed on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError
from bloodcell.storage import tables
from bloodcell.visible_text import has_invisible

if TYPE_CHECKING:
    from datetime import date

    from bloodcell.storage.database import Database


@dataclass(frozen=True, slots=True)
class Restart:
    """What is reset.

    Attributes:
        what: sentinels (the next worker's values become the references) or figures (a new baseline of an analyser).
        reason: Why.
        requested_by: The person.
        analyser: For figures: the analyser; None: the one without a name.
        from_night: For figures: the first night of the new baseline.
    """

    what: Literal["sentinels", "figures"]
    reason: str
    requested_by: str
    analyser: str | None = None
    from_night: date | None = None


def restart(database: Database, request: Restart) -> None:
    """Records a new baseline or new references; what is held stays held until a person overrides it.

    Raises:
        ConfigurationError: There is no reason, it has characters that nobody sees, or no slide is of the analyser.
    """
    if not request.reason.strip() or has_invisible(request.reason):
        raise ConfigurationError("A reason is needed, of characters that can be seen.")
    row = {name: getattr(request, name) for name in request.__slots__}

    def write(connection: sa.Connection) -> None:
        analysers = set(connection.scalars(sa.select(tables.slide.c.analyser).distinct()))
        if request.what == "figures" and request.analyser not in analysers:
            known = ", ".join(sorted(each for each in analysers if each)) or "none has a name"
            raise ConfigurationError(f"No slide is of the analyser {request.analyser!r}. Expected one of: {known}.")
        connection.execute(sa.insert(tables.quality_restart), [row])

    database.transact(write)
