"""The pages of the desk, with what waits on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import HTMLResponse

from bloodcell.review.second_readings import second_readings
from bloodcell.review.services import services_of, session_of
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa
    from starlette.requests import Request

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


def desk_page(request: Request, template: str, current: str = "", *, status: int = 200, **values: Any) -> HTMLResponse:
    """Returns a page with the navigation above it.

    Args:
        request: The request of a person who has logged in.
        template: File of the page below `templates`.
        current: Address that the navigation marks as shown; "" if the page is not among those it names.
        status: HTTP status.
        values: What the page shows.
    """
    services = services_of(request)
    items = _navigation(services, session_of(request), current, services.catalogue(request).text)
    return HTMLResponse(services.page(template, request, navigation=items, **values), status)


def _navigation(services: Services, session: Session, current: str, text: Callable[[str], str]) -> list[Item]:
    person, rules = session.person, services.rules
    pages = [("/", "Worklist", "")]
    if person.may("reader"):
        pages.append(("/blind", "Blind reading", "blind"))
    if person.may("senior"):
        pages.append(("/second", "Second reading", "second"))
        pages.append(("/adjudication", "Adjudication", "contested"))
    if person.may("reader"):
        pages.append(("/training-queue", "Training queue", ""))
    pages += [("/reported", "Reported on a date", ""), ("/statistics", "Statistics", "")]
    pages.append(("/quality", "Quality control", "quality"))
    if services.settings.exchange_file is not None:
        pages.append(("/messages", "Messages", "messages"))
    if person.may("administrator"):
        pages.append(("/sessions", "People", ""))

    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            name: len(second_readings(connection, person, rules))
            if name == "second"
            else int(connection.scalar(_SQL[name], {"person": person.name}) or 0)
            for _, _, name in pages
            if name
        }

    waiting = services.desk.transact(count)
    return [Item(href, text(title), waiting.get(name), href == current) for href, title, name in pages]
