"""Records as JSON documents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest

from bloodcell.cells.intervals import proportion
from bloodcell.presentation.json_documents import json_text, proportion_json


@dataclass(frozen=True, slots=True)
class Inner:
    night: date


@dataclass(frozen=True, slots=True)
class Outer:
    inner: tuple[Inner, ...]
    run_id: UUID
    at: datetime
    folder: Path


def test_records_dates_and_ids_become_json() -> None:
    at = datetime(2026, 3, 14, 23, tzinfo=UTC)
    text = json_text({"a": [Outer((Inner(date(2026, 3, 14)),), UUID(int=7), at, Path("é"))]})
    assert json.loads(text) == {
        "a": [
            {
                "inner": [{"night": "2026-03-14"}],
                "run_id": "00000000-0000-0000-0000-000000000007",
                "at": "2026-03-14 23:00:00+00:00",
                "folder": "é",
            }
        ]
    }
    assert "é" in text


def test_a_proportion_is_in_percent_and_its_field_says_so() -> None:
    document = proportion_json(proportion(1, 100))
    assert document == {
        "n": 1,
        "of": 100,
        "percentage": 1.0,
        "lower_95": pytest.approx(0.0253, abs=1e-4),
        "upper_95": pytest.approx(5.4459, abs=1e-4),
    }


def test_a_proportion_of_nothing_has_no_percentage() -> None:
    document = {"n": 0, "of": 0, "percentage": None, "lower_95": None, "upper_95": None}
    assert proportion_json(proportion(0, 0)) == document
