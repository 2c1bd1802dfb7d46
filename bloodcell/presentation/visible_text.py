"""Text from outside, shown so that it cannot be mistaken for other text."""

from __future__ import annotations

import unicodedata
from typing import Final

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, format characters such as a change of direction, and line separators."""


def visible(value: object) -> str:
    r"""Returns text in which each invisible character is spelt out, as in \u202e."""
    return "".join(
        char if unicodedata.category(char) not in _INVISIBLE else f"\\u{ord(char):04x}" for char in str(value)
    )


def visible_line(value: object) -> str:
    """Returns text on one line: white space of any kind becomes a space, other invisible characters are spelt out."""
    return visible("".join(" " if char.isspace() else char for char in str(value)).strip())
