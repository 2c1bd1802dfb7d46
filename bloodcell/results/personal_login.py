"""What only a person may do is done with the login that Postgres authenticated.

With the embedded Postgres, which only its operating system user can reach, the login is that user's name.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, TypeVar

import psycopg2
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SigningRefusedError
from bloodcell.storage.connections import REVIEWER_ROLE, connect, database_url, transact

if TYPE_CHECKING:
    from collections.abc import Callable

    from bloodcell.settings import StorageSettings

Result = TypeVar("Result")

_REFUSED = ("55000", "P0002")  # object_not_in_prerequisite_state, no_data_found
_NO_RIGHT = "42501"


def as_person(settings: StorageSettings, work: Callable[[sa.Connection], Result], verb: str, next_step: str) -> Result:
    """Returns what `work` returns, which a function of the database does for the person of the login.

    Args:
        settings: The database. The login of `signing_url` acts; it has to be a member of bloodcell_reviewer only.
        work: Calls the function.
        verb: What the login does, for a message: "sign".
        next_step: What to do if the function refuses, as a sentence.

    Raises:
        SigningRefusedError: The function refused.
        ConfigurationError: The login may not do it.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    try:
        return transact(connect(_personal_url(settings)), work, patience_s=0)
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        told = str(error.orig).split("\n")[0].removeprefix("ERROR:").strip()
        if code in _REFUSED:
            raise SigningRefusedError(f"{told}. Next: {next_step}") from None
        if code == _NO_RIGHT:
            raise ConfigurationError(
                f"This login may not {verb}: {told}. Next: set BLOODCELL_SIGNING_URL to your Postgres with a login of "
                f"your own, a member of {REVIEWER_ROLE} and of no other role of bloodcell."
            ) from None
        raise


def _personal_url(settings: StorageSettings) -> str:
    """Returns the database with the login of the person; the embedded one gets a login for its user if it has none."""
    if settings.signing_url:
        return settings.signing_url.get_secret_value()
    url = database_url(settings)
    if settings.plain_database_url:
        return url
    person = pwd.getpwuid(os.geteuid()).pw_name
    with connect(url).begin() as connection:
        known = connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": person})
        if not known:
            quoted = connection.dialect.identifier_preparer.quote_identifier(person)
            try:
                with connection.begin_nested():
                    connection.execute(sa.text(f"CREATE ROLE {quoted} LOGIN IN ROLE {REVIEWER_ROLE}"))
            except sa.exc.ProgrammingError as error:
                if not isinstance(error.orig, psycopg2.errors.DuplicateObject):  # another process was quicker
                    raise
    return sa.make_url(url).set(username=person).render_as_string(hide_password=False)
