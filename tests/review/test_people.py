"""Names and roles of the review desk's people."""

from __future__ import annotations

import pytest

from bloodcell.errors import NameRefusedError
from bloodcell.review.people import ROLES, Person, Role, name_key, person_name, roles_of

ALLOWED: dict[Role, set[Role]] = {
    "viewer": {"viewer"},
    "reader": {"viewer", "reader"},
    "senior": {"viewer", "reader", "senior"},
    "administrator": {"viewer", "administrator"},
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_allows_what_it_implies_and_nothing_else(role: Role) -> None:
    assert {each for each in ROLES if Person("amartin", frozenset({role})).may(each)} == ALLOWED[role]


def test_somebody_without_a_role_may_nothing() -> None:
    assert not [each for each in ROLES if Person("amartin", frozenset()).may(each)]


def test_a_name_is_kept_without_outer_spaces_and_composed() -> None:
    assert person_name("  Ame\u0301lie Martin ") == "Am\u00e9lie Martin"


@pytest.mark.parametrize(
    "name", ["", "  ", "a" * 101, "a\u200bmartin", "a\u202emartin", "a\nmartin", "a\u00a0martin", "a  martin", "a\0"]
)
def test_a_name_that_could_be_mistaken_for_another_is_refused(name: str) -> None:
    with pytest.raises(NameRefusedError):
        person_name(name)


def test_a_person_has_a_name_in_its_one_form() -> None:
    with pytest.raises(NameRefusedError):
        Person(" amartin", frozenset())
    with pytest.raises(NameRefusedError):
        Person("Ame\u0301lie", frozenset())


@pytest.mark.parametrize(
    ("one", "other"), [("AMartin", "amartin"), ("STRASSE", "stra\u00dfe"), ("E\u0301va", "\u00e9va")]
)
def test_names_that_differ_only_in_case_are_one_person(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_groups_give_their_roles_and_other_groups_none() -> None:
    mapping: dict[str, frozenset[Role]] = {"readers": frozenset({"reader"}), "chiefs": frozenset({"senior"})}
    assert roles_of(["readers", "chiefs", "cooks"], mapping) == {"reader", "senior"}
    assert roles_of(["cooks", "Readers"], mapping) == frozenset()
