"""A laboratory for tests, which writes drops, slides, cells, models and calls with as few arguments as possible."""

from __future__ import annotations

import hashlib
import itertools
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime

import sqlalchemy as sa

from bloodcell.cells.classes import CELL_CLASSES, CODES_OUT_OF_SCOPE, FINER_CODES, UNCLASSIFIED, class_of_code
from bloodcell.differential.counting import LineCount, SlideCounts, SlideFacts
from bloodcell.differential.laboratory_rules import read_rules
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.promotion import promote
from bloodcell.registry.registered_models import register
from bloodcell.results.due_results import write_results
from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database, open_database
from bloodcell.storage.label_tables import IMAGE_SPLITS
from bloodcell.storage.store import Store

NIGHT = date(2026, 3, 14)
CHAMPION = "c0" + 62 * "1"
CHALLENGER = "5a" + 62 * "2"
NOVELTY_THRESHOLD = 12.5
SIGNER = "signer"
# tests at once share a server, and so its logins
MAKE_SIGNER = f"""
    DO $$ BEGIN
        CREATE ROLE {SIGNER} LOGIN CONNECTION LIMIT 50 IN ROLE bloodcell_reviewer;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$
"""


def make_champion(settings: Settings, bundle: Bundle, *, by: str = "tests", reason: str = "the first") -> None:
    """Registers a bundle and makes it champion."""
    store = Store.of(settings)

    def install(connection: sa.Connection) -> None:
        register(connection, store, bundle, by=by)
        promote(connection, store, bundle.model_id, by=by, reason=reason, evidence={})

    open_database(settings).transact(install, patience_s=60)


def at_once(n: int, work: Callable[[], object]) -> list[Exception]:
    """Runs `work` in `n` threads at once; returns the errors that it raised."""
    errors: list[Exception] = []

    def caught() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=caught) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def slide_counts(cells: Mapping[str, int], facts: SlideFacts | None = None) -> SlideCounts:
    """Returns a slide's counts by line, without labels."""
    return SlideCounts({line: LineCount(n) for line, n in cells.items() if n}, facts or SlideFacts())


