"""The models that the database knows: registering one, finding one, and which models classify a night."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bloodcell.errors import NoChampionError, UnknownRecordError
from bloodcell.registry.bundle import Bundle, canonical_json, open_bundle
from bloodcell.storage import tables
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from bloodcell.storage.store import Store


_SQL: Final = load_statements("registry/registered_models.sql")


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that the database knows.

    Attributes:
        role: champion (its calls are reported), challenger (runs beside it), or idle.
        n_promotions: How often it was made champion.
        title: What it is called in lists (`Bundle.title`).
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
    title: str


def register(connection: sa.Connection, store: Store, bundle: Bundle, *, by: str) -> None:
    """Puts a verified bundle into the store and registers it in the database; a second call changes nothing.

    Args:
        connection: An open transaction.
        store: Where the bundle is kept.
        bundle: The bundle.
        by: The person who registers it.
    """
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
    return _read(connection)


def find_model(connection: sa.Connection, prefix: str) -> RegisteredModel:
    """Returns the one model whose id begins with `prefix`.

    Args:
        connection: An open transaction.
        prefix: The id, or its first characters.

    Raises:
        UnknownRecordError: No model has such an id, or several have.
    """
    found = _read(connection, prefix=prefix)
    if len(found) != 1 or not prefix:
        what = "No registered model has" if not found else f"{len(found)} registered models have"
        raise UnknownRecordError(f"{what} an id that begins with {prefix!r}. Next: bloodcell models list")
    return found[0]


def serving_models(connection: sa.Connection) -> list[RegisteredModel]:
    """Returns the models that classify a night: the champion first, then the challengers.

    Raises:
        NoChampionError: There is no champion.
    """
    serving = _read(connection, only_serving=True)
    if not serving:
        raise NoChampionError(
            "No model is champion, so nothing can be reported. Next: bloodcell models list, then "
            "bloodcell models promote ID --reason R (or bloodcell train, if the list is empty)."
        )
    return sorted(serving, key=lambda model: (model.role != "champion", model.variant))


def champion(connection: sa.Connection) -> str | None:
    """Returns the champion's model id; None if there is no champion."""
    model_id: str | None = connection.scalar(sa.text("SELECT model_id FROM bloodcell.champion"))
    return model_id


def open_registered(store: Store, model_id: str, *, fresh: bool = False) -> Bundle:
    """Returns a registered model's bundle, every byte verified.

    Args:
        store: Where the bundle is.
        model_id: Which model.
        fresh: Verify what the store itself holds now, not a copy fetched earlier.

    Raises:
        BundleError: The bundle is missing, incomplete or altered.
        StoreUnavailableError: The store cannot be read.
    """
    return open_bundle(store.bundle_folder(model_id, fresh=fresh))


def _read(connection: sa.Connection, *, prefix: str = "", only_serving: bool = False) -> list[RegisteredModel]:
    """Returns the models whose id begins with `prefix`, the newest first."""
    rows = connection.execute(_SQL["models"], {"prefix": prefix, "only_serving": only_serving})
    return [RegisteredModel(**row._mapping) for row in rows]
