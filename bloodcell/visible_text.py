"""Text from outside, shown so that it cannot be mistaken for other text."""

from __future__ import annotations

import json
import re
from typing import Final

_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters without a glyph of their own: zero-width ones, fillers, and those that change the direction of writing.

Source: Unicode 16, DerivedCoreProperties.txt, Default_Ignorable_Code_Point, and the annotations U+FFF9 to U+FFFB.
"""
_CONTROL: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_INVISIBLE: Final = re.compile(f"[\t\n{_CONTROL}{_IGNORABLE}]")
_INVISIBLE_BUT_LAYOUT: Final = re.compile(f"[{_CONTROL}{_IGNORABLE}]")


def visible(value: object) -> str:
    r"""Returns text in which each invisible character is spelt out, as in \u202e."""
    return _INVISIBLE.sub(_spelt_out, str(value))


def visible_lines(value: object) -> str:
    """Returns text in which each invisible character is spelt out, except for line feeds and tabs."""
    return _INVISIBLE_BUT_LAYOUT.sub(_spelt_out, str(value))


def visible_line(value: object) -> str:
    """Returns text on one line: white space of any kind becomes a space, other invisible characters are spelt out."""
    return visible("".join(" " if char.isspace() else char for char in str(value)).strip())


def visible_json(text: str) -> str:
    """Returns a JSON document in which invisible characters are spelt out as in JSON: it still means the same."""
    return _INVISIBLE_BUT_LAYOUT.sub(lambda found: json.dumps(found.group())[1:-1], text)


def has_invisible(text: str, *, lines: bool = False) -> bool:
    """Returns whether text has an invisible character, such as a control character or a change of direction.

    Args:
        text: Any text.
        lines: Whether it may have several lines: line feeds and tabs do not count then.
    """
    return (_INVISIBLE_BUT_LAYOUT if lines else _INVISIBLE).search(text) is not None


def _spelt_out(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"
