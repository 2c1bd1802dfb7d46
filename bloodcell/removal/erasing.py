"""Erases a patient's slides, or one slide: every row, stored image, kept feature, page and name in a log.

The rows go first, in one transaction that also records the erasure and lists what is still to remove outside the
database. If the process is killed after that, the next erasure finds the list and finishes the work.
"""

from __future__ import annotations

import getpass
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, UnknownRecordError
from bloodcell.removal.leftovers import files_of_the_site, finish_erasures
from bloodcell.removal.names_in_texts import BLANK, blank_json, is_named, postgres_pattern, searchable
from bloodcell.storage import tables
from bloodcell.storage.connections import OWNER_ROLE, connect, database_url, transact
from bloodcell.storage.migrations import check_revision
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bloodcell.settings import Settings

Kind = Literal["patient", "slide"]
Result = TypeVar("Result")

_SQL: Final = load_statements("removal/erasing.sql")

# statement -> what it removes, in an order in which no row refers to one that is gone
_REMOVALS: Final = {
    "remove_dataset_image": "images in snapshots",
    "remove_checked_cell": "checked cells",
    "remove_sampled_cell": "cells of random samples",
    "remove_slide_opening": "records of who looked at slides",
    "remove_slide_comment": "comments",
    "remove_slide_lease": "leases of slides",
    "remove_look_check": "comparisons of images",
    "remove_label": "labels",
    "remove_message_attempt": "attempts to deliver messages",
    "remove_message_action": "decisions about messages",
    "remove_outgoing_message": "messages to other systems",
    "remove_lab_order": "orders",
    "remove_cell_call": "calls",
    "remove_former_call": "replaced calls",
    "remove_result": "versions of results",
    "remove_differential": "rows of differentials",
    "remove_slide_report": "reports",
    "remove_drop_file_history": "earlier outcomes of files",
    "remove_drop_file": "files in the ledger",
    "remove_eqa_reading": "readings of external rounds",
    "remove_eqa_target": "targets of external rounds",
    "remove_cell": "cells",
    "remove_slide_withdrawal": "withdrawals",
    "remove_sentinel": "sentinel cells",
    "remove_control_slide": "control slides",
    "remove_slide": "slides",
    "remove_data_split": "patients with a split",
}
_IMAGES: Final = "images that no other slide has"
# what people or bloodcell wrote about something else, and may name a slide
_TEXTS: Final = (
    "blank_runs",
    "blank_ledger",
    "blank_ledger_history",
    "blank_withdrawals",
    "blank_delivered_as",
    "blank_labels",
    "blank_comments",
    "blank_label_files",
    "blank_overrides",
    "blank_checks",
    "blank_restarts",
    "blank_promotions",
    "blank_results",
    "blank_message_answers",
    "blank_message_reasons",
    "blank_retrainings",
    "blank_answers",
)
_JSON: Final = (
    (tables.run, tables.run.c.detail),
    (tables.promotion, tables.promotion.c.evidence),
    (tables.training_run, tables.training_run.c.approval),
)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure removed, or would remove.

    Attributes:
        kind: What it is about: patient or slide.
        erasure_id: Key of its record; None if nothing has been erased yet.
        removed: What -> how many: rows of the database, then what was removed outside it.
        n_models: Models that were trained or calibrated with some of the images. What they learnt remains.
        unsearched: Names that are too short to be looked for in texts.
        left_to_site: Files and folders of the drops and the label inbox that still name the slides. They belong to the
            site, which removes them.
    """

    kind: Kind
    erasure_id: int | None
    removed: Mapping[str, int]
    n_models: int
    unsearched: tuple[str, ...]
    left_to_site: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The part of an erasure that is in the database."""

    erasure_id: int
    removed: Mapping[str, int]
    n_models: int
    names: tuple[str, ...]


class _Rehearsed(Exception):
    """Ends a transaction that was only to count."""


