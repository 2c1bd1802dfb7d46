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
from typing import TYPE_CHECKING, Final

from bloodcell.exchange.hl7_text import Field, segment
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
    "%": "percent",
    "/100{WBCs}": "per 100 leucocytes",
    "{cells}": "cells",
    "10*9/L": "billion per litre",
}
"""Unit in UCUM -> its name."""


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
        yield segment("NTE", {1: str(number_), 2: "L", 3: text})
    position, tail = 0, _tail(result)
    for of_line in line_observations(result, exchange.codes):
        for each in filter(None, (of_line.share, of_line.cells, of_line.absolute)):
            position += 1
            line = of_line.line if each is of_line.share else None
            yield segment("OBX", _observation(line, position, each, system, of_lines)) + tail
            if line and (note := uncertainty_of(line)):
                yield segment("NTE", {1: "1", 2: "L", 3: note})
    for each in count_observations(result):
        position += 1
        yield segment("OBX", _observation(None, position, each, system, of_lines)) + tail


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


def _observation(
    line: OutgoingLine | None, position: int, observation: Observation, system: str, status: str
) -> Mapping[int, Field]:
    """Returns the fields of OBX up to 11; of a share, `line` has the reference range and the flag."""
    expected = line.expected if line else None
    value = "" if observation.value is None else number(observation.value, observation.digits)
    return {
        1: str(position),
        2: "NM",
        3: _code(observation.code, system),
        5: value,
        6: (observation.unit, _UNITS[observation.unit], "UCUM"),
        7: f"{expected[0]:g}-{expected[1]:g}" if expected else "",
        8: (ABNORMAL.get(line.flag or "") or ("" if line.flag else "N")) if line and expected else "",
        11: status if value else "D",
    }


def _code(code: ObservationCode, system: str) -> tuple[str, ...]:
    """Returns a coded element: LOINC first and the laboratory's own code beside it, or only that."""
    local = (code.own, code.name, system)
    return (code.loinc, code.name, "LN", *local) if code.loinc else local


def _time(moment: datetime | None) -> str:
    """Returns a time to the second, with its distance from UTC."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
