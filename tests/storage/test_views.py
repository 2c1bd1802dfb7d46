"""What the views show, on tables filled by hand; test_queries.py tests those that a query reads."""

from __future__ import annotations

from bloodcell.storage.database import Database
from tests.laboratory import Laboratory


def test_slide_status_counts_the_cells_of_each_slide_and_those_out_of_scope(database: Database) -> None:
    lab = Laboratory(database)
    status = "SELECT barcode, n_cells, n_out_of_scope, status FROM bloodcell.slide_status ORDER BY barcode"
    assert lab.rows(status) == []
    lab.cells(lab.slide("S1"), ["LY", "BL", "VLY"])
    lab.slide("S2")
    assert lab.rows(status) == [("S1", 3, 2, "waiting"), ("S2", 0, 0, "no usable cell")]
