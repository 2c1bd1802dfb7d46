"""What the store must hold according to the database: images, the files of bundles, and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from bloodcell.registry.bundle import MANIFEST
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import sqlalchemy as sa

_SQL: Final = load_statements("verification/expected_objects.sql")

IMAGE_PREFIXES: Final = frozenset("".join(pair) for pair in product("0123456789abcdef", repeat=2))
"""The folders of images; with ten million images, each has 40,000."""
_MAX_CELLS: Final = 10


@dataclass(frozen=True, slots=True)
class Expected:
    """An object that the database refers to.

    Attributes:
        place: Where it is in the store.
        digest: Its sha256, or the first characters of it.
        size_bytes: Its size; None if that is not known.
        belongs_to: What it is part of, for a person; empty for an image, whose cells `cells_of` names.
    """

    place: str
    digest: str
    size_bytes: int | None = None
    belongs_to: str = ""

    @property
    def is_image(self) -> bool:
        """Whether cells show it."""
        return self.place.startswith("images/")

    @property
    def name(self) -> str:
        """The last part of its place; for an image its digest."""
        return self.place.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class UsedBy:
    """A cell that shows a damaged image."""

    night: str
    slide: str
    file_name: str


def count_images(connection: sa.Connection) -> dict[str, int]:
    """Returns the number of images in each of the folders `IMAGE_PREFIXES` that has any."""
    return {prefix: n for prefix, n in connection.execute(_SQL["n_images"])}


def expected_images(connection: sa.Connection, prefix: str) -> list[Expected]:
    """Returns the images in one of the folders."""
    rows = connection.execute(_SQL["images"], {"prefix": prefix})
    return [Expected(f"images/{prefix}/{sha256}", sha256, n_bytes) for sha256, n_bytes in rows]


def set_aside_images(connection: sa.Connection, prefix: str) -> set[str]:
    """Returns the images in one of the folders that belong to files which became no cell; none of them is an orphan."""
    return set(connection.scalars(_SQL["set_aside"], {"prefix": prefix}))


def expected_bundles(connection: sa.Connection) -> dict[str, list[Expected]]:
    """Returns the files of each registered model by its id: the manifest, and those that the manifest names."""
    return {
        model_id: _bundle(model_id, f"model {model_id[:12]} ({variant})", manifest)
        for model_id, variant, manifest in connection.execute(_SQL["models"])
    }


def expected_reports(connection: sa.Connection) -> dict[str, list[Expected]]:
    """Returns the validation pages of each model by its id; a page's name is the first part of its digest."""
    found: dict[str, list[Expected]] = {}
    for model_id, report in connection.execute(_SQL["reports"]):
        name = report.rpartition("/")[2]
        if f"/reports/{model_id}/{name}" in report:
            page = Expected(f"reports/{model_id}/{name}", name.removesuffix(".html"), None, f"model {model_id[:12]}")
            found.setdefault(model_id, []).append(page)
    return found


def still_wanted(connection: sa.Connection, images: list[str]) -> set[str]:
    """Returns those images that must still be stored, and keeps them from being removed in this transaction."""
    return set(connection.scalars(_SQL["still_wanted"], {"images": images}))


def cells_of(connection: sa.Connection, sha256: str) -> tuple[UsedBy, ...]:
    """Returns the first cells that show an image."""
    rows = connection.execute(_SQL["cells"], {"sha256": sha256, "most": _MAX_CELLS})
    return tuple(UsedBy(str(night), barcode, file_name) for barcode, night, file_name in rows)


def _bundle(model_id: str, belongs_to: str, manifest: Mapping[str, Any]) -> list[Expected]:
    files = {MANIFEST: model_id, **manifest.get("files", {})}
    return [Expected(f"models/{model_id}/{name}", digest, None, belongs_to) for name, digest in sorted(files.items())]