class Laboratory:
    """Rows of one night on a migrated database."""

    _numbers = itertools.count(1)

    def __init__(self, database: Database, night: date = NIGHT) -> None:
        self.database = database
        self.night = night
        self.run_id = self.run("ingest")
        with database.begin() as connection:
            connection.execute(sa.text("SELECT bloodcell.ensure_call_partition(:night)"), {"night": night})
            connection.execute(
                tables.drop.insert().values(
                    night=night, folder=f"/drops/{night}", completed_at=datetime.now(UTC), run_id=self.run_id
                )
            )

    def run(self, stage: str, n_cells: int | None = None, duration_s: float | None = None) -> uuid.UUID:
        """Adds a run of a stage."""
        run_id = uuid.uuid4()
        started = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
        ended = None if duration_s is None else datetime.fromtimestamp(started.timestamp() + duration_s, UTC)
        with self.database.begin() as connection:
            connection.execute(
                tables.run.insert().values(
                    run_id=run_id,
                    stage=stage,
                    night=self.night,
                    state="running" if ended is None else "succeeded",
                    started_at=started,
                    ended_at=ended,
                    code_version="0.1.0+test",
                    host="analyser-pc",
                    n_cells=n_cells,
                )
            )
        return run_id

    def slide(self, barcode: str, **columns: object) -> int:
        """Adds a slide."""
        row = {"order_id": "O-1", "analyser": "DM96", "patient_key": "p-17", "record_state": "read", **columns}
        with self.database.begin() as connection:
            return int(
                connection.execute(
                    tables.slide.insert()
                    .values(barcode=barcode, night=self.night, run_id=self.run_id, **row)
                    .returning(tables.slide.c.slide_id)
                ).scalar_one()
            )

    def cells(
        self, slide_id: int, codes: Sequence[str | None], images: Sequence[str] = (), names: Sequence[str] = ()
    ) -> list[int]:
        """Adds a cell for each analyser code; digests of images and file names are made up if left out."""
        numbers = [next(self._numbers) for _ in codes]
        file_names = list(names) or [f"{code or 'X'}_{n:08d}.jpg" for code, n in zip(codes, numbers, strict=True)]
        digests = list(images) or [hashlib.sha256(str((slide_id, n)).encode()).hexdigest() for n in numbers]
        rows = [
            {
                "slide_id": slide_id,
                "file_name": name,
                "night": self.night,
                "sha256": digest,
                "analyser_code": code,
                "analyser_class": class_of_code(code),
                "run_id": self.run_id,
            }
            for code, name, digest in zip(codes, file_names, digests, strict=True)
        ]
        if not rows:
            return []
        with self.database.begin() as connection:
            connection.execute(
                tables.image.insert(),
                [{"sha256": d, "size_bytes": 1, "width_px": 360, "height_px": 363, "format": "JPEG"} for d in digests],
            )
            return list(connection.scalars(tables.cell.insert().returning(tables.cell.c.cell_id), rows))

    def file(self, path: str, outcome: str, **columns: object) -> None:
        """Adds a file to the ledger."""
        row = {"barcode": path.split("/")[0], "size_bytes": 10, "changed_ns": 0, **columns}
        with self.database.begin() as connection:
            connection.execute(
                tables.drop_file.insert().values(
                    night=self.night, path=path, outcome=outcome, run_id=self.run_id, **row
                )
            )

    def model(self, model_id: str = CHAMPION, variant: str = "inception_v3_svm", *, promote: bool = True) -> str:
        """Registers a model and, by default, makes it champion."""
        created = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        with self.database.begin() as connection:
            connection.execute(
                tables.model.insert().values(
                    model_id=model_id,
                    variant=variant,
                    confidence_threshold=0.6,
                    novelty_threshold=NOVELTY_THRESHOLD,
                    manifest={"data": {"dataset_digest": "d16e57"}, "code_version": "0.1.0+abc"},
                    created_at=created,
                    registered_by="tests",
                )
            )
            if promote:
                connection.execute(
                    tables.promotion.insert().values(
                        model_id=model_id, action="promote", promoted_by="tests", reason="the first"
                    )
                )
        return model_id

    def call(
        self,
        cells: Sequence[int],
        called: Sequence[str],
        model_id: str = CHAMPION,
        *,
        run_id: uuid.UUID | None = None,
        confidences: Sequence[float] = (),
        novelties: Sequence[float] = (),
        tops: Mapping[int, str] | None = None,
        resembles: Mapping[int, str] | None = None,
    ) -> None:
        """Adds a model's calls of cells; the second most probable class is the one after the most probable."""
        confidences = list(confidences) or [0.9] * len(cells)
        novelties = list(novelties) or [1.0] * len(cells)
        rows = []
        for index, (cell, name) in enumerate(zip(cells, called, strict=True)):
            top = (tops or {}).get(index, "lymphocyte" if name == UNCLASSIFIED else name)
            rest = {f"p_{cell_class}": 0.0 for cell_class in CELL_CLASSES}
            second = CELL_CLASSES[(CELL_CLASSES.index(top) + 1) % len(CELL_CLASSES)]
            confidence = confidences[index]
            rows.append(
                {
                    "cell_id": cell,
                    "model_id": model_id,
                    "night": self.night,
                    "called_class": name,
                    "top_class": top,
                    "unclassified_reason": None
                    if name != UNCLASSIFIED
                    else "novel"
                    if novelties[index] > NOVELTY_THRESHOLD or index in (resembles or {})
                    else "low_confidence",
                    "confidence": confidence,
                    "novelty": novelties[index],
                    "resembles": (resembles or {}).get(index),
                    **rest,
                    f"p_{top}": confidence,
                    f"p_{second}": 1 - confidence,
                    "run_id": run_id or self.run_id,
                }
            )
        if rows:
            with self.database.begin() as connection:
                connection.execute(tables.cell_call.insert(), rows)

    def call_again(self, called: str, model_id: str = CHAMPION) -> None:
        """A model calls all its cells again, as the app does with redo."""
        values = {"model": model_id, "run": self.run("classify"), "called": called}
        statements = (
            "CREATE TEMP TABLE redone ON COMMIT DROP AS SELECT * FROM bloodcell.cell_call WHERE model_id = :model",
            "SELECT bloodcell.replace_calls(array_agg(cell_id), array_agg(night), array_agg(model_id::text), :run) "
            "FROM redone",
            "UPDATE redone SET run_id = :run, called_at = now(), called_class = :called, top_class = :called, "
            "unclassified_reason = NULL, resembles = NULL",
            "INSERT INTO bloodcell.cell_call SELECT * FROM redone",
        )
        with self.database.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement), values)

    def label(
        self,
        cells: Sequence[int],
        labels: Sequence[str],
        by: str = "anna",
        *,
        at: str = "2026-03-15 09:00+00",
        blind: bool = False,
        adjudication: bool = False,
        note: str | None = None,
    ) -> list[int]:
        """Adds a person's labels of cells, each a cell class or an analyser code; returns the ids of the labels."""
        table = tables.label
        rows = [
            {
                "cell_id": cell,
                "class": said if said in CELL_CLASSES else class_of_code(said),
                "sub_label": said if said in FINER_CODES or said in CODES_OUT_OF_SCOPE else None,
                "labelled_by": by,
                "labelled_at": at,
                "is_blind": blind,
                "is_adjudication": adjudication,
                "note": note,
                "source": "csv",
            }
            for cell, said in zip(cells, labels, strict=True)
        ]
        with self.database.begin() as connection:
            return list(connection.scalars(table.insert().returning(table.c.label_id), rows))

    def count(self, *slides: int) -> None:
        """Counts slides and makes the versions of their results; without slides all of them."""
        found = slides or [int(str(slide)) for (slide,) in self.rows("SELECT slide_id FROM bloodcell.slide")]
        write_results(self.database, slides=found, run_id=self.run("differential"), rules=read_rules(None))

    def sign(self, barcode: str, version: int, state: str = "final", reason: str | None = None) -> int:
        """Signs the newest version of a slide's result, with a login for that."""
        statement = sa.text("SELECT bloodcell.sign_result(:barcode, :version, :state, :reason)")
        values = {"barcode": barcode, "version": version, "state": state, "reason": reason}
        url = self.database.engine.url
        with connect(url.render_as_string(hide_password=False)).begin() as connection:
            connection.execute(sa.text(MAKE_SIGNER))
        personal = url.set(username=SIGNER).render_as_string(hide_password=False)
        with connect(personal).begin() as connection:
            return int(str(connection.scalar(statement, values)))

    def sample(self, cells: Sequence[int], *, read_twice: Sequence[int] = ()) -> None:
        """Puts cells into the random samples of their nights, as only the schema's owner can."""
        with self.database.begin() as connection:
            connection.execute(sa.text("SET LOCAL ROLE bloodcell_owner"))
            connection.execute(
                sa.text(
                    "INSERT INTO bloodcell.sampled_cell (cell_id, night, is_read_twice) "
                    "SELECT cell_id, night, cell_id = ANY (:twice) FROM bloodcell.cell WHERE cell_id = ANY (:cells)"
                ),
                {"cells": list(cells), "twice": list(read_twice)},
            )

    def dataset(self, digest: str, images: Sequence[tuple[int, str]]) -> str:
        """Adds a data set of labelled cells (cell, split); a patient's split is that of its first cell in `images`."""
        splits = [split for _, split in images]
        values = {"digest": digest, "run_id": self.run_id}
        image = """
            WITH given AS (SELECT c.sha256, l.class, c.cell_id, l.split_key, l.label_id
                           FROM bloodcell.current_label l JOIN bloodcell.cell c USING (cell_id)
                           WHERE c.cell_id = :cell),
            split AS (INSERT INTO bloodcell.data_split (split_key, split, is_blind, run_id)
                      SELECT split_key, CASE :split WHEN 'out_of_scope' THEN 'holdout' ELSE :split END, false, :run_id
                      FROM given ON CONFLICT DO NOTHING)
            INSERT INTO bloodcell.dataset_image (dataset_digest, sha256, split, class, cell_id, split_key, label_id)
            SELECT :digest, sha256, :split, class, cell_id, split_key, label_id FROM given
        """
        with self.database.begin() as connection:
            connection.execute(
                tables.dataset.insert().values(
                    dataset_digest=digest,
                    **{f"n_{split}": splits.count(split) for split in IMAGE_SPLITS},
                    until_label_id=1,
                    left_out={},
                    run_id=self.run_id,
                )
            )
            for cell, split in images:
                connection.execute(sa.text(image), {**values, "cell": cell, "split": split})
        return digest

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Reads rows."""
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]
