"""Orders as HL7 version 2.5.1 messages, OML^O21: what bloodcell takes from them.

Of the patient, the age in months at the time of collection, and the sex. The segment PID as a whole is returned beside
the orders, for the results to be sent back with; nothing else of it is kept.

Source: HL7 version 2.5.1, chapters 3, 4 and 7; IHE laboratory technical framework, LAB-1; tables 0001 (sex), 0119
(order control). LOINC codes of leucocyte counts: 6690-2 and 26464-8 (as counted), 804-5 (manual), 33256-9 and 12227-5
(corrected for nucleated red cells).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal

from bloodcell.cells.names import composed
from bloodcell.exchange.hl7_text import Hl7Error, Message, Segment
from bloodcell.visible_text import has_invisible

Action = Literal["new", "change", "cancel"]

ACTIONS: Final[dict[str, Action]] = {"NW": "new", "XO": "change", "RP": "change", "CA": "cancel", "OC": "cancel"}
"""ORC-1 -> what it means; RP replaces an order, OC has cancelled one."""

LEUCOCYTES: Final = {"6690-2": None, "26464-8": None, "804-5": None, "33256-9": True, "12227-5": True}
"""LOINC code of a leucocyte count -> whether it leaves out nucleated red cells; None: it does not say."""

_UNITS: Final = {
    "10*9/l": 1.0,
    "10^9/l": 1.0,
    "10*3/ul": 1.0,
    "10^3/ul": 1.0,
    "k/ul": 1.0,
    "g/l": 1.0,
    "/ul": 0.001,
    "10": 1.0,
    "10e9/l": 1.0,
    "10e3/ul": 1.0,
    "x10e9/l": 1.0,
    "/mm3": 0.001,
}
"""Unit of a leucocyte count, in small letters -> factor to 10^9 per litre; G/l is giga per litre.

`10` is what is left of 10^9/L or 10^3/uL whose ^ was not escaped.
"""

MAX_ORDERS: Final = 200
"""Orders of one message; a tube has one or two."""
_NO_VALUE: Final = ("D", "W", "X", "N", "I")
"""Status of an observation (OBX-11) that has no valid value: deleted, wrong, no result, not asked for, in work."""
_WBC_10E9_PER_L: Final = (0.01, 1000.0)
_OLDEST_MONTHS: Final = 130 * 12
_MAX_LENGTH: Final = 200
_TIME: Final = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:\.\d+)?([+-]\d{4})?")


@dataclass(frozen=True, slots=True)
class Order:
    """An order for one specimen.

    Attributes:
        barcode: The specimen.
        order_id: Number of the order, as its placer gave it.
        action: new, change or cancel.
        age_months: Age of the patient when the specimen was collected; None: unknown.
        sex: female or male; None: unknown.
        wbc_10e9_per_l: Leucocyte count; None: the order has none.
        wbc_is_corrected: Whether it leaves out nucleated red cells; None: unknown.
        collected_at: When the specimen was collected; None: unknown.
    """

    barcode: str
    order_id: str
    action: Action
    age_months: int | None
    sex: Literal["female", "male"] | None
    wbc_10e9_per_l: float | None
    wbc_is_corrected: bool | None
    collected_at: datetime | None


@dataclass(frozen=True, slots=True)
class OrderMessage:
    """A message with orders for one patient.

    Attributes:
        sender: Application and facility.
        control_id: MSH-10.
        patient: PID; None: the message names no patient.
        orders: The orders, in their order.
    """

    sender: str
    control_id: str
    patient: Segment | None
    orders: tuple[Order, ...]

    @property
    def patient_id(self) -> str:
        """The patient's identifier with who gave it; empty if there is none."""
        if self.patient is None or not self.patient.field(3):
            return ""
        return f"{self.patient.field(3)}^{self.patient.field(3, 4)}"


def orders_of(message: Message, received_at: datetime) -> OrderMessage:
    """Returns the orders of a message.

    Args:
        message: OML^O21.
        received_at: Now; the age is that of today if the message does not say when the specimen was collected.

    Raises:
        Hl7Error: It is another message, or lacks what an order has to have; the message says which field.
    """
    header = message.header
    if (header.field(9), header.field(9, 2)) != ("OML", "O21"):
        raise Hl7Error(f"Expected OML^O21 in MSH-9. Received: {header.text(9)!r}")
    control_id = _needed(header, 10, "a control id")
    patient = message.first("PID")
    groups = list(_groups(message.segments))
    if not 1 <= len(groups) <= MAX_ORDERS:
        raise Hl7Error(f"Expected 1 to {MAX_ORDERS} orders (ORC). Received {len(groups):,}.")
    zone = (_time("MSH-7", header.field(7)) or received_at).tzinfo or UTC
    orders = tuple(_order(group, patient, received_at, zone) for group in groups)
    sender = f"{header.field(3)}^{header.field(4)}"
    if len(sender) > _MAX_LENGTH or has_invisible(sender):
        raise Hl7Error(f"Expected at most {_MAX_LENGTH} visible characters in MSH-3 and MSH-4.")
    return OrderMessage(sender, control_id, patient, orders)


