"""What a receiver answers to an HL7 v2 message.

Source: HL7 version 2.5.1, chapter 2, section 2.9 (acknowledgements) and table 0008 (acknowledgement code).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bloodcell.exchange.hl7_text import Hl7Error, Message, read_message

ACCEPTED: Final = ("AA", "CA")
"""Accepted by the application; committed to safe storage."""

REJECTED: Final = ("AE", "AR", "CE", "CR")
"""Error, or rejected; by the application, or before it was stored."""

_MAX_TEXT: Final = 1000


@dataclass(frozen=True, slots=True)
class Hl7Answer:
    """An acknowledgement.

    Attributes:
        control_id: MSA-2: the message that it answers.
        code: MSA-1.
        text: What it says beyond the code, for a person.
    """

    control_id: str
    code: str
    text: str

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver has the message."""
        return self.code in ACCEPTED

    @property
    def is_rejected(self) -> bool:
        """Whether the receiver refuses the message."""
        return self.code in REJECTED

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


def read_answer(body: bytes) -> Hl7Answer | None:
    """Returns an acknowledgement; None if these bytes are none.

    Args:
        body: What was received, without a frame.
    """
    try:
        message = read_message(body)
    except Hl7Error:
        return None
    found = message.first("MSA")
    if found is None:
        return None
    return Hl7Answer(found.field(2), found.field(1), _text(message)[:_MAX_TEXT])


def _text(message: Message) -> str:
    """Returns MSA-3, and of each error its place, its code and its text."""
    said = []
    for each in message.segments:
        if each.name == "MSA":
            said.append(each.text(3))
        elif each.name == "ERR":
            said.extend(each.text(number) for number in (1, 2, 3, 7, 8))
    return "; ".join(dict.fromkeys(filter(None, said)))
