"""A person overrides a failed check of the quality control, so that the results that it held may be used.

Who does so is the login that Postgres authenticated, as for a signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.results.personal_login import as_person

if TYPE_CHECKING:
    from bloodcell.settings import StorageSettings


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
    as_person(
        settings,
        lambda connection: connection.execute(statement, values),
        "override",
        "bloodcell quality status shows what is held, and why.",
    )
