"""Sessions of people at the desk.

They are kept in Postgres: a restart of the desk logs nobody out, and a session can be ended from anywhere. The browser
has a random token in a cookie that scripts cannot read; the database has only the token's digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import LoginRefusedError
from bloodcell.review.local_users import current_user, session_stamp
from bloodcell.review.people import Person

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_OPEN: Final = sa.text("SELECT bloodcell.desk_open_session(:token, :person, :roles, :method, :stamp, :idle_s, :hours)")
_OF: Final = sa.text("SELECT * FROM bloodcell.desk_session_of(:token, :is_use)")
_END: Final = sa.text("SELECT bloodcell.desk_end_session(:token, :why)")
_END_OF: Final = sa.text("SELECT bloodcell.desk_end_sessions_of(:token, :person)")
_NOT_ALLOWED: Final = "42501"
_LOCAL: Final = ("local", "link")
_PROVE: Final = sa.text("SELECT bloodcell.desk_prove(:token)")


@dataclass(frozen=True, slots=True)
class Session:
    """A session that can be used.

    Attributes:
        session_id: Its key.
        digest: sha256 of its token, which every function of the database asks for.
        person: Who has it.
        method: How the person logged in: local, link, ldap or oidc.
        csrf: What each request that changes something has to carry; other sites cannot read it.
        subject: The OpenID provider's own name of the person; None if another log-in was used.
        is_proved: Whether the person was authenticated again in the last two minutes, which allows one signature.
    """

    session_id: int
    digest: str
    person: Person
    method: str
    csrf: str
    subject: str | None
    is_proved: bool


class Sessions:
    """Opens, finds and ends sessions.

    Args:
        database: The database, as role `bloodcell_desk`.
        settings: How long a session lasts.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._users_file = settings.users_file
        self._idle_s = round(settings.desk_idle_min * 60)
        self._hours = settings.desk_session_h

    def open(self, person: Person, method: str, *, subject: str | None = None) -> str:
        """Opens a session for a person who has just been authenticated, and returns its token.

        Args:
            person: Who it is.
            method: How the person was authenticated.
            subject: The OpenID provider's own name of the person.
        """
        is_local = method in _LOCAL
        token = secrets.token_urlsafe(32)
        opened = {
            "token": _digest(token),
            "person": person.name,
            "roles": sorted(person.roles),
            "method": method,
            "stamp": session_stamp(self._users_file, person.name) if is_local else subject,
            "idle_s": self._idle_s,
            "hours": self._hours,
        }
        try:
            self._database.transact(lambda c: c.execute(_OPEN, opened))
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _NOT_ALLOWED:
                raise
            said = str(error.orig).split("\n")[0].removeprefix("ERROR:").strip()
            raise LoginRefusedError(f"{said}. An administrator has to give this account another name.") from None
        return token

    def of(self, token: str | None, *, is_use: bool = True) -> Session | None:
        """Returns the session of a token; None if it has ended or there is none.

        Args:
            token: The token.
            is_use: Whether a person uses the session, which then lasts longer, or only a page that is open.
        """
        if not token or len(token) > 100:
            return None
        digest = _digest(token)
        row: Any = self._database.transact(lambda c: c.execute(_OF, {"token": digest, "is_use": is_use}).one_or_none())
        if row is None:
            return None
        person: Person | None = Person(row.person, frozenset(row.roles))
        is_local = row.method in _LOCAL
        if is_local:  # another password, other roles, or removed: the session is void
            person = current_user(self._users_file, row.person, row.stamp or "")
        if person is None:
            return None
        subject = None if is_local else row.stamp
        return Session(row.session_id, digest, person, row.method, _csrf(token), subject, row.is_proved)

    def prove(self, session: Session) -> None:
        """Records that the person has just been authenticated again, which allows one signature."""
        self._database.transact(lambda c: c.execute(_PROVE, {"token": session.digest}))

    def end(self, session: Session, *, everywhere: bool = False) -> int:
        """Ends a session, or all sessions of its person; returns how many."""
        asked = {"token": session.digest, "why": "everywhere" if everywhere else "log_out"}
        return int(self._database.transact(lambda c: c.scalar(_END, asked)) or 0)

    def end_of(self, administrator: Session, person: str) -> int:
        """Ends all sessions of another person, and returns how many."""
        asked = {"token": administrator.digest, "person": person}
        return int(self._database.transact(lambda c: c.scalar(_END_OF, asked)) or 0)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _csrf(token: str) -> str:
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()
