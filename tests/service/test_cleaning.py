"""What orders say of patients does not outlive its time, whatever else runs; tests/removal has what ages remove."""

from __future__ import annotations

import sqlalchemy as sa

from bloodcell.exchange.exchange_file import Sender
from bloodcell.exchange.identities import IdentityKeys
from bloodcell.exchange.order_intake import take_order
from bloodcell.exchange.sending import send_results
from bloodcell.service.cleaning import clean
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.exchange.test_orders import oml


def n_identities(database: Database) -> int:
    with database.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM bloodcell_identity.patient_identity")) or 0


def test_identities_expire_where_nothing_is_sent_and_no_order_is_received_any_more(
    database: Database, settings: Settings
) -> None:
    take_order(database, IdentityKeys.of(settings), Sender(), oml("m1"))
    clean(settings)
    assert n_identities(database) == 1
    with database.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE bloodcell_owner")
        connection.exec_driver_sql("UPDATE bloodcell_identity.patient_identity SET expires_at = now()")
    assert send_results(settings) == []  # there is no receiver, and so no sender
    clean(settings, dry_run=True)
    assert n_identities(database) == 1
    clean(settings)
    assert n_identities(database) == 0
