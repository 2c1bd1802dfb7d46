"""The people of the review desk: their names, and what each role allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bloodcell.cells.names import composed
from bloodcell.desk_settings import ROLES, Role
from bloodcell.errors import NameRefusedError
from bloodcell.visible_text import has_invisible

__all__ = ["ROLES", "Person", "Role", "name_key", "person_name", "roles_of"]

MAX_NAME: Final = 100

_IMPLIED: Final[Mapping[Role, frozenset[Role]]] = {
    "viewer": frozenset({"viewer"}),
    "reader": frozenset({"viewer", "reader"}),
    "senior": frozenset({"viewer", "reader", "senior"}),
    # who runs the desk need not be able to label or sign
    "administrator": frozenset({"viewer", "administrator"}),
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has logged in to the review desk.

    Attributes:
        name: The name under which this person labels and signs, in the form of `person_name`.
        roles: The roles that were given; `may` knows what they imply.

    Raises:
        NameRefusedError: The name is not in the form of `person_name`.
    """

    name: str
    roles: frozenset[Role]

    def __post_init__(self) -> None:
        if person_name(self.name) != self.name:
            raise NameRefusedError(f"The name {self.name!r} has spaces at an end, or is not in Unicode's form NFC.")

    def may(self, role: Role) -> bool:
        """Returns whether this person may do what a role allows, because of this role or of one that implies it."""
        return any(role in _IMPLIED[each] for each in self.roles)


def person_name(text: str) -> str:
    """Returns a person's name in the one form in which it is kept: without spaces at the ends, in Unicode's form NFC.

    Raises:
        NameRefusedError: It is empty, too long, or has a character that nobody can see.
    """
    name = composed(text).strip()
    if not name:
        raise NameRefusedError("The name is empty.")
    if len(name) > MAX_NAME:
        raise NameRefusedError(f"A name has at most {MAX_NAME} characters; this one has {len(name)}.")
    # a space that looks like another one would make two people of the same name
    if has_invisible(name) or any(each.isspace() and each != " " for each in name) or "  " in name:
        raise NameRefusedError(f"The name {name!r} has a character that cannot be seen, or two spaces together.")
    return name


def name_key(name: str) -> str:
    """Returns what is the same for two names that differ only in case: they are one person."""
    return composed(composed(name).strip().casefold())


def roles_of(groups: Iterable[str], mapping: Mapping[str, frozenset[Role]]) -> frozenset[Role]:
    """Returns the roles that a person's groups give; none if no group gives one.

    Args:
        groups: Groups of the person, written exactly as in `mapping`.
        mapping: Group -> roles, as in `DeskSettings.roles_by_group`.
    """
    return frozenset[Role]().union(*(mapping.get(group, frozenset()) for group in groups))
