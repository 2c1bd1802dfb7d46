"""Marks a night's slides of control material and of rounds of external quality assessment, which are no patient's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from datetime import date

    from bloodcell.quality_rules import QualityRules

_SQL: Final = load_statements("ingest/control_marks.sql")


def mark_control_slides(connection: sa.Connection, night: date, rules: QualityRules, run_id: uuid.UUID) -> None:
    """Marks the slides whose barcode fits a control or a round of the quality file; a mark stays.

    It also records the rounds of the file, so that the database knows until when each can be read.

    Args:
        connection: Where to write.
        night: The night whose slides are looked at.
        rules: The quality file.
        run_id: The run that does it.
    """
    due = {row.name: row.due for row in connection.execute(_SQL["rounds"])} if rules.rounds else {}
    rounds = [
        {"name": each.name, "due": each.due, "run_id": run_id}
        for each in rules.rounds
        if due.get(each.name) != each.due
    ]
    if rounds:
        connection.execute(sa.insert(tables.eqa_round), rounds)
    if not (rules.controls or rules.rounds):
        return
    marked = [
        {"slide_id": row.slide_id, "name": material.name, "run_id": run_id}
        for row in connection.execute(_SQL["unmarked"], {"night": night})
        if (material := rules.material_of(row.barcode))
    ]
    if marked:
        connection.execute(insert(tables.control_slide).on_conflict_do_nothing(), marked)
