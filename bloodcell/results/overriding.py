"""A person overrides a failed check of the quality control, so that the results that it held may be used.

Who does so is the login that Postgres authenticated, as for a signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SigningRefusedError
from bloodcell.results.signing import personal_url
from bloodcell.storage.connections import REVIEWER_ROLE, connect, transact

if TYPE_CHECKING:
    from bloodcell.settings import StorageSettings

_REFUSED = ("55000", "P0002")  # object_not_in_prerequisite_state, no_data_found
_NO_RIGHT = "42501"


def override_check(settings: StorageSettings, check_id: int, reason: str) -> None:
    """Overrides a failed check; the results that it held are counted anew by the next `bloodcell labels inbox`.

    Args:
        settings: The database. The login of `signing_url` decides; it has to be a member of bloodcell_reviewer only.
        check_id: The check, as `bloodcell quality status` names it.
        reason: Why the results may be used.

    Raises:
        SigningRefusedError: The check holds nothing, or there is no reason.
        ConfigurationError: The login may not override.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    statement = sa.text("SELECT bloodcell.override_check(:check_id, :reason)")
    values = {"check_id": check_id, "reason": reason}
    try:
        transact(
            connect(personal_url(settings)), lambda connection: connection.execute(statement, values), patience_s=0
        )
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        said = str(error.orig).split("\n")[0].removeprefix("ERROR:").strip()
        if code in _REFUSED:
            raise SigningRefusedError(f"{said}. Next: bloodcell quality status shows what is held, and why.") from None
        if code == _NO_RIGHT:
            raise ConfigurationError(
                f"This login may not override: {said}. Next: set BLOODCELL_SIGNING_URL to your Postgres with a "
                f"login of your own, a member of {REVIEWER_ROLE} and of no other role of bloodcell."
            ) from None
        raise
