"""What is expected is learnt anew, because a stain, a lamp, a focus or a release was changed on purpose."""

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
    """What is learnt anew.

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
    """Records that what is expected is learnt anew; holds of nights before stay until a person overrides them.

    Raises:
        ConfigurationError: There is no reason, or it has characters that nobody sees.
    """
    if not request.reason.strip() or has_invisible(request.reason):
        raise ConfigurationError("A reason is needed, of characters that can be seen.")
    row = {name: getattr(request, name) for name in request.__slots__}
    database.transact(lambda connection: connection.execute(sa.insert(tables.quality_restart), [row]))
