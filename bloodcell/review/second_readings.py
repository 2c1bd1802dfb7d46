"""The cells that a second person has to read: the page shows them, and the navigation counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.review.people import Person

_SQL: Final = load_statements("review/second_readings.sql")


def second_readings(connection: sa.Connection, person: Person, rules: LaboratoryRules) -> Sequence[sa.Row[Any]]:
    """Returns `cell_id` and `sha256` of the cells that wait for a second reading by this person.

    Args:
        connection: Connection to the database, as role `bloodcell_desk`.
        person: Who would read them.
        rules: The laboratory's rules, which may ask for no second reader.
    """
    if not (rules.second_reader.blasts or rules.second_reader.out_of_scope):
        return ()
    return connection.execute(_SQL["waiting"], {"person": person.name, "rules_digest": rules.digest}).all()
