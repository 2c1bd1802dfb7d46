"""The texts of the desk in the languages that there are: one catalogue a language, in the format of gettext.

English is the text in the code. A site adds a language, or corrects one, with a file of its own; see
docs/how-to/desk-languages.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHIPPED: Final = Path(__file__).with_name("texts")
ENGLISH: Final = "en"
_NATIVE: Final = {ENGLISH: "English", "es": "Español", "de": "Deutsch"}
_MACHINE_MADE: Final = "X-Machine-Made"
_MAX_BYTES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language.

    Attributes:
        code: ISO 639-1 code.
        name: What its speakers call it.
        is_machine_made: Whether nobody has checked the translation.
        texts: English text -> translation; a text that is missing is shown in English.
    """

    code: str
    name: str
    is_machine_made: bool
    texts: Mapping[str, str]

    def text(self, english: str) -> str:
        """Returns the text in this language."""
        return self.texts.get(english) or english


def read_catalogues(folder: Path | None = None) -> dict[str, Catalogue]:
    """Returns code -> catalogue: English, what comes with bloodcell, and what the site's folder adds or replaces.

    Args:
        folder: Folder with files CODE.po; None: only what comes with bloodcell.

    Raises:
        ConfigurationError: A file is not a catalogue.
    """
    found = {ENGLISH: Catalogue(ENGLISH, _NATIVE[ENGLISH], is_machine_made=False, texts={})}
    for each in (_SHIPPED, folder):
        for path in sorted(each.glob("*.po")) if each else ():
            catalogue = _read(path)
            found[catalogue.code] = catalogue
    return found


def _read(path: Path) -> Catalogue:
    from babel import Locale, UnknownLocaleError
    from babel.messages.pofile import PoFileError, read_po

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"expected at most {_MAX_BYTES:,} bytes")
        with path.open("rb") as file:
            parsed = read_po(file, locale=path.stem, abort_invalid=True)
        name = _NATIVE.get(path.stem) or (Locale.parse(path.stem).display_name or path.stem).capitalize()
        is_machine_made = any(key == _MACHINE_MADE and value == "yes" for key, value in parsed.mime_headers)
    except (OSError, ValueError, UnknownLocaleError, PoFileError) as error:
        raise ConfigurationError(f"{path} is not a catalogue of texts named CODE.po: {error}") from error
    texts = {str(each.id): str(each.string) for each in parsed if each.id and each.string and not each.fuzzy}
    return Catalogue(path.stem, name, is_machine_made, texts)


def chosen_language(catalogues: Mapping[str, Catalogue], chosen: str | None, accepted: str) -> str:
    """Returns the language of a page: the one that the person chose, or the first that the browser accepts.

    Args:
        catalogues: The languages that there are.
        chosen: What the person chose earlier.
        accepted: The header Accept-Language.
    """
    if chosen in catalogues:
        return str(chosen)
    for part in accepted.split(","):
        code = part.split(";")[0].strip().split("-")[0].lower()
        if code in catalogues:
            return code
    return ENGLISH
