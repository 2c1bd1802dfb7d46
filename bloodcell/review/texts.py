"""The texts of the desk in the languages that there are: one catalogue a language, in the format of gettext.

English is the text in the code. A site adds a language, or corrects one, with a file of its own; see
docs/how-to/desk-languages.md.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import ConfigurationError
from bloodcell.review.shaped_texts import PLACEHOLDER, shaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from babel.messages.catalog import Catalog

_SHIPPED: Final = Path(__file__).with_name("texts")
ENGLISH: Final = "en"
_NATIVE: Final = {ENGLISH: "English", "es": "Español", "de": "Deutsch"}
_MACHINE_MADE: Final = re.compile(rb'^"X-Machine-Made:\s*(\w+)', re.IGNORECASE | re.MULTILINE)
"""Header of a catalogue; Babel keeps none that it does not know."""
_LINE: Final = re.compile(rb'\s*(?:#.*|(?:msg\w+(?:\[\d+\])?\s*)?"(?:[^"\\]|\\.)*"\s*)?')
_MAX_BYTES: Final = 2_000_000
_MOST_ACCEPTED: Final = 20
"""Languages that are looked at of a header Accept-Language."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language.

    Attributes:
        code: Language as gettext writes it: es, pt_BR.
        name: What its speakers call it.
        is_machine_made: Whether a machine made the translation and nobody has reviewed it.
        texts: English text -> translation; a text that is missing is shown in English.
    """

    code: str
    name: str
    is_machine_made: bool
    texts: Mapping[str, str]

    @property
    def tag(self) -> str:
        """The language as HTML writes it: es, pt-BR."""
        return self.code.replace("_", "-")

    def text(self, english: str) -> str:
        """Returns the text in this language; of several with semicolons between them, each."""
        if not self.texts:
            return english
        return self.texts.get(english) or "; ".join(shaped(part, self.texts) for part in english.split("; "))


def read_catalogues(folder: Path | None = None) -> dict[str, Catalogue]:
    """Returns code -> catalogue: English, what comes with bloodcell, and what the site's folder adds or replaces.

    Args:
        folder: Folder with files CODE.po; None: only what comes with bloodcell. A text that a file does not have stays
            as it comes with bloodcell.

    Raises:
        ConfigurationError: The folder is missing, or a file is not a catalogue.
    """
    found = {ENGLISH: Catalogue(ENGLISH, _NATIVE[ENGLISH], is_machine_made=False, texts={})}
    if folder and not folder.is_dir():
        raise ConfigurationError(f"BLOODCELL_DESK_TEXTS_DIR: there is no folder {folder}.")
    for each in (_SHIPPED, folder):
        for path in sorted(each.glob("*.po")) if each else ():
            found[path.stem] = _read(path, found.get(path.stem))
    return found


def _read(path: Path, known: Catalogue | None) -> Catalogue:
    from babel import Locale, UnknownLocaleError
    from babel.messages.pofile import PoFileError, read_po

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"expected at most {_MAX_BYTES:,} bytes")
        locale = Locale.parse(path.stem)
        content = path.read_bytes()
        for number, line in enumerate(content.splitlines(), start=1):
            if not _LINE.fullmatch(line):  # Babel takes half a line for a whole one
                raise ValueError(f"line {number} is neither a text in quotation marks nor a comment")
        texts = _texts(read_po(io.BytesIO(content), locale=locale, charset="utf-8", abort_invalid=True))
    except (OSError, ValueError, UnknownLocaleError, PoFileError) as error:
        raise ConfigurationError(f"{path} is not a catalogue of texts named CODE.po: {error}") from error
    said = _MACHINE_MADE.search(content)
    is_machine_made = said[1].lower() != b"no" if said else known is not None and known.is_machine_made
    name = _NATIVE.get(path.stem) or (locale.display_name or path.stem)
    return Catalogue(
        path.stem, name[0].upper() + name[1:], is_machine_made, {**(known.texts if known else {}), **texts}
    )


def _texts(parsed: Catalog) -> dict[str, str]:
    whole = [each for each in parsed if isinstance(each.id, str) and isinstance(each.string, str) and not each.fuzzy]
    texts = {str(each.id): str(each.string) for each in whole if each.id and each.string}
    for english, text in texts.items():
        # a figure that a translation leaves out would be missing on the page
        if set(PLACEHOLDER.findall(english)) != set(PLACEHOLDER.findall(text)):
            raise ValueError(f"the text {text!r} needs the same names in braces as {english!r}")
    return texts


def chosen_language(catalogues: Mapping[str, Catalogue], chosen: str | None, accepted: str) -> str:
    """Returns the language of a page: the one that the person chose, or the one that the browser likes best.

    Args:
        catalogues: The languages that there are.
        chosen: What the person chose earlier.
        accepted: The header Accept-Language.
    """
    if chosen in catalogues:
        return str(chosen)
    known = {catalogue.tag.lower(): code for code, catalogue in catalogues.items()}
    for tag in _by_preference(accepted):
        language = tag.partition("-")[0]
        relatives = (code for other, code in known.items() if other.partition("-")[0] == language)
        if code := known.get(tag) or known.get(language) or next(relatives, None):
            return code
    return ENGLISH


def _by_preference(accepted: str) -> list[str]:
    """Returns the languages of a header Accept-Language, the most wanted first."""
    wanted = []
    for part in accepted.split(",")[:_MOST_ACCEPTED]:
        found = re.fullmatch(r"\s*([A-Za-z0-9-]+)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?", part)
        if found and float(found[2] or 1) > 0:
            wanted.append((-float(found[2] or 1), found[1].lower()))
    return [tag for _, tag in sorted(wanted, key=lambda each: each[0])]
