"""Records as JSON documents, for `--json` and for programs.

A fraction of counted cells is given in percent, as in the database's views and on the pages, and its name says so.
A comparison, its gates and a check of the champion are printed as they are stored, with fractions in 0..1.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from bloodcell.visible_text import visible_json

if TYPE_CHECKING:
    from bloodcell.cells.intervals import Proportion


def json_text(document: Any) -> str:
    """Returns records, lists and dicts of them as one JSON document; dates and ids become strings."""
    text = json.dumps(document, default=_plain, indent=2, ensure_ascii=False)
    return visible_json(text)


def proportion_json(share: Proportion) -> dict[str, object]:
    """Returns a proportion as its count and total, and in percent with its 95 % interval."""
    lower, upper = share.percentage_interval or (None, None)
    return {"n": share.n, "of": share.total, "percentage": share.percentage, "lower_95": lower, "upper_95": upper}


def _plain(value: object) -> object:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)
