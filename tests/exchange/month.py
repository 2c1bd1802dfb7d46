"""A month of nights: signed, corrected, withheld, unsigned and withdrawn slides of two analysers."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, Laboratory

FIRST = date(2026, 3, 1)
LAST = date(2026, 3, 31)
N_CELLS = 110
KINDS = ("final", "corrected", "withheld", "machine", "withdrawn")
"""The slides of each night: their state, or that they were withdrawn."""
N_CLASSIFIED = N_CELLS - 2
"""Of a slide's cells, those with a class."""


def fill_month(database: Database, first: date = FIRST, last: date = LAST) -> Laboratory:
    """Fills the nights from `first` to `last`, and returns the last of them."""
    night = first
    while night <= last:
        laboratory = Laboratory(database, night)
        if night == first:
            laboratory.model()
            laboratory.model(CHALLENGER, "vgg16", promote=False)
        _fill_night(laboratory)
        night += timedelta(days=1)
    return laboratory


def barcode(night: date, kind: str) -> str:
    """Returns the barcode of a slide."""
    return f"{night:%y%m%d}-{kind}"


def _fill_night(laboratory: Laboratory) -> None:
    night = laboratory.night
    slides, cells = {}, {}
    for number, kind in enumerate(KINDS):
        slides[kind] = laboratory.slide(
            barcode(night, kind),
            analyser=("DM96", "DI-60")[(night.day + number) % 2],
            acquired_at=datetime.combine(night, time(20, 10 * number), UTC),
            wbc_10e9_per_l=4 + number,
            wbc_is_corrected=False,
        )
        n_neutrophils = 50 + (7 * night.day + 11 * number) % 40
        codes = ["SNE"] * n_neutrophils + ["LY"] * (N_CLASSIFIED - n_neutrophils) + [None, "PLT"]
        cells[kind] = laboratory.cells(slides[kind], codes)
        calls = ["neutrophil"] * n_neutrophils + ["lymphocyte"] * (N_CLASSIFIED - n_neutrophils)
        laboratory.call(cells[kind], [*calls, "unclassified", "platelet"])
    laboratory.call(cells["machine"], ["neutrophil"] * N_CELLS, CHALLENGER)
    laboratory.count(*slides.values())
    # an unclassified cell needs a label before a slide is signed
    for kind, label in (("final", "eosinophil"), ("corrected", "eosinophil"), ("withheld", "BL")):
        laboratory.label(cells[kind][-2:-1], [label])
    laboratory.count(slides["final"], slides["corrected"], slides["withheld"])
    laboratory.sign(barcode(night, "final"), 2)
    laboratory.sign(barcode(night, "corrected"), 2)
    laboratory.label(cells["corrected"][:1], ["monocyte"])
    laboratory.count(slides["corrected"])
    laboratory.sign(barcode(night, "corrected"), 4, "corrected", "one cell was wrong")
    with laboratory.database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
            "SELECT slide_id, 'withdraw', 'wrong tube', 'anna', run_id FROM bloodcell.slide WHERE slide_id = %s",
            (slides["withdrawn"],),
        )
