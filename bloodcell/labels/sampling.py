"""Writes the random sample's cells for a person to read blind: images under numbers, and a file to fill in."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from bloodcell.errors import ConfigurationError
from bloodcell.labels.label_rows import BadRowError, checked_person
from bloodcell.storage.atomic_write import write_atomically
from bloodcell.storage.database import Database
from bloodcell.storage.statements import load_statements
from bloodcell.storage.store import Store

_SQL: Final = load_statements("labels/sampling.sql")

FORM: Final = "labels.csv"


@dataclass(frozen=True, slots=True)
class SampleForReading:
    """What was written.

    Attributes:
        n_cells: Images and rows; 0 if the person has read all, and nothing was written.
        form: The file to fill in.
    """

    n_cells: int
    form: Path


def write_sample(
    database: Database,
    store: Store,
    folder: Path,
    *,
    reader: str,
    night: date | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> SampleForReading:
    """Writes the images that wait for a blind reading by a person, and a label file without labels.

    Neither names nor order of the images tell anything: no call, no analyser code, no slide. Numbers follow digests.

    Args:
        database: The database.
        store: Where the images are.
        folder: New or empty.
        reader: Who is going to read; cells that the person has labelled already are left out.
        night: Only cells of this night; None: of all nights.
        on_progress: Called with the name of a step, the number done, and the total.

    Raises:
        ConfigurationError: The folder is not empty or cannot be written, or the person's name cannot be used.
        StoreUnavailableError: An image cannot be read.
    """
    try:
        who = checked_person(reader)
    except BadRowError as error:
        raise ConfigurationError(f"Who reads: {error}.") from error
    show = on_progress or (lambda *_: None)
    rows = database.transact(lambda c: c.execute(_SQL["waiting"], {"reader": who, "night": night}).all())
    form = folder / FORM
    if not rows:
        return SampleForReading(0, form)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"The folder {folder} is not empty: choose a new one for the sample.")
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(("image", "cell_id", "label", "labelled_by", "labelled_at", "blind"))
        for number, row in enumerate(rows, start=1):
            name = f"{number:05}.{row.format}"
            (folder / name).write_bytes(store.read_image(row.sha256))
            table.writerow((name, row.cell_id, "", who, "", 1))
            show("Images", number, len(rows))
        write_atomically(str(form), text.getvalue().encode())
    except OSError as error:
        raise ConfigurationError(
            f"The sample cannot be written to {error.filename or folder}: {error.strerror}. Choose another place."
        ) from error
    return SampleForReading(len(rows), form)
