"""`slide.json`: what the laboratory says about a slide, checked before any of it is used."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)

from bloodcell.cells.names import composed
from bloodcell.errors import UnusableFileError
from bloodcell.visible_text import has_invisible

MAX_RECORD_BYTES: Final = 64 * 1024
_FIRST_YEAR: Final = 2000
"""No slide was imaged digitally before; an analyser whose clock was never set says 1970 or 1980."""
_CLOCK_AHEAD: Final = timedelta(days=1)
"""How far an analyser's clock may be ahead."""

OLDEST_YEARS: Final = 130
"""Ages from here on are refused. The oldest person on record reached 122 years."""
_WBC_10E9_PER_L: Final = (0.01, 1000.0)
"""Plausible leucocyte counts: leukaemias reach several hundred, and a count per microlitre is in the thousands."""

_NAME: Final = re.compile(r"[^\W\d_]+\.?(?:[ ,^]+[^\W\d_]+\.?)+|[A-ZÀ-Þ][a-zß-ÿ]{2,}")
"""Two or more words of letters, with a blank, a comma or HL7's caret between them, or one capitalised word."""


def _visible(text: str) -> str:
    """Returns the text; control characters come from a broken export, and others make two values look alike."""
    if has_invisible(text):
        raise ValueError("expected text of visible characters, received others; they were not stored")
    return text


_Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_visible)]


def _leucocyte_count(count: float) -> float:
    """Returns a leucocyte count that can be one in 10^9 per litre."""
    if not _WBC_10E9_PER_L[0] <= count <= _WBC_10E9_PER_L[1]:
        raise ValueError(
            f"expected a leucocyte count in 10^9 per litre, {_WBC_10E9_PER_L[0]:g} to {_WBC_10E9_PER_L[1]:g}, received "
            f"{count:g}; a count per microlitre is divided by 1000"
        )
    return count


def _in_utc(time: datetime) -> datetime:
    """Returns the time in UTC, in which any other offset is stored: Postgres knows fewer offsets than Python."""
    latest = datetime.now(UTC) + _CLOCK_AHEAD
    try:
        in_utc = time.astimezone(UTC)
    except OverflowError:
        in_utc = None
    if in_utc is None or in_utc.year < _FIRST_YEAR or in_utc > latest:
        raise ValueError(f"expected a time between {_FIRST_YEAR} and {latest:%Y-%m-%d}, received {time.isoformat()}")
    return in_utc


def _pseudonym(key: str) -> str:
    """Returns a patient key in the one form in which it is compared: different spellings would be different patients.

    What looks like a name or a date of birth is refused, because it identifies a person. The message is without it.
    """
    key = unicodedata.normalize("NFC", key).strip()
    if not key:
        raise ValueError("expected a pseudonym, received blanks")
    if _NAME.fullmatch(key) or _is_date(key):
        raise ValueError(
            "expected a pseudonym, received what looks like a name or a date of birth; it was not stored. Have the "
            "export write a key that identifies nobody"
        )
    return key


def _is_date(text: str) -> bool:
    parts = re.fullmatch(r"(\d{4})([-./ ]?)(\d{1,2})\2(\d{1,2})", text)
    days_first = re.fullmatch(r"(\d{1,2})([-./ ]?)(\d{1,2})\2(\d{4})", text)
    found = []
    if parts:
        found.append((parts[1], parts[3], parts[4]))
    if days_first:
        found += [(days_first[4], days_first[3], days_first[1]), (days_first[4], days_first[1], days_first[3])]
    for year, month, day in found:
        try:
            if 1900 <= date(int(year), int(month), int(day)).year <= datetime.now(UTC).year:
                return True
        except ValueError:
            continue
    return False


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """What is known about a slide; every field but the barcode may be missing, and `patient_key` is a pseudonym.

    Attributes:
        acquired_at: In UTC.
        age_months: Age of the patient when the blood was taken, in whole months, 0 to 1559.
        sex: "female" or "male".
        wbc_10e9_per_l: The analyser's leucocyte count in 10^9 per litre.
        wbc_is_corrected: Whether that count leaves out nucleated red cells already; None: unknown.
    """

    barcode: str
    order_id: str | None = None
    analyser: str | None = None
    patient_key: str | None = None
    acquired_at: datetime | None = None
    age_months: int | None = None
    sex: str | None = None
    wbc_10e9_per_l: float | None = None
    wbc_is_corrected: bool | None = None


