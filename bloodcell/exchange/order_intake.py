"""An order that was received is checked, stored and answered."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import BloodcellError
from bloodcell.exchange.hl7_text import Hl7Error, Segment, header_of, read_message, segment
from bloodcell.exchange.identities import are_comparable, keep_identity
from bloodcell.exchange.order_message import Order, OrderMessage, orders_of
from bloodcell.storage import tables
from bloodcell.storage.locks import wait_for
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.exchange.exchange_file import Sender
    from bloodcell.exchange.identities import IdentityKeys
    from bloodcell.storage.database import Database

log = logging.getLogger(__name__)

_ORDER: Final = tables.lab_order
_SQL: Final = load_statements("exchange/order_intake.sql")


class OrderRefusedError(BloodcellError):
    """An order that contradicts what is known, or names an order that is not."""


def take_order(database: Database, keys: IdentityKeys, own: Sender, body: bytes) -> bytes:
    """Stores the orders of a message and returns the answer to its sender, ORL^O22, without a frame.

    The answer is AA if all orders are stored, AE if one cannot be, and AR if bloodcell is not ready, so that the sender
    tries again. A message that comes again is answered as before and stored once.

    Args:
        database: Where orders are stored.
        keys: The keys of identities.
        own: What bloodcell calls itself.
        body: The message, without a frame.
    """
    now, header = datetime.now(UTC), header_of(body)
    try:
        orders = orders_of(read_message(body), now)
        refused = database.transact(lambda connection: _store(connection, keys, orders, body), patience_s=5)
    except (Hl7Error, OrderRefusedError) as error:
        # only the sender is told what it sent: an interface that puts a name into the wrong field would have it logged
        log.warning("An order was refused: %s", str(error).partition(" Received")[0])
        return _answer(header, own, now, "AE", str(error))
    except Exception as error:  # a sender without an answer repeats for ever; the body is not logged
        what = error if isinstance(error, BloodcellError) else type(error).__name__
        log.warning("An order was not taken: %s", what)
        return _answer(header, own, now, "AR", "bloodcell cannot store orders now. Send it again.")
    if refused:
        log.warning("An order was refused: %s", refused)
        return _answer(header, own, now, "AE", refused)
    return _answer(header, own, now, "AA", "")


def _store(connection: sa.Connection, keys: IdentityKeys, message: OrderMessage, body: bytes) -> str:
    """Stores the orders of a message, all or none; returns why one counts for nothing, empty if all count.

    Raises:
        OrderRefusedError: An order is changed or cancelled that is not known.
    """
    wait_for(connection, "order")
    of_message = {"sender": message.sender, "control_id": message.control_id, "message_digest": keys.digest(body)}
    known = sa.select(_ORDER.c.barcode, _ORDER.c.is_conflict).where(
        *(_ORDER.c[name] == value for name, value in of_message.items())
    )
    if rows := connection.execute(known).all():
        return _conflict_text([row.barcode for row in rows if row.is_conflict])
    digest = keys.patient_digest(message.patient_id)
    conflicts = []
    for position, order in enumerate(message.orders, start=1):
        if order.action != "new" and not _knows(connection, order):
            raise OrderRefusedError(f"Order {order.order_id} for specimen {order.barcode} is not known.")
        standing = None if order.action == "cancel" else _standing_patient(connection, order.barcode)
        is_other = are_comparable(digest, standing) and digest != standing
        if is_other:
            conflicts.append(order.barcode)
        values = {
            "barcode": order.barcode,
            "order_id": order.order_id,
            "action": order.action,
            "patient_digest": digest,
            "age_months": order.age_months,
            "sex": order.sex,
            "wbc_10e9_per_l": order.wbc_10e9_per_l,
            "wbc_is_corrected": order.wbc_is_corrected,
            "collected_at": order.collected_at,
            **of_message,
            "position": position,
            "is_conflict": is_other,
        }
        key = connection.execute(insert(_ORDER).values(values).returning(_ORDER.c.lab_order_id)).scalar_one()
        if message.patient is not None and not is_other and order.action != "cancel":
            keep_identity(connection, keys, key, message.patient)
    return _conflict_text(conflicts)


def _conflict_text(barcodes: list[str]) -> str:
    if not barcodes:
        return ""
    return (
        f"Specimen {', '.join(barcodes)} has an order for another patient. Cancel the order that is wrong, then "
        "send the other one again."
    )


def _standing_patient(connection: sa.Connection, barcode: str) -> str | None:
    """Returns the patient of the orders that stand for a barcode; None: there is none, or they name no patient."""
    found: str | None = connection.scalar(_SQL["standing_patient"], {"barcode": barcode})
    return found


def _knows(connection: sa.Connection, order: Order) -> bool:
    """Returns whether there was an order of this number for the barcode, also one that was in conflict."""
    found: Any = connection.scalar(
        sa.select(sa.literal(1)).where(_ORDER.c.barcode == order.barcode, _ORDER.c.order_id == order.order_id).limit(1)
    )
    return found is not None


def _answer(header: Segment | None, own: Sender, now: datetime, code: str, text: str) -> bytes:
    segments = [
        segment(
            "MSH",
            {
                3: own.application,
                4: own.facility,
                5: header.field(3) if header else "",
                6: header.field(4) if header else "",
                7: now.strftime("%Y%m%d%H%M%S+0000"),
                9: ("ORL", "O22", "ORL_O22"),
                10: secrets.token_hex(10),
                11: (header.field(11) if header else "") or "P",
                12: "2.5.1",
                18: "UNICODE UTF-8",
            },
        ),
        segment("MSA", {1: code, 2: header.field(10) if header else ""}),
    ]
    if text:
        error = ("207", "Application internal error", "HL70357")
        segments.append(segment("ERR", {3: error, 4: "E", 8: text}))
    return "".join(f"{each}\r" for each in segments).encode()
