"""Who a patient is, as an order says it: encrypted, apart from everything else, and gone after a set time.

The keys are files, one for each day, and not in the database. A key is removed when what it encrypted has expired, so
that a forgotten copy of the database does not give an identity back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken

from bloodcell.errors import ConfigurationError
from bloodcell.exchange.hl7_text import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bloodcell.settings import Settings

_PSEUDONYMS: Final = "pseudonyms.key"
_OF_A_DAY: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.key")


_FINGERPRINT: Final = 8


def are_comparable(one: str | None, other: str | None) -> bool:
    """Returns whether two digests are of one key: after a restore without the keys, they are not."""
    return one is not None and other is not None and one[:_FINGERPRINT] == other[:_FINGERPRINT]


class IdentityKeys:
    """The folder of keys. The key of digests, which stays, is read once."""

    def __init__(self, folder: Path, keep_days: int) -> None:
        self._folder = folder
        self._keep = timedelta(days=keep_days)
        self._for_digests: bytes | None = None

    @classmethod
    def of(cls, settings: Settings) -> IdentityKeys:
        """Returns the keys that the settings name."""
        return cls(settings.identity_keys, settings.keep_identities_days)

    def patient_digest(self, patient_id: str) -> str | None:
        """Returns a keyed digest by which two patients are told apart; None without an identifier."""
        return self.digest(patient_id.encode()) if patient_id else None

    def digest(self, what: bytes) -> str:
        """Returns a keyed digest, which begins with eight characters that tell the key; see `are_comparable`."""
        key = self._for_digests = self._for_digests or self._key(_PSEUDONYMS)
        fingerprint = hashlib.sha256(b"key" + key).hexdigest()[:_FINGERPRINT]
        return fingerprint + hmac.new(key, what, hashlib.sha256).hexdigest()[_FINGERPRINT:]

    def seal(self, patient: Segment, now: datetime) -> tuple[str, bytes, datetime]:
        """Returns the name of today's key, PID encrypted with it, and when that expires."""
        name = f"{now:%Y-%m-%d}"
        text = patient.delimiters + patient.delimiters[0].join(patient.fields)
        return name, Fernet(self._key(f"{name}.key")).encrypt(text.encode()), now + self._keep

    def open(self, name: str, token: bytes) -> Segment | None:
        """Returns PID; None if the key has been removed."""
        path = self._folder / f"{date.fromisoformat(name)}.key"
        try:
            text = Fernet(path.read_bytes()).decrypt(token).decode()
        except (FileNotFoundError, InvalidToken):
            return None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The key {path} cannot be read ({error}). Correct its permissions.") from error
        delimiters = text[:5]
        return Segment("PID", tuple(text[5:].split(delimiters[0])), delimiters)

    def remove_expired(self, now: datetime) -> int:
        """Removes the keys of days of which everything has expired; returns how many."""
        n = 0
        for path in self._folder.glob("*.key"):
            found = _OF_A_DAY.fullmatch(path.name)
            if found and date.fromisoformat(found[1]) + self._keep + timedelta(days=1) < now.date():
                with suppress(OSError):  # it is tried again at the next run
                    path.unlink(missing_ok=True)
                    n += 1
        return n

    def _key(self, name: str) -> bytes:
        """Returns a key, which is made if it is not there yet; of two processes, both get the same."""
        path = self._folder / name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                part = self._folder / f".{name}.{secrets.token_hex(8)}.part"
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(Fernet.generate_key())
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(part, path)
                part.unlink()
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The key {path} cannot be made or read ({error.strerror}). Correct BLOODCELL_IDENTITY_KEYS_DIR."
            ) from error


def keep_identity(connection: sa.Connection, keys: IdentityKeys, lab_order_id: int, patient: Segment) -> None:
    """Stores what an order says of its patient, encrypted."""
    name, token, expires_at = keys.seal(patient, datetime.now(UTC))
    connection.execute(
        sa.text(
            "INSERT INTO bloodcell_identity.patient_identity (lab_order_id, key_name, token, expires_at) "
            "VALUES (:order, :name, :token, :expires_at)"
        ),
        {"order": lab_order_id, "name": name, "token": token, "expires_at": expires_at},
    )


def read_identities(connection: sa.Connection, keys: IdentityKeys, orders: Sequence[int]) -> Mapping[int, Segment]:
    """Returns key of an order -> PID, of those that have not expired."""
    statement = sa.text(
        "SELECT lab_order_id, key_name, token FROM bloodcell_identity.patient_identity "
        "WHERE lab_order_id = ANY (:orders) AND expires_at > now()"
    )
    found = {}
    for row in connection.execute(statement, {"orders": list(orders)}):
        if (patient := keys.open(row.key_name, bytes(row.token))) is not None:
            found[row.lab_order_id] = patient
    return found


def remove_expired(connection: sa.Connection, keys: IdentityKeys) -> int:
    """Removes the identities that have expired, and keys that nothing needs any more; returns how many identities."""
    statement = "DELETE FROM bloodcell_identity.patient_identity WHERE expires_at <= now()"
    n = connection.execute(sa.text(statement)).rowcount
    keys.remove_expired(datetime.now(UTC))
    return int(n)
