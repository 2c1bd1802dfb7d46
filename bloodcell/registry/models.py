"""The models that the database knows: registered bundles, who is champion, who runs as challenger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import ConfigurationError, NoChampionError, PromotionRefusedError, UnknownRecordError
from bloodcell.registry.bundle import Bundle, canonical_json, open_bundle
from bloodcell.storage import tables

if TYPE_CHECKING:
    from bloodcell.storage.store import Store

_PROMOTION_LOCK = 0x70726F6D6F7465  # "promote"; one promotion at a time
_ANYONE: Final = "anyone"


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that the database knows.

    Attributes:
        role: champion (its calls are reported), challenger (runs beside it), or idle.
        n_promotions: How often it was made champion.
    """

    model_id: str
    variant: str
    role: str
    created_at: datetime
    registered_at: datetime
    registered_by: str
    n_promotions: int
    confidence_threshold: float
    novelty_threshold: float
    manifest: dict[str, Any]


def register(connection: sa.Connection, store: Store, bundle: Bundle, *, by: str) -> None:
    """Puts a verified bundle into the store and makes the database know it; again does nothing."""
    store.put_bundle(bundle.folder, bundle.model_id)
    manifest = bundle.manifest
    row = {
        "model_id": bundle.model_id,
        "variant": manifest.variant,
        "confidence_threshold": manifest.confidence_threshold,
        "novelty_threshold": manifest.novelty_threshold,
        "manifest": json.loads(canonical_json(manifest)),
        "created_at": datetime.fromisoformat(manifest.created_at),
        "registered_by": by,
    }
    connection.execute(insert(tables.model).values(row).on_conflict_do_nothing())


def registered_models(connection: sa.Connection) -> list[RegisteredModel]:
    """Returns all models, the newest first."""
    rows = connection.execute(
        sa.text(
            "SELECT m.model_id, m.variant, coalesce(s.role, 'idle') AS role, m.created_at, m.registered_at,"
            " m.registered_by, (SELECT count(*) FROM bloodcell.promotion p WHERE p.model_id = m.model_id) AS"
            " n_promotions, m.confidence_threshold, m.novelty_threshold, m.manifest"
            " FROM bloodcell.model m LEFT JOIN bloodcell.serving_model s USING (model_id)"
            " ORDER BY m.registered_at DESC, m.model_id"
        )
    )
    return [RegisteredModel(**row._mapping) for row in rows]


def find_model(connection: sa.Connection, prefix: str) -> RegisteredModel:
    """Returns the one model whose id begins with `prefix`.

    Raises:
        UnknownRecordError: None, or several.
    """
    found = [model for model in registered_models(connection) if model.model_id.startswith(prefix)]
    if len(found) != 1 or not prefix:
        what = "no registered model has" if not found else f"{len(found)} registered models have"
        raise UnknownRecordError(f"{what} an id that begins with {prefix!r}. Next: bloodcell models list")
    return found[0]


def serving_models(connection: sa.Connection) -> list[RegisteredModel]:
    """Returns the models that classify a night: the champion first, then the challengers.

    Raises:
        NoChampionError: There is no champion.
    """
    serving = [model for model in registered_models(connection) if model.role != "idle"]
    if not serving:
        raise NoChampionError(
            "No model is champion, so nothing can be reported. Next: bloodcell models list, then "
            "bloodcell models promote ID --reason R (or bloodcell train, where the list is empty)."
        )
    return sorted(serving, key=lambda model: (model.role != "champion", model.variant))


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
    """Makes a registered model champion, after verifying every byte of its bundle; the same decision again is no other.

    Args:
        connection: Where to write.
        store: Where the bundle is.
        model_id: Which model, or the beginning of its id.
        by: Who decides.
        reason: Why.
        evidence: What the decision rests on; kept with it.
        replaces: The champion it has been compared with; another one by now is a refusal.

    Raises:
        UnknownRecordError: No such model.
        ConfigurationError: No reason given, or it is champion already.
        PromotionRefusedError: Its newest validation failed a gate, it was never validated though there is a hold-out,
            or it was compared with another champion.
        BundleError: Its bundle is incomplete or altered.
    """
    model = find_model(connection, model_id)
    lock_promotions(connection)
    now = champion(connection)
    if replaces not in (_ANYONE, now):
        raise PromotionRefusedError(
            f"Model {(now or 'none')[:12]} became champion meanwhile, and {model.model_id[:12]} was compared with "
            f"{(replaces or 'none')[:12]}; nothing was changed. Next: bloodcell retrain, or bloodcell models validate"
        )
    _require_proof(connection, model, now)
    _crown(connection, store, model.model_id, "promote", by, reason, evidence)


