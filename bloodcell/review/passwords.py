"""Which passwords people of the review desk may choose, and the hashes that are kept of them.

Source: NIST SP 800-63B-4 (2025), 3.1.1.2: a password that is the only factor has at least 15 characters; no rules of
composition, no expiry; common, expected and repetitive ones are refused.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

from bloodcell.errors import PasswordRefusedError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH: Final = 15
MAX_LENGTH: Final = 128

# words that the commonest long passwords are made of, in the languages of the desk; longer ones first
_COMMON: Final = (
    "qwertyuiopasdfghjklzxcvbnm", "correcthorsebatterystaple", "qwertyuiopasdfghjkl", "1qaz2wsx3edc4rfv",
    "abcdefghijklmnop", "administrador", "administrator", "haematology", "laboratorio", "1q2w3e4r5t", "bienvenido",
    "contrasena", "contraseña", "hematology", "laboratory", "passphrase", "qwertyuiop", "willkommen", "asdfghjkl",
    "bloodcell", "1qaz2wsx", "baseball", "changeme", "computer", "football", "hospital", "iloveyou", "p@ssw0rd",
    "p@ssword", "passw0rd", "password", "passwort", "princess", "starwars", "sunshine", "superman", "trustno1",
    "whatever", "zaq12wsx", "charlie", "freedom", "letmein", "michael", "welcome", "zxcvbnm", "autumn", "azerty",
    "dragon", "master", "monkey", "qwerty", "qwertz", "review", "secret", "shadow", "spring", "summer", "winter",
    "admin", "guest", "hello", "labor", "login", "asdf", "desk", "test", "user",
)  # fmt: skip
_FEWEST_OF_ITS_OWN: Final = 6
_ROWS: Final = ("01234567890", "9876543210", "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")

# each hash takes 64 MiB: many log-ins at once must not take the memory of the machine
_FEW_AT_ONCE: Final = threading.BoundedSemaphore(2)


def check_new_password(password: str, name: str) -> None:
    """Raises PasswordRefusedError unless a person may choose this password.

    Args:
        password: The new password.
        name: The person's name, which must not be what the password is made of.

    Raises:
        PasswordRefusedError: It is too short, too long, or one of those that are guessed first.
    """
    length = len(_normalised(password))
    if length < MIN_LENGTH:
        raise PasswordRefusedError(
            f"The password has {length} characters and needs at least {MIN_LENGTH}. A few words that do not belong "
            "together are long enough and easy to remember."
        )
    if length > MAX_LENGTH:
        raise PasswordRefusedError(f"The password has {length} characters; at most {MAX_LENGTH} are allowed.")
    if len(set(_of_its_own(password, name))) < _FEWEST_OF_ITS_OWN:
        raise PasswordRefusedError(
            "The password is one of those that are guessed first: it is made of common words, rows of keys, "
            "repetitions or the name. Choose a few words that do not belong together."
        )


def hash_of(password: str) -> str:
    """Returns the argon2id hash of a password, with its salt and parameters."""
    with _FEW_AT_ONCE:
        return _hasher().hash(_normalised(password))


def is_hash_of(stored: str | None, password: str) -> bool:
    """Returns whether a password is the one with this hash. It takes as long without a hash as with a wrong password.

    Args:
        stored: A hash of `hash_of`; None for somebody who does not exist or has no password.
        password: What the person typed.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > MAX_LENGTH * 4:  # no password is that long, and hashing takes longer with the length
        password = ""
    with _FEW_AT_ONCE:
        try:
            return _hasher().verify(stored or _hash_of_nobody(), _normalised(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(stored: str) -> bool:
    """Returns whether a hash was made with other parameters than a new one would be."""
    return _hasher().check_needs_rehash(stored)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    # RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes
    return PasswordHasher()


@cache
def _hash_of_nobody() -> str:
    import secrets

    return _hasher().hash(secrets.token_urlsafe())


def _normalised(password: str) -> str:
    """Returns a password in Unicode's form NFC, as RFC 8265 has it: keyboards differ in how they compose letters."""
    return unicodedata.normalize("NFC", password)


def _of_its_own(password: str, name: str) -> str:
    """Returns what is left of a password without common words, the name, rows of keys, repetitions and punctuation."""
    left = _normalised(password).casefold()
    parts = [part for part in re.split(r"\W+", name.casefold()) if len(part) > 2]
    for word in (*sorted(parts, key=len, reverse=True), *_COMMON):
        left = left.replace(word, " ")
    for row in _ROWS:
        for size in range(len(row), 3, -1):
            for start in range(len(row) - size + 1):
                left = left.replace(row[start : start + size], " ")
    left = re.sub(r"\b(19|20)\d\d\b", " ", left)
    return re.sub(r"[\W_]+", "", left)
