"""Every row is a label or is refused; what is sent to Postgres arrives unchanged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bloodcell.errors import UnusableFileError
from bloodcell.labels.csv_rows import CsvLabels
from bloodcell.labels.importing import CopyReader
from bloodcell.labels.label_outcomes import RowErrors
from bloodcell.labels.label_rows import BadRowError, LabelRow, as_copy_text, checked_row, unguarded
from bloodcell.labels.matching import COPY_LABELS, NEW_LABELS
from bloodcell.storage.database import Database

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
OFFSETS = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
FIELDS = st.fixed_dictionaries(
    {
        "slide": TEXT,
        "file": TEXT,
        "cell_id": st.just("") | TEXT,
        "label": st.sampled_from(["SNE", "bl", "ig"]) | TEXT,
        "labelled_by": TEXT,
        "labelled_at": st.datetimes(timezones=st.none() | OFFSETS).map(lambda at: at.isoformat()) | TEXT,
        "blind": st.sampled_from(["", "1", "no", "True"]) | TEXT,
        "note": TEXT,
    }
)


@pytest.fixture
def copied(database: Database) -> Iterator[sa.Connection]:
    with database.connect() as connection:
        connection.exec_driver_sql(str(NEW_LABELS).replace("ON COMMIT DROP", ""))
        yield connection


@given(rows=st.lists(FIELDS, min_size=1, max_size=20))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_valid_rows_arrive_in_postgres_unchanged(copied: sa.Connection, rows: list[dict[str, str]]) -> None:
    good: list[LabelRow] = []
    for number, fields in enumerate(rows):
        try:
            good.append(checked_row(number, fields, None))
        except BadRowError as error:
            assert str(error)
    copied.exec_driver_sql("TRUNCATE new_label")
    copied.connection.cursor().copy_expert(COPY_LABELS, CopyReader(as_copy_text(iter(good))), 16)
    columns = "row_number, barcode, file_name, cell_id, class, sub_label, labelled_by, is_blind, note"
    arrived = copied.execute(sa.text(f"SELECT {columns} FROM new_label ORDER BY row_number")).all()
    assert [tuple(row) for row in arrived] == [
        (
            *(row.row, row.barcode, row.file_name, row.cell_id, row.meaning.cell_class, row.meaning.sub_label),
            *(row.labelled_by, row.is_blind, row.note),
        )
        for row in good
    ]


@given(body=st.binary(max_size=300))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("header", [b"", b"slide,file,label,labelled_by,labelled_at\n"])
def test_any_bytes_are_rows_or_a_refused_file(tmp_path: Path, header: bytes, body: bytes) -> None:
    file = tmp_path / "any.csv"
    file.write_bytes(header + body)
    errors, labels = RowErrors(), CsvLabels(file)
    try:
        n_good = sum(1 for _ in labels.read(errors, lambda *_: None))
    except UnusableFileError as error:
        assert error.detail
    else:
        assert n_good + errors.n == labels.n_rows > 0


@given(text=TEXT)
def test_guarded_text_is_restored(text: str) -> None:
    assert unguarded(f"'{text}" if text.lstrip("'")[:1] in set("=+-@\t\r") and text else text) == text


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    import tracemalloc

    line = "S1,SNE_00000001.jpg,SNE,anna,2026-03-15T09:30:00Z,a note of some length\n"

    def peak(n_rows: int) -> int:
        file = tmp_path / f"{n_rows}.csv"
        with file.open("w") as out:
            out.write("slide,file,label,labelled_by,labelled_at,note\n")
            out.writelines(line for _ in range(n_rows))
        reader = CopyReader(as_copy_text(CsvLabels(file).read(RowErrors(), lambda *_: None)))
        tracemalloc.start()
        while reader.read(2**16):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1_000)  # what is made only once and kept
    assert peak(40_000) < 1.2 * peak(4_000)


def test_quoted_fields_are_read_as_the_csv_module_wrote_them(tmp_path: Path) -> None:
    body = io.StringIO()
    note = 'he said "two; or, three"\nlobes'
    for delimiter in ",;":
        body.seek(0)
        body.truncate()
        writer = csv.writer(body, delimiter=delimiter)
        writer.writerow(["slide", "file", "label", "labelled_by", "labelled_at", "note"])
        writer.writerow(["S 1", "a,b;c.jpg", "SNE", "anna", "2026-03-15", note])
        (tmp_path / "quoted.csv").write_text(body.getvalue(), newline="")
        (row,) = CsvLabels(tmp_path / "quoted.csv").read(RowErrors(), lambda *_: None)
        assert (row.barcode, row.file_name, row.note) == ("S 1", "a,b;c.jpg", note)
        assert row.labelled_at == "2026-03-15T00:00:00+00:00"