def lock_promotions(connection: sa.Connection) -> None:
    """Waits until no other transaction is about to change the champion; others wait until this one ends."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PROMOTION_LOCK)))


def champion(connection: sa.Connection) -> str | None:
    """Returns the model id of the champion, None where there is none."""
    model_id: str | None = connection.scalar(sa.text("SELECT model_id FROM bloodcell.champion"))
    return model_id


def rollback(connection: sa.Connection, store: Store, *, replaces: str | None, by: str, reason: str) -> str:
    """Makes the champion before the present one champion again; returns its model id.

    Args:
        connection: Where to write.
        store: Where the bundle is.
        replaces: The champion to go back from, as read before: a repeat, of which the first commit was lost on its way
            back, does not go back twice.
        by: Who decides.
        reason: Why.

    Raises:
        ConfigurationError: There was none before, another is champion by now, or no reason is given.
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
        raise ConfigurationError("There is no earlier champion to go back to. Next: bloodcell models list")
    if reigns[-1] != replaces:
        raise ConfigurationError(
            f"Model {reigns[-1][:12]} became champion meanwhile; nothing was changed. Next: bloodcell models list"
        )
    _crown(connection, store, reigns[-2], "rollback", by, reason, {"replaces": reigns[-1]})
    return reigns[-2]


def open_registered(store: Store, model_id: str, *, fresh: bool = False) -> Bundle:
    """Returns a registered model's bundle, every byte verified.

    Args:
        store: Where it is.
        model_id: Which.
        fresh: Look at what the store itself holds now, not at a copy fetched earlier.

    Raises:
        BundleError: It is missing, incomplete or altered.
        StoreUnavailableError: The store cannot be read.
    """
    return open_bundle(store.bundle_folder(model_id, fresh=fresh))


def _require_proof(connection: sa.Connection, model: RegisteredModel, now: str | None) -> None:
    """Where there is a hold-out to prove it on, a model has to have passed its gates, or have been champion before."""
    judged = connection.execute(
        sa.text(
            "SELECT passed, gates, champion_id FROM bloodcell.validation WHERE model_id = :model_id "
            "ORDER BY validated_at DESC, validation_id LIMIT 1"
        ),
        {"model_id": model.model_id},
    ).one_or_none()
    if judged is not None and not judged.passed:
        failed = " ".join(gate["reason"] for gate in judged.gates if not gate["passed"])
        raise PromotionRefusedError(f"Model {model.model_id[:12]} is refused by its gates: {failed}")
    if model.n_promotions:
        return
    if judged is not None and judged.champion_id != now:
        raise PromotionRefusedError(
            f"Model {model.model_id[:12]} was compared with {(judged.champion_id or 'no champion')[:12]}, and "
            f"{(now or 'none')[:12]} is champion now. Next: bloodcell models validate {model.model_id[:12]}"
        )
    is_provable = connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM bloodcell.dataset WHERE n_holdout > 0)"))
    if judged is None and is_provable and now is not None:
        raise PromotionRefusedError(
            f"Model {model.model_id[:12]} was never validated, though there is a hold-out of labelled cells. Next: "
            f"bloodcell models validate {model.model_id[:12]}"
        )


def _crown(
    connection: sa.Connection,
    store: Store,
    model_id: str,
    action: str,
    by: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    if not reason.strip():
        raise ConfigurationError("A promotion needs a reason that a person can read years later. Next: --reason R")
    open_registered(store, model_id, fresh=True)
    last = connection.execute(sa.text("SELECT model_id, promoted_by, reason FROM bloodcell.champion")).one_or_none()
    if last is not None and tuple(last) == (model_id, by, reason):
        return
    if last is not None and last.model_id == model_id:
        raise ConfigurationError(f"Model {model_id[:12]} is champion already; nothing was changed.")
    row = {"model_id": model_id, "action": action, "promoted_by": by, "reason": reason, "evidence": dict(evidence)}
    connection.execute(sa.insert(tables.promotion).values(row))
