"""A result as an HL7 version 2.5.1 message, ORU^R01.

One OBR is the differential. Each line has an OBX with its share of the leucocytes, one with its number of cells, and
one with its absolute count if there is a leucocyte count. Intervals and bounds are notes (NTE) below the share.

An absolute count that an earlier version had, and this one has not, is deleted (status D).

Source: HL7 version 2.5.1, chapters 2, 3, 4 and 7; tables 0078 (flags), 0085 (status of an observation), 0123 (status of
a result), 0203 (kinds of identifiers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bloodcell.exchange.hl7_text import Field, escaped, segment
from bloodcell.exchange.line_texts import notes_of, uncertainty_of
from bloodcell.exchange.observations import count_observations, line_observations, panel_code
from bloodcell.presentation.numbers import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloodcell.exchange.exchange_file import ExchangeFile, Hl7Receiver
    from bloodcell.exchange.observations import Observation, ObservationCode, Unit
    from bloodcell.exchange.outgoing_result import OutgoingLine, OutgoingResult

STATUS: Final = {"machine": "P", "final": "F", "amended": "C", "corrected": "C"}
"""State of a version -> status of the result (OBR-25) and of each observation (OBX-11)."""

WITHDRAWN: Final = ("X", "W")
"""Status of the result of a withdrawn slide, and of its observations: cancelled; what was sent was wrong."""

ABNORMAL: Final = {"low": "L", "high": "H"}
"""Flags that leave: those with which the whole interval is outside the reference range."""

_UNITS: Final[Mapping[Unit, str]] = {
    "%": "%^percent^UCUM",
    "/100{WBCs}": "/100{WBCs}^per 100 leucocytes^UCUM",
    "{cells}": "{cells}^cells^UCUM",
    "10*9/L": "10*9/L^billion per litre^UCUM",
}
"""Unit in UCUM -> OBX-6."""


def oru_message(result: OutgoingResult, receiver: Hl7Receiver, exchange: ExchangeFile, sent_at: datetime) -> bytes:
    """Returns the message for a receiver, in UTF-8, without a frame.

    Args:
        result: What it says.
        receiver: Whom it is for.
        exchange: Names and codes of the laboratory.
        sent_at: Now.
    """
    return "".join(f"{each}\r" for each in _segments(result, receiver, exchange, sent_at)).encode()


def _segments(
    result: OutgoingResult, receiver: Hl7Receiver, exchange: ExchangeFile, sent_at: datetime
) -> Iterator[str]:
    sender = exchange.sender
    header: Mapping[int, Field] = {
        3: sender.application,
        4: sender.facility,
        5: receiver.application,
        6: receiver.facility,
        7: _time(sent_at),
        9: ("ORU", "R01", "ORU_R01"),
        10: result.control_id,
        11: "P",
        12: "2.5.1",
        18: "UNICODE UTF-8",
    }
    yield segment("MSH", header)
    version, *_ = result.code_version.split("+")
    yield segment("SFT", {1: "bloodcell", 2: version, 3: "bloodcell", 4: result.code_version})
    if result.patient and receiver.gets_identity:
        yield result.patient.written("PID")
    else:
        yield segment("PID", _patient(result, sender.patient_authority))
    status, of_lines = WITHDRAWN if result.is_withdrawal else (STATUS[result.reported_state],) * 2
    system = exchange.codes.system
    request: Mapping[int, Field] = {
        1: "1",
        2: result.order_id or "",
        3: (result.barcode, sender.application),
        4: _code(panel_code(result), system),
        7: _time(result.specimen_at),
        22: _time(result.reported_at),
        24: "HM",
        25: status,
        32: result.signed_by or "",
    }
    yield segment("OBR", request)
    for number_, text in enumerate(notes_of(result), start=1):
        yield _note(number_, text)
    position, tail = 0, _tail(result)
    for of_line in line_observations(result, exchange.codes):
        for each in filter(None, (of_line.share, of_line.cells, of_line.absolute)):
            position += 1
            line = of_line.line if each is of_line.share else None
            yield _observation(line, position, each, system, of_lines) + tail
            if line and (note := uncertainty_of(line)):
                yield _note(1, note)
    for each in count_observations(result):
        position += 1
        yield _observation(None, position, each, system, of_lines) + tail


def _patient(result: OutgoingResult, authority: str) -> Mapping[int, Field]:
    """Returns PID: the pseudonym, which is also the name, because a receiver needs one (name type S: pseudonym)."""
    key = result.patient_key or result.barcode
    return {
        1: "1",
        3: (key, "", "", authority, "PI" if result.patient_key else "U"),
        5: (key, "", "", "", "", "", "S"),
        8: {"female": "F", "male": "M"}.get(result.sex or "", "U"),
    }


def _tail(result: OutgoingResult) -> str:
    """Returns OBX from field 12 on, which is the same in each OBX of a message."""
    fields: Mapping[int, Field | Sequence[Sequence[str]]] = {
        14: _time(result.specimen_at),
        16: result.signed_by or "",
        17: (result.variant, f"bloodcell {result.variant}", "99BLOODCELL"),
        18: ((result.model_id[:12], "bloodcell"), *(((result.analyser,),) if result.analyser else ())),
        19: _time(result.counted_at),
    }
    return segment("", {number - 11: value for number, value in fields.items()})


def _note(position: int, text: str) -> str:
    return f"NTE|{position}|L|{escaped(text)}"


def _observation(line: OutgoingLine | None, position: int, observation: Observation, system: str, status: str) -> str:
    """Returns OBX up to field 11; of a share, `line` has the reference range and the flag.

    Written out, because most of a message are such segments.
    """
    of_range = flag = ""
    if line and line.expected:
        lower, upper = line.expected
        of_range, flag = f"{lower:g}-{upper:g}", "N" if line.flag is None else ABNORMAL.get(line.flag, "")
    value = "" if observation.value is None else number(observation.value, observation.digits)
    code, unit = _code_text(observation.code, system), _UNITS[observation.unit]
    return f"OBX|{position}|NM|{code}||{value}|{unit}|{of_range}|{flag}|||{status if value else 'D'}"


@lru_cache(maxsize=256)
def _code_text(code: ObservationCode, system: str) -> str:
    return "^".join(map(escaped, _code(code, system)))


def _code(code: ObservationCode, system: str) -> tuple[str, ...]:
    """Returns a coded element: LOINC first and the laboratory's own code beside it, or only that."""
    local = (code.own, code.name, system)
    return (code.loinc, code.name, "LN", *local) if code.loinc else local


def _time(moment: datetime | None) -> str:
    """Returns a time to the second, with its distance from UTC."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
