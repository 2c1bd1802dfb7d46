"""People who log in to the review desk with a password of bloodcell's own, or first with a link that works once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from bloodcell.errors import AlreadyDoneError, LoginRefusedError, UnknownRecordError
from bloodcell.review.passwords import check_new_password, hash_of, is_hash_of, is_outdated
from bloodcell.review.people import Person, Role, person_name
from bloodcell.review.users_file import Link, User, Users, changing_users, is_over, read_users

LINK_VALID_H: Final = 24.0
"""Hours for which a link works by default: somebody who gets it at the end of a shift can use it in the next one."""

UserState = Literal["active", "invited", "link expired", "removed"]


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A person in the users file, as `bloodcell users list` shows them.

    Attributes:
        name: The name under which the person labels and signs.
        roles: The roles that were given.
        state: `active` has a password; `invited` has a link that has not been used; `link expired` has neither.
        link_until: When the link that has not been used expires; None if there is none.
        changed_at: When the password or the roles were last set, or the person was removed.
    """

    name: str
    roles: tuple[Role, ...]
    state: UserState
    link_until: datetime | None
    changed_at: datetime


def list_users(path: Path) -> list[ListedUser]:
    """Returns the people of the users file by name, including those who were removed."""
    return [_listed(user) for user in read_users(path).users]


def require_user(path: Path, name: str) -> None:
    """Raises UnknownRecordError unless there is a person of this name who was not removed.

    Args:
        path: The users file.
        name: The person.

    Raises:
        UnknownRecordError: There is no such person.
    """
    _existing(read_users(path), name)


def add_user(
    path: Path, name: str, roles: Iterable[Role], password: str | None = None, *, same_person: bool = False
) -> Person:
    """Adds a person; without a password, they need a link to set one (`make_link`).

    Args:
        path: The users file.
        name: The name under which the person labels and signs.
        roles: What the person may do.
        password: The password; None if the person sets it.
        same_person: Whether a removed person of this name is the one who comes back.

    Raises:
        AlreadyDoneError: There is a person of this name, or was one who is not known to be the same.
        NameRefusedError: The name is not allowed.
        PasswordRefusedError: The password is not allowed.
    """
    name = person_name(name)
    if password is not None:
        check_new_password(password, name)
    hashed = None if password is None else hash_of(password)
    with changing_users(path) as change:
        found = change.users.find(name)
        if found and not found.removed:
            raise AlreadyDoneError(f"There is a person {found.name} already. Next: bloodcell users password {name}")
        if found and not same_person:
            raise AlreadyDoneError(
                f"There was a person {found.name}, whose signatures stay under this name. If it is the same person, "
                "add --same-person; if not, choose another name."
            )
        name = found.name if found else name
        user = User(name=name, roles=frozenset(roles), password=hashed, changed_at=_now())
        change.users = change.users.with_user(user)
    return Person(user.name, user.roles)


def set_password(path: Path, name: str, password: str) -> None:
    """Gives a person another password, which ends their sessions and makes a link useless.

    Args:
        path: The users file.
        name: The person.
        password: The new password.

    Raises:
        PasswordRefusedError: The password is not allowed.
        UnknownRecordError: There is no such person.
    """
    check_new_password(password, name)
    hashed = hash_of(password)
    with changing_users(path) as change:
        user = _existing(change.users, name)
        update = {"password": hashed, "link": None, "changed_at": _now()}
        change.users = change.users.with_user(user.model_copy(update=update))


def set_roles(path: Path, name: str, roles: Iterable[Role]) -> None:
    """Gives a person other roles instead of theirs, which ends their sessions.

    Args:
        path: The users file.
        name: The person.
        roles: The roles from now on.

    Raises:
        UnknownRecordError: There is no such person.
    """
    with changing_users(path) as change:
        update = {"roles": frozenset(roles), "changed_at": _now()}
        change.users = change.users.with_user(_existing(change.users, name).model_copy(update=update))


def remove_user(path: Path, name: str) -> None:
    """Makes it impossible for a person to log in; the name stays, because it is under what they signed.

    Args:
        path: The users file.
        name: The person.

    Raises:
        UnknownRecordError: There is no such person.
    """
    with changing_users(path) as change:
        update = {"password": None, "link": None, "removed": True, "changed_at": _now()}
        change.users = change.users.with_user(_existing(change.users, name).model_copy(update=update))


