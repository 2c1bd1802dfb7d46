"""What the routes of the desk work with, opened once when the desk starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bloodcell.cells.classes import FINER_CODES
from bloodcell.differential.differential_rows import keep_rules
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.login_limit import AccountLimit
from bloodcell.presentation.templates import page_environment
from bloodcell.results.result_display import line_name
from bloodcell.review.ldap_login import Directory
from bloodcell.review.openid_provider import OpenIdProvider
from bloodcell.review.sessions import Sessions
from bloodcell.review.shaped_texts import SHAPES
from bloodcell.review.slide_page import SlideReader
from bloodcell.review.sprites import Sprites
from bloodcell.review.static_files import StaticFiles
from bloodcell.review.texts import chosen_language, read_catalogues
from bloodcell.review.writing import Desk
from bloodcell.storage.database import open_desk_databases
from bloodcell.storage.decoding import ImageBounds
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.review.sessions import Session
    from bloodcell.review.texts import Catalogue
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

_TEMPLATES: Final = Path(__file__).with_name("templates")
_PATIENCE_S: Final = 3.0
"""A restarted Postgres is back within two or three seconds; a person does not wait longer without being told."""
LANGUAGE_COOKIE: Final = "bloodcell_language"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes use.

    Attributes:
        settings: The settings of the installation.
        rules: The laboratory's rules.
        desk: The database, as role `bloodcell_desk`.
        app: The database, as role `bloodcell_app`, which counts.
        store: The images.
        sessions: Sessions of people.
        slides: Reads slides.
        writer: Writes in a person's name.
        sprites: Thumbnails.
        static: Scripts and styles.
        catalogues: Texts by language.
        provider: The laboratory's OpenID provider; None if people do not log in by one.
        directory: The laboratory's directory; None if people do not log in by it.
        accounts: Slows down guessing of passwords.
    """

    settings: Settings
    rules: LaboratoryRules
    desk: Database
    app: Database
    store: Store
    sessions: Sessions
    slides: SlideReader
    writer: Desk
    sprites: Sprites
    static: StaticFiles
    catalogues: Mapping[str, Catalogue]
    provider: OpenIdProvider | None
    directory: Directory | None
    accounts: AccountLimit

    def page(self, template: str, request: Request, **values: Any) -> str:
        """Returns a page in the person's language, within the frame that all pages have."""
        catalogue = self.catalogue(request)
        session: Session | None = request.state.session
        frame = {
            "_": catalogue.text,
            "line_name": lambda line: catalogue.text(label_name(line)),
            "static": self.static.address,
            "language": catalogue.tag,
            "languages": [(each.code, each.tag, each.name) for each in self.catalogues.values()],
            "is_machine_made": catalogue.is_machine_made,
            "person": session.person if session else None,
            "csrf": session.csrf if session else "",
            "texts": dict(catalogue.texts),
            "page": {
                "csrf": session.csrf if session else "",
                "language": catalogue.tag,
                "person": session.person.name if session else None,
                "shapes": SHAPES if catalogue.texts else (),
            },
            "navigation": [],
        }
        return page_environment(_TEMPLATES).get_template(template).render({**frame, **values})

    def catalogue(self, request: Request) -> Catalogue:
        """Returns the texts in the language of a request."""
        chosen = request.cookies.get(LANGUAGE_COOKIE)
        return self.catalogues[chosen_language(self.catalogues, chosen, request.headers.get("accept-language", ""))]

    def close(self) -> None:
        """Closes the connections that are kept open."""
        self.desk.dispose()
        self.app.dispose()
        self.store.close()


def open_services(settings: Settings) -> Services:
    """Opens what the desk works with.

    Raises:
        ConfigurationError: The rules file, the users file or a catalogue is not valid, or the login may not act as the
            desk.
        DatabaseUnavailableError: Postgres is unavailable.
        SchemaError: The database belongs to another release.
    """
    rules = read_rules(settings.rules_file)
    desk, app = open_desk_databases(settings, patience_s=_PATIENCE_S)
    app.transact(lambda c: keep_rules(c, rules))  # a function of the database looks up who has to read a cell
    store = Store.of(settings)
    sprites = Sprites(settings.data_dir / "desk" / "sprites", store, ImageBounds.of(settings), settings.reader_threads)
    return Services(
        settings=settings,
        rules=rules,
        desk=desk,
        app=app,
        store=store,
        sessions=Sessions(desk, settings),
        slides=SlideReader(desk, app, rules, settings.desk_um_per_px),
        writer=Desk(desk, app, rules),
        sprites=sprites,
        static=StaticFiles(),
        catalogues=read_catalogues(settings.desk_texts_dir),
        provider=OpenIdProvider(settings) if settings.desk_login == "oidc" else None,
        directory=Directory(settings) if settings.desk_login == "ldap" else None,
        accounts=AccountLimit(),
    )


def label_name(label: str) -> str:
    """Returns what people call a label: a line of a differential, or a code that is finer than its class."""
    return f"{label} {FINER_CODES[label]}" if label in FINER_CODES else line_name(label)


def services_of(request: Request) -> Services:
    """Returns the services of the application that a request came to."""
    services: Services = request.app.state.services
    return services


def session_of(request: Request) -> Session:
    """Returns the session of a request; the guard has refused requests without one."""
    session: Session | None = request.state.session
    if session is None:
        raise RuntimeError("a route that needs a session was named as open")
    return session