class _RecordFile(BaseModel):
    # further keys are ignored: an export may contain a name or a birth date, which must not be stored
    model_config = ConfigDict(extra="ignore")

    barcode: _Text | None = None
    order_id: _Text | None = None
    analyser: _Text | None = None
    patient_key: Annotated[_Text, AfterValidator(_pseudonym)] | None = None
    acquired_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
    age_years: Annotated[int, Field(ge=0, lt=OLDEST_YEARS, strict=True)] | None = None
    age_months: Annotated[int, Field(ge=0, lt=12 * OLDEST_YEARS, strict=True)] | None = None
    sex: Literal["female", "male"] | None = None
    wbc_10e9_per_l: Annotated[float, AfterValidator(_leucocyte_count)] | None = None
    wbc_is_corrected: StrictBool | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.age_years is not None and self.age_months is not None and self.age_months // 12 != self.age_years:
            raise ValueError(f"age_years {self.age_years} and age_months {self.age_months} contradict each other")
        if self.age_years == 0 and self.age_months is None:  # the reference ranges change within that year
            raise ValueError("age_years 0 needs age_months, too")
        if self.wbc_is_corrected is not None and self.wbc_10e9_per_l is None:
            raise ValueError("wbc_is_corrected needs wbc_10e9_per_l")
        return self

    @property
    def age(self) -> int | None:
        """The age in months."""
        if self.age_months is not None or self.age_years is None:
            return self.age_months
        return 12 * self.age_years


def parse_slide_record(body: bytes, barcode: str) -> SlideRecord:
    """Returns the record of the slide whose folder is named `barcode`.

    Raises:
        UnusableFileError: reason slide_record (not a valid record) or slide_identity (another slide's record).
    """
    if len(body) > MAX_RECORD_BYTES:
        raise UnusableFileError("slide_record", f"expected at most {MAX_RECORD_BYTES:,} bytes, received more")
    try:
        record = _RecordFile.model_validate(json.loads(body, object_pairs_hook=_fields))
    except (ValueError, RecursionError, ValidationError) as error:
        problem = _first_problem(error)
        raise UnusableFileError("slide_record", f"expected a JSON object with the slide's fields; {problem}") from error
    if not record.model_fields_set:
        known = ", ".join(_RecordFile.model_fields)
        raise UnusableFileError("slide_record", f"expected some of the fields {known}, received none of them")
    if record.barcode is not None and composed(record.barcode) != barcode:
        raise UnusableFileError(
            "slide_identity", f"the folder is named {barcode!r}, its slide.json says barcode {record.barcode!r}"
        )
    order_id, analyser = (None if text is None else composed(text) for text in (record.order_id, record.analyser))
    wbc = record.wbc_10e9_per_l
    return SlideRecord(
        barcode,
        order_id,
        analyser,
        record.patient_key,
        record.acquired_at,
        age_months=record.age,
        sex=record.sex,
        wbc_10e9_per_l=wbc,
        wbc_is_corrected=None if wbc is None else record.wbc_is_corrected,
    )


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns the fields of an object; refuses what a reader could understand in two ways."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is named twice")
    known = set(_RecordFile.model_fields)
    if wrong := sorted(name for name in fields if name not in known and name.strip().lower() in known):
        raise ValueError(f"expected the fields in lower case, received {', '.join(map(repr, wrong))}")
    return fields


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"
    return str(error) or type(error).__name__
