"""The cells that models have not called yet, in shards of whole slides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from bloodcell.cells.names import composed
from bloodcell.errors import UnknownRecordError
from bloodcell.registry.registered_models import find_model, serving_models
from bloodcell.storage.database import open_database
from bloodcell.storage.statements import load_statements
from bloodcell.storage.tables import slide

if TYPE_CHECKING:
    from bloodcell.settings import Settings

_SQL: Final = load_statements("classify/shards.sql")


@dataclass(frozen=True, slots=True)
class Shard:
    """Slides that one task classifies, and the models that call their cells.

    Attributes:
        slide_ids: Whole slides; no slide is in two shards of a plan.
        model_ids: The models, the champion first.
        n_cells: Cells that at least one of the models has not called.
        night: The night that the plan is for; None for all nights.
        redo: Whether cells that were already called are called again and their rows replaced.
    """

    slide_ids: tuple[int, ...]
    model_ids: tuple[str, ...]
    n_cells: int
    night: date | None = None
    redo: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"night": self.night.isoformat() if self.night else None})

    @classmethod
    def from_json(cls, text: str) -> Shard:
        fields = json.loads(text)
        night = date.fromisoformat(fields["night"]) if fields["night"] else None
        return cls(tuple(fields["slide_ids"]), tuple(fields["model_ids"]), fields["n_cells"], night, fields["redo"])


def plan_shards(
    settings: Settings,
    *,
    night: date | None = None,
    slides: Sequence[str] = (),
    model_ids: Sequence[str] = (),
    redo: bool = False,
) -> list[Shard]:
    """Returns the remaining work, in shards of about `settings.shard_cells` cells.

    Args:
        settings: Where the database is, and the size of a shard.
        night: Only slides with cells of this night; None for all nights.
        slides: Only these barcodes; empty for all.
        model_ids: Ids of the models, or their first characters; empty for the champion and its challengers.
        redo: Include cells that were already called.

    Raises:
        UnknownRecordError: A barcode or model id that is not in the database.
        ConfigurationError: No model is given, and there is no champion.
    """
    database, slides = open_database(settings), tuple(map(composed, slides))

    def plan(connection: sa.Connection) -> list[Shard]:
        _refuse_unknown(connection, slides)
        named = [find_model(connection, model_id).model_id for model_id in model_ids]
        models = tuple(dict.fromkeys(named or [model.model_id for model in serving_models(connection)]))
        counted = _slides_with_work(connection, night, slides, models, redo)
        return [Shard(slide_ids, models, n, night, redo) for slide_ids, n in _grouped(counted, settings.shard_cells)]

    return database.transact(plan)


def _slides_with_work(
    connection: sa.Connection, night: date | None, slides: Sequence[str], models: Sequence[str], redo: bool
) -> list[tuple[int, int]]:
    values = {"night": night, "slides": list(slides), "models": list(models), "redo": redo}
    return [(slide_id, n) for slide_id, n in connection.execute(_SQL["work_left"], values)]


def _refuse_unknown(connection: sa.Connection, slides: Sequence[str]) -> None:
    stands = slide.c.withdrawn_at.is_(None)
    known = set(connection.scalars(sa.select(slide.c.barcode).where(slide.c.barcode.in_(slides), stands)))
    if missing := sorted(set(slides) - known):
        raise UnknownRecordError(
            f"There is no slide {', '.join(missing)} in the database. Next: bloodcell ingest the night that has it."
        )


def _grouped(counted: Sequence[tuple[int, int]], shard_cells: int) -> Iterator[tuple[tuple[int, ...], int]]:
    slide_ids: list[int] = []
    n_cells = 0
    for slide_id, n in counted:
        if slide_ids and n_cells + n > shard_cells:
            yield tuple(slide_ids), n_cells
            slide_ids, n_cells = [], 0
        slide_ids.append(slide_id)
        n_cells += n
    if slide_ids:
        yield tuple(slide_ids), n_cells