def _groups(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Yields the segments of each order: from its ORC on, without earlier results of the patient, which may follow it.

    Earlier results begin with a second PID, PV1 or OBR, and may have orders of their own.
    """
    group: list[Segment] = []
    is_earlier = False
    for each in segments:
        if each.name == "ORC" and (not is_earlier or each.field(1) in ACTIONS):
            if group:
                yield group
            group, is_earlier = [each], False
        elif group and (each.name in ("PID", "PV1") or (each.name == "OBR" and _has_request(group))):
            is_earlier = True
        elif group and not is_earlier:
            group.append(each)
    if group:
        yield group


def _has_request(group: Sequence[Segment]) -> bool:
    return any(each.name == "OBR" for each in group)


def _order(group: Sequence[Segment], patient: Segment | None, received_at: datetime, zone: tzinfo) -> Order:
    common = group[0]
    action = ACTIONS.get(common.field(1))
    if action is None:
        raise Hl7Error(f"Expected one of {', '.join(ACTIONS)} in ORC-1. Received: {common.field(1)!r}")
    request = next((each for each in group if each.name == "OBR"), None)
    specimen = next((each for each in group if each.name == "SPM"), None)
    collected_at = _time("SPM-17", specimen.field(17), zone) if specimen else None
    if collected_at is None and request:
        collected_at = _time("OBR-7", request.field(7), zone)
    wbc, is_corrected = _leucocytes(group)
    return Order(
        barcode=_barcode(group),
        order_id=_visible("ORC-2", common.field(2) or (request.field(2) if request else "")),
        action=action,
        age_months=_age_months(patient, collected_at or received_at),
        sex={"F": "female", "M": "male"}.get(patient.field(8).upper()) if patient else None,  # type: ignore[arg-type]
        wbc_10e9_per_l=wbc,
        wbc_is_corrected=is_corrected,
        collected_at=collected_at.astimezone(UTC) if collected_at else None,
    )


def _barcode(group: Sequence[Segment]) -> str:
    """Returns the specimen's identifier: SPM-2, of the placer or else of the filler, or the container's (SAC-3)."""
    for each in group:
        if each.name == "SPM" and (found := each.field(2) or each.field(2, 2)):
            return _visible("SPM-2", found)
        if each.name == "SAC" and (found := each.field(3)):
            return _visible("SAC-3", found)
    raise Hl7Error("Expected the barcode of a specimen in SPM-2 or SAC-3. Received none.")


def _visible(place: str, text: str) -> str:
    if not text or len(text) > _MAX_LENGTH or has_invisible(text):
        raise Hl7Error(f"Expected 1 to {_MAX_LENGTH} visible characters in {place}. Received: {text[:50]!r}")
    return composed(text)


def _needed(segment: Segment, number: int, what: str) -> str:
    found = segment.field(number)
    if not found or len(found) > _MAX_LENGTH or has_invisible(found):
        raise Hl7Error(f"Expected {what} in {segment.name}-{number}. Received: {found[:50]!r}")
    return found


def _leucocytes(group: Sequence[Segment]) -> tuple[float | None, bool | None]:
    """Returns the leucocyte count that came with the order, in 10^9 per litre."""
    for each in group:
        code = next((found for found in (each.field(3), each.field(3, 4)) if found in LEUCOCYTES), "")
        if each.name != "OBX" or not code or each.field(11) in _NO_VALUE:
            continue
        unit = each.field(6)
        factor = _UNITS.get(unit.lower().replace("\u00b5", "u").replace("\u03bc", "u").replace(" ", ""))
        if factor is None:
            raise Hl7Error(f"Expected a leucocyte count in 10*9/L in OBX-6. Received: {unit!r}")
        try:
            count = float(each.field(5)) * factor
        except ValueError:
            raise Hl7Error(f"Expected a number in OBX-5. Received: {each.field(5)[:50]!r}") from None
        if not _WBC_10E9_PER_L[0] <= count <= _WBC_10E9_PER_L[1]:
            raise Hl7Error(f"Expected a leucocyte count of 0.01 to 1000 x 10^9 per litre. Received: {count:g}")
        return count, LEUCOCYTES[code]
    return None, None


def _age_months(patient: Segment | None, at: datetime) -> int | None:
    born = _time("PID-7", patient.field(7)) if patient else None
    if born is None:
        return None
    months = 12 * (at.year - born.year) + at.month - born.month - (at.day < born.day)
    if months == -1 and at.date() >= born.date() - timedelta(days=1):
        return 0  # born today, and the two times are of different zones
    if not 0 <= months < _OLDEST_MONTHS:
        raise Hl7Error("Expected a date of birth (PID-7) 0 to 130 years before the specimen.")
    return months


def _time(place: str, text: str, zone: tzinfo = UTC) -> datetime | None:
    """Returns a time of HL7; one without a distance from UTC is in the zone of MSH-7, one without a day is the first.

    What was received is not told: it may be a date of birth, and errors are logged.
    """
    if not text:
        return None
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        *parts, offset = found.groups()
        if offset:
            away = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
            zone = timezone(-away if offset[0] == "-" else away)
        year, month, day, hour, minute, second = (int(each or least) for each, least in zip(parts, _LEAST, strict=True))
        return datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except (ValueError, OverflowError):
        raise Hl7Error(f"Expected a time such as 20260314020300+0100 in {place}.") from None


_LEAST: Final = (1, 1, 1, 0, 0, 0)
