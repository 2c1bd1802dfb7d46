"""Results leave for other systems: messages are made, delivered in their order, and their answers kept.

exchange_file    the systems that results are sent to, and the laboratory's own codes
outgoing_result  what a message says of a slide's result
line_texts       what messages say in words
observations     what receivers get of each line
delivery         what it means to deliver a message, whatever the protocol
receiver_rows    the receivers that the database knows
client_tls       TLS towards a receiver
recording        records attempts while the next messages are on their way
outbox           which messages are due, and whether one may still be sent
making_ahead     the next message is made while the receiver works on the one before
sending          sends what waits in the outbox
mart_export      results as files for analysts
message_list     the receivers, and the messages that wait or were rejected
message_display  shows them on the terminal
message_actions  what people decide about messages

identities       who a patient is, encrypted and for a set time

HL7 version 2.5.1:

hl7_text         segments and fields become a message, and a message segments and fields
oru_message      a result as ORU^R01
mllp             messages over TCP
hl7_answer       what a receiver answers
hl7_link         delivers results to a receiver
order_message    what is taken from an order, OML^O21
order_intake     an order is checked, stored and answered
order_listener   receives orders over MLLP

FHIR R4:

fhir_bundle      a result as a transaction
fhir_link        delivers results to a server

The outbox is the table outgoing_message. Triggers write it in the transaction that makes or signs a version, or
withdraws a slide, so that no result is lost and none leaves that was not committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.exchange.sending import send_results
else:
    __getattr__ = lazy_names(__name__, {"send_results": "bloodcell.exchange.sending"})

__all__ = ["send_results"]
