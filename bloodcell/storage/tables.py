"""The tables of schema `bloodcell`, one object each, with a comment on every table and column.

`sql/versions` creates them, the library reads and writes through this module, and a test compares the two. Each upgrade
copies the comments to the database. The declarations are in `ingest_tables`, `call_tables`, `result_tables`,
`label_tables`, `training_tables`, `erasure_tables`, `desk_tables`,
`eqa_tables`, `exchange_tables` and `quality_tables`.
"""

from __future__ import annotations

from bloodcell.storage.call_tables import cell_call, former_call, model, promotion
from bloodcell.storage.desk_tables import desk_session, slide_comment, slide_lease, slide_opening
from bloodcell.storage.eqa_tables import eqa_reading, eqa_round, eqa_target
from bloodcell.storage.erasure_tables import (
    erased_slide,
    erasure,
    erasure_dataset,
    erasure_pending,
    erasure_removal,
    erasure_secret,
)
from bloodcell.storage.exchange_tables import (
    lab_order,
    message_action,
    message_attempt,
    omop_concept,
    outgoing_message,
    receiver,
)
from bloodcell.storage.ingest_tables import (
    cell,
    drop,
    drop_file,
    drop_file_history,
    image,
    lock,
    run,
    slide,
    slide_withdrawal,
)
from bloodcell.storage.label_tables import (
    cell_code,
    data_split,
    dataset,
    dataset_image,
    label,
    label_file,
    sampled_cell,
)
from bloodcell.storage.quality_tables import (
    control_slide,
    quality_check,
    quality_override,
    quality_restart,
    sentinel,
    sentinel_reference,
)
from bloodcell.storage.result_tables import differential, laboratory_rules, result, slide_report
from bloodcell.storage.schema import IDENTITY_SCHEMA, SCHEMA, metadata
from bloodcell.storage.training_tables import (
    approval_answer,
    approval_question,
    candidate,
    checked_cell,
    evaluation,
    lockbox_opening,
    look_check,
    model_check,
    training_run,
    validation,
)

__all__ = [
    "IDENTITY_SCHEMA",
    "SCHEMA",
    "approval_answer",
    "approval_question",
    "candidate",
    "cell",
    "cell_call",
    "cell_code",
    "checked_cell",
    "control_slide",
    "data_split",
    "dataset",
    "dataset_image",
    "desk_session",
    "differential",
    "drop",
    "drop_file",
    "drop_file_history",
    "eqa_reading",
    "eqa_round",
    "eqa_target",
    "erased_slide",
    "erasure",
    "erasure_dataset",
    "erasure_pending",
    "erasure_removal",
    "erasure_secret",
    "evaluation",
    "former_call",
    "image",
    "lab_order",
    "label",
    "label_file",
    "laboratory_rules",
    "lock",
    "lockbox_opening",
    "look_check",
    "message_action",
    "message_attempt",
    "metadata",
    "model",
    "model_check",
    "omop_concept",
    "outgoing_message",
    "promotion",
    "quality_check",
    "quality_override",
    "quality_restart",
    "receiver",
    "result",
    "run",
    "sampled_cell",
    "sentinel",
    "sentinel_reference",
    "slide",
    "slide_comment",
    "slide_lease",
    "slide_opening",
    "slide_report",
    "slide_withdrawal",
    "training_run",
    "validation",
]