def preview_erasure(settings: Settings, kind: Kind, name: str) -> Erasure:
    """Returns what `erase` would remove from the database: the same statements run, and are rolled back.

    Args:
        settings: The database, the drops folder and the label inbox.
        kind: patient or slide.
        name: The patient key, or the barcode, in any Unicode form.

    Raises:
        UnknownRecordError: There is no such patient or slide.
        ConfigurationError: The login may not act as the owner of the schema.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    found: list[_Rows] = []

    def rehearse(connection: sa.Connection) -> None:
        found.append(_erase_rows(connection, kind, _composed(name), "preview"))
        raise _Rehearsed

    with suppress(_Rehearsed):
        as_owner(settings, rehearse)
    return _erasure(settings, kind, found[-1], {}, is_done=False)


def erase(settings: Settings, kind: Kind, name: str, *, reason: str) -> Erasure:
    """Erases all slides of a patient, or one slide, and returns what was removed.

    An ingest does not bring the slides back, even if their files are still in the drops folder. A delivery under the
    same barcode with another order, patient or time of imaging is another slide.

    Args:
        settings: The database, the store and the data folder.
        kind: patient or slide.
        name: The patient key, or the barcode, in any Unicode form.
        reason: Why, which is kept permanently; it must not name the patient or a slide.

    Raises:
        UnknownRecordError: There is no such patient or slide.
        ConfigurationError: The reason is empty or names the patient or a slide, or the login may not act as the owner
            of the schema.
        RetryLaterError: Postgres or the store is unavailable; the same call finishes the work later.
    """
    if not reason.strip():
        raise ConfigurationError("An erasure needs a reason, which is kept permanently. Received an empty one.")

    def work(connection: sa.Connection) -> _Rows:
        rows = _erase_rows(connection, kind, _composed(name), reason.strip())
        if rows.removed.get(_IMAGES):
            Store.of(settings).check()  # or nothing is erased: where no store is mounted, its images would stay
        return rows

    rows = as_owner(settings, work)
    outside = finish_erasures(settings, partial(as_owner, settings))
    return _erasure(settings, kind, rows, outside.get(rows.erasure_id, {}), is_done=True)


def finish_interrupted(settings: Settings) -> int:
    """Removes what interrupted erasures left outside the database; returns the number of those erasures.

    Raises:
        RetryLaterError: Postgres or the store is unavailable.
        ConfigurationError: The login may not act as the owner of the schema.
    """
    return len(finish_erasures(settings, partial(as_owner, settings)))


def erased_images(connection: sa.Connection, model_id: str) -> dict[str, int]:
    """Returns split -> images of a model's snapshot that have been erased since; what it learnt from them remains.

    Args:
        connection: Where to read.
        model_id: The model, by its whole id.
    """
    return {split: int(n) for split, n in connection.execute(_SQL["erased_images"], {"model_id": model_id})}


def as_owner(settings: Settings, work: Callable[[sa.Connection], Result]) -> Result:
    """Returns the result of `work`, which runs in one transaction as the owner of the schema.

    Raises:
        ConfigurationError: The login may not act as the owner.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    url, patience_s = database_url(settings), settings.database_patience_s
    transact(connect(url), _check_login, patience_s=patience_s)
    return transact(connect(url, role=OWNER_ROLE), work, patience_s=patience_s)


def _check_login(connection: sa.Connection) -> None:
    check_revision(connection)
    login, may = connection.execute(
        sa.text("SELECT session_user, pg_has_role(session_user, :role, 'MEMBER')"), {"role": OWNER_ROLE}
    ).one()
    if not may:
        raise ConfigurationError(
            f"The login {login} may not erase. Expected a member of {OWNER_ROLE}, such as the login that runs "
            "`bloodcell db upgrade`. Next: set BLOODCELL_DATABASE_URL to that login's URL for this command."
        )


def _erase_rows(connection: sa.Connection, kind: Kind, name: str, reason: str) -> _Rows:
    values: dict[str, object] = {"kind": kind, "name": name, "reason": reason, "requested_by": getpass.getuser()}
    values["forms"] = [name, unicodedata.normalize("NFD", name)]

    def run(statement: str) -> sa.CursorResult[Any]:
        clause = _SQL[statement]
        return connection.execute(clause, {key: values[key] for key in clause.compile().params})

    for statement in ("lock", "find_slides", "count_slides", "find_cells", "count_cells"):
        run(statement)
    names = tuple(run("names").scalars())
    if not names:
        raise UnknownRecordError(f"There is no {kind} {name!r} in the database. Nothing was erased.")
    if is_named(reason, names):
        raise ConfigurationError(
            "The reason is kept permanently, and it contains the patient key, a barcode or an order. Nothing was "
            "erased. Next: give a reason that names nobody."
        )
    values |= {"names": list(names), "pattern": postgres_pattern(names), "blank": BLANK}
    run("find_files")
    run("find_images")
    values["erasure_id"] = erasure_id = int(run("record").scalar_one())
    run("record_datasets")
    n_models = int(run("count_models").scalar_one())
    run("remember_slides")
    run("leave_names")
    removed = {part: run(statement).rowcount for statement, part in _REMOVALS.items()}
    run("leave_images")
    removed[_IMAGES] = run("remove_image").rowcount
    n_texts = sum(run(statement).rowcount for statement in _TEXTS)
    n_texts += sum(blank_json(connection, table, column, names) for table, column in _JSON)
    removed["texts in the database"] = n_texts
    for values["part"], values["n"] in removed.items():
        if values["n"]:
            run("count")
    return _Rows(erasure_id, {part: n for part, n in removed.items() if n}, n_models, names)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _erasure(settings: Settings, kind: Kind, rows: _Rows, outside: Mapping[str, int], *, is_done: bool) -> Erasure:
    unsearched = tuple(sorted(set(rows.names) - set(searchable(rows.names))))
    left = files_of_the_site(settings, rows.names)
    erasure_id = rows.erasure_id if is_done else None
    return Erasure(kind, erasure_id, {**rows.removed, **outside}, rows.n_models, unsearched, left)
