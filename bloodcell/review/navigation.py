"""The pages of the desk, with what waits on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from bloodcell.review.services import Services
    from bloodcell.review.sessions import Session

_SQL: Final = load_statements("review/navigation.sql")


@dataclass(frozen=True, slots=True)
class Item:
    """A page: its address, its name, how much waits there (None: nothing is counted), and whether it is shown now."""

    href: str
    text: str
    n: int | None
    current: bool


def navigation(services: Services, session: Session, current: str, text: Callable[[str], str]) -> list[Item]:
    """Returns the pages that the person may use.

    Args:
        services: Where to count.
        session: The person.
        current: Address of the page that is shown.
        text: Text in the person's language.
    """
    person, rules = session.person, services.rules
    asked = {"person": person.name, "rules_digest": rules.digest}
    pages = [("/", "Worklist", "")]
    if person.may("reader"):
        pages.append(("/blind", "Blind reading", "blind"))
    if person.may("senior"):
        pages.append(("/second", "Second reading", "second"))
        pages.append(("/adjudication", "Adjudication", "contested"))
    if person.may("reader"):
        pages.append(("/training-queue", "Training queue", ""))
    pages += [("/reported", "Reported on a date", ""), ("/statistics", "Statistics", "")]
    if person.may("administrator"):
        pages.append(("/sessions", "People", ""))

    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            name: int(connection.scalar(_SQL[name], asked) or 0)
            for _, _, name in pages
            if name and (name != "second" or rules.second_reader.blasts or rules.second_reader.out_of_scope)
        }

    waiting = {"second": 0, **services.desk.transact(count)}
    return [Item(href, text(title), waiting.get(name), href == current) for href, title, name in pages]
