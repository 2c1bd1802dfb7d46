"""The models that come with bloodcell, so that a new installation can classify its first night.

They are in `bloodcell/shipped/<variant>`, and their ids are pinned here: a bundle with a changed byte is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bloodcell.errors import BundleError
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.promotion import lock_promotions, promote
from bloodcell.registry.registered_models import register, registered_models

if TYPE_CHECKING:
    import sqlalchemy as sa

    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database

FOLDER: Final = Path(__file__).parents[1] / "shipped"
MODEL_IDS: Final[dict[str, str]] = {
    "inception_v3": "83317413bc2fb59b5a74e9a85daa3552513461f80d08352e28835cd3647f212a",
    "inception_v3_svm": "a89902aea0c821b5ce60a7b816b8ca15076283cb99564fa4112a9f8fd835c59d",
    "vgg16": "80bd856b937a84bbaafddd940d1b78dec59c25f63c557656ee8f22998ec1ea6c",
    "vgg16_svm": "7f2203658d2f681a66057a93c9455979d1d656e85c07dbee9636d96ba7b359bf",
}
"""Variant -> model id; the first becomes champion, the others its challengers."""

_BY: Final = "bloodcell"


def shipped_bundles() -> list[Bundle]:
    """Returns the shipped bundles, the champion first.

    Raises:
        BundleError: One is missing, altered, or not the one of this release.
    """
    return [_opened(variant, model_id) for variant, model_id in MODEL_IDS.items()]


def install_shipped(settings: Settings, database: Database) -> list[Bundle]:
    """Registers the shipped models in a database that has no models yet, and returns those it registered.

    Args:
        settings: Where the store is, and whether to install shipped models.
        database: A migrated database.

    Raises:
        BundleError: A shipped bundle is missing or altered.
    """
    from bloodcell.storage.store import Store

    if not settings.shipped_models:
        return []
    store = Store.of(settings)

    def install(connection: sa.Connection) -> list[Bundle]:
        lock_promotions(connection)  # another start of the same installation waits here, then finds the models
        if registered_models(connection):
            return []
        bundles = shipped_bundles()
        for bundle in bundles:
            register(connection, store, bundle, by=_BY)
        if bundles:
            first = bundles[0].manifest
            promote(
                connection,
                store,
                bundles[0].model_id,
                by=_BY,
                reason=f"comes with bloodcell {first.code_version}; not yet validated on this laboratory's cells",
                evidence={"shipped": {bundle.manifest.variant: bundle.model_id for bundle in bundles}},
            )
        return bundles

    return database.transact(install)


def _opened(variant: str, model_id: str) -> Bundle:
    bundle = open_bundle(FOLDER / variant)
    if (bundle.model_id, bundle.manifest.variant) != (model_id, variant):
        raise BundleError(
            f"The shipped model {variant} is not the one of this release: expected {model_id}, received "
            f"{bundle.model_id} ({bundle.manifest.variant}). Install bloodcell again.",
            folder=str(bundle.folder),
        )
    return bundle
