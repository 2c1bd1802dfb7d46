"""A person signs the newest version of a slide's result.

Who signs is the login that Postgres authenticated. With the embedded Postgres, which only its operating system user can
reach, it is that user's name.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import psycopg2
import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.errors import ConfigurationError, SigningRefusedError
from bloodcell.results.versions import delta_since
from bloodcell.storage.connections import REVIEWER_ROLE, connect, database_url, transact

if TYPE_CHECKING:
    from bloodcell.settings import StorageSettings
    from bloodcell.storage.result_states import SignedState

_REFUSED = ("55000", "P0002")  # object_not_in_prerequisite_state, no_data_found
_NO_RIGHT = "42501"


def sign_result(
    settings: StorageSettings, barcode: str, version: int, *, state: SignedState = "final", reason: str | None = None
) -> int:
    """Signs the newest version of a slide's result, and returns the number of the signed version.

    Args:
        settings: The database. The login of `signing_url` signs; it has to be a member of bloodcell_reviewer only.
        barcode: The slide.
        version: The version that the person has seen; it has to be the newest.
        state: "final" for the first signature; "amended" (something was added) or "corrected" (something was wrong)
            for a later one.
        reason: Why it is signed again; required then.

    Raises:
        SigningRefusedError: A newer version exists, it is signed, cells have not been reviewed, or the review rule
            delta names the slide since another one of the patient was signed.
        ConfigurationError: The login may not sign.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    statement = sa.text("SELECT bloodcell.sign_result(:barcode, :version, :state, :reason)")
    values = {"barcode": barcode, "version": version, "state": state, "reason": reason}

    def sign(connection: sa.Connection) -> int:
        if (signed := delta_since(connection, composed(barcode), version)) is not None:
            raise SigningRefusedError(
                f"Slide {barcode} differs much from {signed}, which was signed since version {version} was made: the "
                f"review rule delta names it now. Next: bloodcell classify --slide {barcode} makes a version that says "
                "so; look at it, then sign it."
            )
        return int(connection.scalar(statement, values) or 0)

    try:
        return transact(connect(personal_url(settings)), sign, patience_s=0)
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        said = str(error.orig).split("\n")[0].removeprefix("ERROR:").strip()
        if code in _REFUSED:
            raise SigningRefusedError(
                f"{said}. Next: bloodcell result {barcode} shows the newest version; bloodcell labels inbox counts new "
                "labels."
            ) from None
        if code == _NO_RIGHT:
            raise ConfigurationError(
                f"This login may not sign: {said}. Next: set BLOODCELL_SIGNING_URL to your Postgres with a login of "
                f"your own, a member of {REVIEWER_ROLE} and of no other role of bloodcell."
            ) from None
        raise


def personal_url(settings: StorageSettings) -> str:
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
