"""The pages of the desk, with what waits on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import HTMLResponse

from bloodcell.review.services import services_of, session_of
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Callable

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
    person = session.person
    asked = {
        "person": person.name,
        "has_second_reader": services.rules.second_reader.blasts or services.rules.second_reader.out_of_scope,
        "rules_digest": services.rules.digest,
    }
    waiting = services.desk.transact(lambda c: c.execute(_SQL["waiting"], asked).one())
    pages = [("/", "Worklist", None)]
    if person.may("reader"):
        pages.append(("/blind", "Blind reading", waiting.n_blind))
    if person.may("senior"):
        pages.append(("/second", "Second reading", waiting.n_second))
        pages.append(("/adjudication", "Adjudication", waiting.n_contested))
    if person.may("reader"):
        pages.append(("/training-queue", "Training queue", None))
    pages += [("/reported", "Reported on a date", None), ("/statistics", "Statistics", None)]
    if person.may("administrator"):
        pages.append(("/sessions", "People", None))
    return [Item(href, text(name), n, href == current) for href, name, n in pages]
