"""Changes the champion by promotion or rollback, each recorded permanently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, PromotionRefusedError
from bloodcell.registry.promotion_proof import require_proof
from bloodcell.registry.registered_models import champion, find_model, open_registered
from bloodcell.storage import tables
from bloodcell.storage.locks import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bloodcell.storage.store import Store

_ANYONE: Final = "anyone"


def promote(
    connection: sa.Connection,
    store: Store,
    model_id: str,
    *,
    by: str,
    reason: str,
    evidence: Mapping[str, Any],
    replaces: str | None = _ANYONE,
) -> None:
    """Makes a registered model champion, after verifying every byte of its bundle; a repeated call changes nothing.

    Args:
        connection: Where to write.
        store: Where the bundle is.
        model_id: Id of the model, or its first characters.
        by: Who decides.
        reason: Why.
        evidence: What the decision rests on; recorded with it.
        replaces: The champion that the model was compared with; if another model is champion by now, the promotion is
            refused.

    Raises:
        UnknownRecordError: No such model.
        ConfigurationError: No reason was given, or the model is champion already.
        PromotionRefusedError: The model's newest validation failed a gate, it was never validated although there is a
            hold-out, or it was compared with another champion.
        BundleError: Its bundle is incomplete or altered.
    """
    model = find_model(connection, model_id)
    lock_promotions(connection)
    present = champion(connection)
    if replaces not in (_ANYONE, present):
        raise PromotionRefusedError(
            f"Model {(present or 'none')[:12]} became champion meanwhile, but {model.model_id[:12]} was compared "
            f"with {(replaces or 'none')[:12]}; nothing was changed. Next: bloodcell retrain, or bloodcell models "
            "validate"
        )
    require_proof(connection, model, present)
    _make_champion(connection, store, model.model_id, "promote", by, reason, evidence)


def rollback(connection: sa.Connection, store: Store, *, replaces: str | None, by: str, reason: str) -> str:
    """Returns the model id of the previous champion, after making it champion again.

    Args:
        connection: Where to write.
        store: Where the bundle is.
        replaces: The present champion, as read beforehand. With it, a call that is repeated because the confirmation of
            its commit was lost does not roll back twice.
        by: Who decides.
        reason: Why.

    Raises:
        ConfigurationError: There was no champion before, another model is champion by now, or no reason was given.
        BundleError: Its bundle is incomplete or altered.
    """
    lock_promotions(connection)
    reigns: list[str] = []
    table = tables.promotion
    rows = connection.execute(sa.select(table).order_by(table.c.promotion_id)).all()
    for row in rows:
        reigns = reigns[:-1] if row.action == "rollback" else [*reigns, row.model_id]
    if rows and rows[-1].action == "rollback" and rows[-1].evidence.get("replaces") == replaces:
        return str(rows[-1].model_id)
    if len(reigns) < 2:
        raise ConfigurationError("There is no earlier champion to roll back to. Next: bloodcell models list")
    if reigns[-1] != replaces:
        raise ConfigurationError(
            f"Model {reigns[-1][:12]} became champion meanwhile; nothing was changed. Next: bloodcell models list"
        )
    _make_champion(connection, store, reigns[-2], "rollback", by, reason, {"replaces": reigns[-1]})
    return reigns[-2]


def lock_promotions(connection: sa.Connection) -> None:
    """Waits until no other transaction is changing the champion; others then wait until this one ends."""
    wait_for(connection, "promotion")


def require_reason(reason: str) -> None:
    """Refuses a change of the champion without a reason.

    Raises:
        ConfigurationError: The reason is empty.
    """
    if not reason.strip():
        raise ConfigurationError("A promotion needs a reason that a person can read years later. Next: --reason R")


def _make_champion(
    connection: sa.Connection,
    store: Store,
    model_id: str,
    action: str,
    by: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    require_reason(reason)
    open_registered(store, model_id, fresh=True)
    last = connection.execute(sa.text("SELECT model_id, promoted_by, reason FROM bloodcell.champion")).one_or_none()
    if last is not None and tuple(last) == (model_id, by, reason):
        return
    if last is not None and last.model_id == model_id:
        raise ConfigurationError(f"Model {model_id[:12]} is champion already; nothing was changed.")
    row = {"model_id": model_id, "action": action, "promoted_by": by, "reason": reason, "evidence": dict(evidence)}
    connection.execute(sa.insert(tables.promotion).values(row))
