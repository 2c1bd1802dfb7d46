"""The file of the people with a password of bloodcell's own: JSON, for its user only, replaced as a whole.

Whoever reads it sees the state before or after a change, never half of one. Changes take a lock, so that two at once
both count; a process that is killed gives the lock back, and leaves the earlier file.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bloodcell.errors import NameRefusedError, UsersFileError
from bloodcell.review.people import Role, name_key, person_name
from bloodcell.storage.atomic_write import atomic_file
from bloodcell.storage.private_files import owner_of

if TYPE_CHECKING:
    from typing import Self

FORMAT: Final = 1
_MAX_BYTES: Final = 10_000_000


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Link(_Record):
    """A link with which a person may set a password, once. The link itself is not kept."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    until: AwareDatetime


class User(_Record):
    """One person; somebody who was removed stays, so that nobody else gets the name under which they signed."""

    name: str
    roles: frozenset[Role]
    password: str | None = Field(None, pattern=r"^\$argon2id\$", repr=False)
    changed_at: AwareDatetime
    """When the password or the roles were last set, or the person was removed: earlier sessions are void."""
    link: Link | None = Field(None, repr=False)
    removed: bool = False

    @field_validator("name")
    @classmethod
    def _name_has_its_form(cls, name: str) -> str:
        try:
            if person_name(name) == name:
                return name
        except NameRefusedError as error:
            raise ValueError(str(error)) from error
        raise ValueError("a name that is not in its form")


class Users(_Record):
    """The content of the file."""

    format: Literal[1] = FORMAT
    users: tuple[User, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({name_key(user.name) for user in self.users}) < len(self.users):
            raise ValueError("two people have the same name")
        return self

    def find(self, name: str) -> User | None:
        """Returns the person of this name, in whatever case; None if there never was one."""
        key = name_key(name)
        return next((user for user in self.users if name_key(user.name) == key), None)

    def with_user(self, user: User) -> Users:
        """Returns the people with this one in place of the one with the same name, or added."""
        others = [each for each in self.users if name_key(each.name) != name_key(user.name)]
        return Users(users=tuple(sorted((*others, user), key=lambda each: name_key(each.name))))


def read_users(path: Path) -> Users:
    """Returns the people in the users file; nobody if there is no file yet.

    Raises:
        UsersFileError: The file is damaged, of a later release, or may be read or written by others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Users()
    except OSError as error:
        raise UsersFileError(f"The users file {path} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        _refuse_open_to_others(path, os.fstat(descriptor))
        body = file.read(_MAX_BYTES + 1)
    return _parsed(path, body)


@contextmanager
def changing_users(path: Path) -> Iterator[_Change]:
    """Yields the people in the users file and keeps what the block makes of them, while nobody else changes them.

    Raises:
        UsersFileError: As of `read_users`; or the file cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsersFileError(
            f"The users file {path} cannot be changed: {error.strerror}. Run the command as the user that the desk "
            "runs as."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        change = _Change(read_users(path))
        yield change
        if change.users != change.earlier:
            _write(path, change.users)
    finally:
        os.close(lock)


class _Change:
    """The people before a change, and after it."""

    def __init__(self, users: Users) -> None:
        self.earlier = users
        self.users = users


def _write(path: Path, users: Users) -> None:
    try:
        with atomic_file(path, is_durable=True) as file:
            file.write(users.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise UsersFileError(f"The users file {path} cannot be written: {error.strerror}.") from error


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    folder = path.parent.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsersFileError(f"The users file {path} is not a file.")
    for each, found in ((path, status), (path.parent, folder)):
        if found.st_uid not in (os.geteuid(), 0):
            raise UsersFileError(f"{each} belongs to {owner_of(each)}, who could change who may log in.")
    if status.st_mode & 0o077:
        raise UsersFileError(
            f"Other users of this machine may read or write the users file {path}. If nobody has used that right, "
            f"remove it: chmod 600 {path}"
        )
    if folder.st_mode & 0o022:
        raise UsersFileError(
            f"Other users of this machine may replace the users file {path}. If nobody has used that right, remove it: "
            f"chmod 700 {path.parent}"
        )


def _parsed(path: Path, body: bytes) -> Users:
    restore = "Restore it from a backup, or remove it and add the people again."
    if len(body) > _MAX_BYTES:
        raise UsersFileError(f"The users file {path} has more than {_MAX_BYTES:,} bytes. {restore}")
    try:
        return Users.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "format":
            raise UsersFileError(
                f"The users file {path} has a format that this release does not know; it knows {FORMAT}. Use the "
                "release that wrote it."
            ) from None
        raise UsersFileError(
            f"The users file {path} is damaged: {f'{where}: ' if where else ''}{first['msg']}. {restore}"
        ) from None


def is_over(link: Link, now: datetime) -> bool:
    """Returns whether a link is no longer valid."""
    return now >= link.until