def check_password(path: Path, name: str, password: str) -> Person | None:
    """Returns the person with this name and password; None if either is wrong, which takes the same time.

    Args:
        path: The users file.
        name: The name, in whatever case.
        password: The password.
    """
    user = read_users(path).find(name)
    stored = user.password if user and not user.removed else None
    if not is_hash_of(stored, password) or user is None or stored is None:
        return None
    if is_outdated(stored):
        _hash_again(path, user, password)
    return Person(user.name, user.roles)


def session_stamp(path: Path, name: str) -> str | None:
    """Returns what a new session of a person has to keep for `current_user`; None if the person may not log in.

    Args:
        path: The users file.
        name: The person.
    """
    user = read_users(path).find(name)
    return None if user is None or user.removed else user.changed_at.isoformat()


def current_user(path: Path, name: str, stamp: str) -> Person | None:
    """Returns the person of a session; None if the session is void.

    It is void once the person has been removed, or has another password or other roles. Two moments are compared for
    equality, so that clocks that differ, or are set back, make no difference.

    Args:
        path: The users file.
        name: The person.
        stamp: What `session_stamp` returned when the session began.
    """
    user = read_users(path).find(name)
    if user is None or user.removed or user.changed_at.isoformat() != stamp:
        return None
    return Person(user.name, user.roles)


def make_link(path: Path, name: str, roles: Iterable[Role] = (), *, valid_h: float = LINK_VALID_H) -> str:
    """Returns the token of a link with which a person may set a password, once; an earlier link no longer works.

    Args:
        path: The users file.
        name: The person, who is added if there is no such person yet.
        roles: Roles of a person who is added; somebody who is there keeps theirs.
        valid_h: Hours for which the link works.

    Raises:
        AlreadyDoneError: There was a person of this name, who was removed.
        NameRefusedError: The name is not allowed.
    """
    name = person_name(name)
    token = secrets.token_urlsafe(32)
    link = Link(sha256=_digest(token), until=_now() + timedelta(hours=valid_h))
    with changing_users(path) as change:
        user = change.users.find(name)
        if user and user.removed:
            raise AlreadyDoneError(f"{user.name} was removed. Next: bloodcell users add {user.name} --same-person")
        user = user or User(name=name, roles=frozenset(roles), password=None, changed_at=_now())
        change.users = change.users.with_user(user.model_copy(update={"link": link}))
    return token


def name_of_link(path: Path, token: str) -> str | None:
    """Returns the name of the person for whom a link works; None if it works for nobody."""
    user = _user_of_link(read_users(path), token)
    return user.name if user else None


def use_link(path: Path, token: str, password: str) -> Person:
    """Sets the password of the person for whom a link was made; the link does not work again.

    Args:
        path: The users file.
        token: What `make_link` returned.
        password: The password that the person chose.

    Raises:
        LoginRefusedError: The link is unknown, has been used, or has expired.
        PasswordRefusedError: The password is not allowed; the link still works.
    """
    user = _user_of_link(read_users(path), token)
    hashed = None
    if user:
        check_new_password(password, user.name)
        hashed = hash_of(password)
    with changing_users(path) as change:
        user = _user_of_link(change.users, token)  # somebody else may have used it meanwhile
        if user is None or hashed is None:
            raise LoginRefusedError(
                "This link does not work: it has been used, or has expired. Ask for another one: "
                "bloodcell users password NAME --link"
            )
        used = user.model_copy(update={"password": hashed, "link": None, "changed_at": _now()})
        change.users = change.users.with_user(used)
    return Person(used.name, used.roles)


def _listed(user: User) -> ListedUser:
    state: UserState = "active"
    if user.removed:
        state = "removed"
    elif user.password is None:
        state = "invited" if user.link and not is_over(user.link, _now()) else "link expired"
    until = user.link.until if user.link else None
    return ListedUser(user.name, tuple(sorted(user.roles)), state, until, user.changed_at)


def _existing(users: Users, name: str) -> User:
    user = users.find(name)
    if user is None or user.removed:
        raise UnknownRecordError(f"There is no person {name}. Next: bloodcell users list")
    return user


def _user_of_link(users: Users, token: str) -> User | None:
    digest = _digest(token)
    return next(
        (
            user
            for user in users.users
            if user.link and hmac.compare_digest(user.link.sha256, digest) and not is_over(user.link, _now())
        ),
        None,
    )


def _hash_again(path: Path, user: User, password: str) -> None:
    """Replaces a hash with outdated parameters, unless the password has been changed meanwhile."""
    hashed = hash_of(password)
    with changing_users(path) as change:
        present = change.users.find(user.name)
        if present and present.password == user.password and not present.removed:
            change.users = change.users.with_user(present.model_copy(update={"password": hashed}))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)
