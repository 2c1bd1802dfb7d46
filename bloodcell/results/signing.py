"""A person signs the newest version of a slide's result.

Who signs is the login that Postgres authenticated. With the embedded Postgres, which only its operating system user can
reach, it is that user's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.errors import SigningRefusedError
from bloodcell.results.personal_login import as_person
from bloodcell.results.versions import delta_since

if TYPE_CHECKING:
    from bloodcell.settings import StorageSettings
    from bloodcell.storage.result_states import SignedState


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

    next_step = f"bloodcell result {barcode} shows the newest version; bloodcell labels inbox counts new labels."
    return as_person(settings, sign, "sign", next_step)
