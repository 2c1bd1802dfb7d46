"""`slide.json`: what the laboratory says about a slide, checked before any of it is used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from bloodcell.errors import UnusableFileError

MAX_RECORD_BYTES = 64 * 1024

# no control characters: they come from a broken export, and Postgres does not accept NUL
_Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """What is known about a slide; every field but the barcode may be missing, and `patient_key` is a pseudonym."""

    barcode: str
    order_id: str | None = None
    analyser: str | None = None
    patient_key: str | None = None
    acquired_at: datetime | None = None


class _RecordFile(BaseModel):
    # further keys are ignored: an export may contain a name or a birth date, which must not be stored
    model_config = ConfigDict(extra="ignore")

    barcode: _Text | None = None
    order_id: _Text | None = None
    analyser: _Text | None = None
    patient_key: _Text | None = None
    acquired_at: AwareDatetime | None = None


def parse_slide_record(body: bytes, barcode: str) -> SlideRecord:
    """Returns the record of the slide whose folder is named `barcode`.

    Raises:
        UnusableFileError: reason slide_record (not a valid record) or slide_identity (another slide's record).
    """
    if len(body) > MAX_RECORD_BYTES:
        raise UnusableFileError("slide_record", f"expected at most {MAX_RECORD_BYTES:,} bytes, received more")
    try:
        record = _RecordFile.model_validate(json.loads(body))
    except (ValueError, RecursionError, ValidationError) as error:
        problem = _first_problem(error)
        raise UnusableFileError("slide_record", f"expected a JSON object with the slide's fields; {problem}") from error
    if record.barcode is not None and record.barcode != barcode:
        raise UnusableFileError(
            "slide_identity", f"the folder is named {barcode!r}, its slide.json says barcode {record.barcode!r}"
        )
    return SlideRecord(barcode, record.order_id, record.analyser, record.patient_key, record.acquired_at)


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"
    return str(error) or type(error).__name__
