"""HL7 v2 as text: segments and fields become a message, and a message becomes segments and fields again.

Source: HL7 version 2.5.1, chapter 2 (delimiters, escape sequences, character sets).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bloodcell.errors import BloodcellError
from bloodcell.visible_text import visible

DELIMITERS: Final = "|^~\\&"
"""Field, component, repetition, escape and subcomponent, as bloodcell writes them in MSH-1 and MSH-2."""

Field = str | Sequence[str]
"""A field: a text, or its components."""

_ENCODINGS: Final = {
    "": "latin-1",  # without MSH-18 a message is in ASCII; what a sender writes beyond it anyway is mostly Latin-1
    "ASCII": "latin-1",
    "8859/1": "latin-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UNICODE": "utf-8",
}
"""Value of MSH-18 (HL7 table 0211) -> Python's name."""

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"}
_NULL: Final = '""'
"""What a sender writes to delete a value."""
_TO_ESCAPE: Final = re.compile(r"[\\|^~&\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Hl7Error(BloodcellError):
    """A message that is not HL7 v2, or that lacks what it has to have."""


def escaped(text: str) -> str:
    r"""Returns text as it stands in a field; a new line is `\.br\`, as in formatted text.

    Args:
        text: Any text.
    """
    return _TO_ESCAPE.sub(_escape, text.replace("\r\n", "\n").replace("\r", "\n"))


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if character in _ESCAPES:
        return _ESCAPES[character]
    return "\\.br\\" if character == "\n" else f"\\X{character.encode().hex().upper()}\\"


def segment(name: str, fields: Mapping[int, Field | Sequence[Sequence[str]]]) -> str:
    """Returns a segment, without its end.

    Args:
        name: Three letters; empty for what follows the fields of a segment.
        fields: Number of the field -> text, components, or repetitions of components. Those that are left out are
            empty. In MSH, the first two are the delimiters and are left out, too.
    """
    texts = [""] * (max(fields, default=0) + 1)
    for number, value in fields.items():
        if value:
            texts[number] = _field(value)
    texts[0] = name
    if name == "MSH":
        texts[1:3] = [DELIMITERS[1:]]
    return "|".join(texts).rstrip("|")


@lru_cache(maxsize=4096)  # names, codes, units and times stand in every segment
def _field(value: Field | Sequence[Sequence[str]]) -> str:
    if isinstance(value, str):
        return escaped(value)
    if value and not isinstance(value[0], str):
        return "~".join(_field(each) for each in value)
    return "^".join(escaped(each) for each in value if isinstance(each, str)).rstrip("^")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a message that was received.

    Attributes:
        name: Three letters.
        fields: Its fields from the first on, as they stand there. In MSH, the first is the field delimiter.
        delimiters: Those of the message, as `DELIMITERS`.
    """

    name: str
    fields: tuple[str, ...]
    delimiters: str

    def field(self, number: int, component: int = 1) -> str:
        """Returns a component of the first repetition of a field; empty if it is not there, or is HL7's null.

        Args:
            number: 1 for the first field.
            component: 1 for the first component.
        """
        of_component, of_repetition, of_subcomponent = self.delimiters[1], self.delimiters[2], self.delimiters[4]
        if number > len(self.fields):
            return ""
        components = self.fields[number - 1].split(of_repetition)[0].split(of_component)
        found = components[component - 1].split(of_subcomponent)[0] if component <= len(components) else ""
        return "" if found == _NULL else self._plain(found)

    def written(self, name: str) -> str:
        """Returns the segment as bloodcell writes it: the same fields, with the usual delimiters."""
        own = dict(zip(self.delimiters, DELIMITERS, strict=True))
        fields = ("".join(own.get(each) or _ESCAPES.get(each, each) for each in field) for field in self.fields)
        return "|".join([name, *fields])

    def text(self, number: int) -> str:
        """Returns a whole field without its delimiters, for a person."""
        if number > len(self.fields):
            return ""
        found = self.fields[number - 1]
        for delimiter in self.delimiters[1:3] + self.delimiters[4:]:
            found = found.replace(delimiter, " ")
        return self._plain(found).strip()

    def _plain(self, text: str) -> str:
        escape = re.escape(self.delimiters[3])
        return re.sub(f"{escape}(.*?){escape}", self._unescaped, text)

    def _unescaped(self, found: re.Match[str]) -> str:
        what = found.group(1)
        own = dict(zip("FSRET", self.delimiters, strict=True))
        if what in own:
            return own[what]
        if what.startswith("."):
            return "\n" if what == ".br" else ""
        if what.startswith("X"):
            try:
                return bytes.fromhex(what[1:]).decode("utf-8", "replace")
            except ValueError:
                return ""
        return ""  # \H\ and \N\ begin and end highlighting


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received: its segments in their order."""

    segments: tuple[Segment, ...]

    def first(self, name: str) -> Segment | None:
        """Returns the first segment of this name."""
        return next((each for each in self.segments if each.name == name), None)

    @property
    def header(self) -> Segment:
        """The first segment, MSH."""
        return self.segments[0]


def read_message(body: bytes) -> Message:
    """Returns the segments of a message.

    Args:
        body: The message without its frame.

    Raises:
        Hl7Error: It does not begin with MSH and delimiters, or is not in the character set that MSH-18 names.
    """
    head = _delimiters(body)
    lines = [line for line in re.split(rb"[\r\n]+", body) if line]
    of_header = lines[0].decode("latin-1").split(head[0])
    named = of_header[17].split(head[2])[0].strip() if len(of_header) > 17 else ""
    encoding = _ENCODINGS.get(named.upper())
    if encoding is None:
        raise Hl7Error(
            f"Expected a character set of {', '.join(filter(None, _ENCODINGS))} in MSH-18. Received: {named!r}"
        )
    if not named and _is_utf8(body):  # what many senders write without saying so
        encoding = "utf-8"
    try:
        texts = [line.decode(encoding) for line in lines]
    except UnicodeDecodeError as error:
        raise Hl7Error(f"The message is not in {named or 'ASCII'}, which MSH-18 names: {error.reason}") from None
    segments = []
    for text in texts:
        name, *fields = text.split(head[0])
        segments.append(Segment(name, tuple([head[0], *fields] if name == "MSH" else fields), head))
    return Message(tuple(segments))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def header_of(body: bytes) -> Segment | None:
    """Returns MSH of a message that may be unreadable otherwise, so that its sender is answered; None: it has none.

    Args:
        body: The message without its frame.
    """
    try:
        head = _delimiters(body)
    except Hl7Error:
        return None
    line = re.split(rb"[\r\n]", body, maxsplit=1)[0].decode("latin-1")
    return Segment("MSH", (head[0], *(visible(field) for field in line.split(head[0])[1:])), head)


def _delimiters(body: bytes) -> str:
    """Returns the five delimiters that stand after MSH.

    Raises:
        Hl7Error: The message does not begin with MSH and delimiters.
    """
    if not body.startswith(b"MSH") or len(body) < 9:
        raise Hl7Error(f"Expected a message that begins with MSH. Received {len(body):,} other bytes.")
    head = body[3:8].decode("latin-1")
    if len(set(head)) != 5 or any(each.isalnum() or each in "\r\n" for each in head):
        raise Hl7Error(f"Expected five different delimiters after MSH, such as {DELIMITERS}. Received: {head!r}")
    return head
