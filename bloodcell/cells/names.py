"""The one form in which names of slides, files and people are compared."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

TRUTH_ENDING: Final = ".truth.csv"
"""Ending of the file with the true classes that `bloodcell drop make` writes beside a drawn night."""

_LEADING_ZEROS: Final = re.compile(r"(?<![0-9])0+(?=[0-9])")
_ENDING: Final = re.compile(r"\.[^./]*$")


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form, NFC: macOS and some shares send é as e and an accent."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def bare_name(file_name: str) -> str:
    """Returns what two names of one cell have in common: case, leading zeros and the ending are left out.

    `ingest/cell_rows.sql` does the same in the database.
    """
    return _LEADING_ZEROS.sub("", _ENDING.sub("", file_name).lower())
