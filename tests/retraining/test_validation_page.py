"""The page of a validation, which the approver reads."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.evaluation import Comparison, compare
from bloodcell.registry.promotion_proof import Gate
from bloodcell.retraining.gates import GATE_TITLES, judge_gates
from bloodcell.retraining.validation_page import SplitFacts, ValidationFacts, validation_page
from bloodcell.settings import Settings
from tests.report.slide_pages import Page
from tests.trial import drawn_holdout, drawn_predictions, holdout_of, predictions_of

SCRIPT = "<script>alert(1)</script>"
HOSTILE = f"{SCRIPT} '); DROP TABLE label;-- \u202emoc \n# Approve"
FACTS = ValidationFacts(
    training_run_id="8b7d1f6e-0000-4000-8000-123456789abc",
    requested_by="dr.a",
    triggered_by="kim",
    reason="Autumn labels",
    base="champion",
    seed=7,
    epochs=None,
    dataset_digest="ab" * 32,
    labels_until=datetime(2026, 11, 24, 12, 5, tzinfo=UTC),
    splits=(SplitFacts("training", 110, 9_000), SplitFacts("holdout", 40, 1_200), SplitFacts("out_of_scope", 12, 50)),
    left_out=(("contested", 14),),
    n_attempts=3,
    code_version="0.1.0+abc",
    validated_at=datetime(2026, 11, 25, 4, 0, tzinfo=UTC),
)


def comparison_of(strength: float = 3.3, *, n_out_of_scope: int = 50) -> Comparison:
    holdout = drawn_holdout(1_200, 40, n_out_of_scope=n_out_of_scope)
    return compare(
        holdout,
        [
            drawn_predictions(holdout, strength=strength),
            drawn_predictions(holdout, "champion", strength=2.6, seed=2),
            drawn_predictions(holdout, "challenger", strength=2.0, seed=3),
        ],
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return comparison_of()


@pytest.fixture(scope="module")
def gates(comparison: Comparison) -> tuple[Gate, ...]:
    return judge_gates(comparison, Settings())


@pytest.fixture(scope="module")
def page(comparison: Comparison, gates: tuple[Gate, ...]) -> str:
    return validation_page(comparison, gates, FACTS)


def text(page: str) -> str:
    """Returns the text that a person reads."""
    without_style = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", without_style))


def test_page_shows_verdict_gates_origin_and_every_model(
    page: str, comparison: Comparison, gates: tuple[Gate, ...]
) -> None:
    read = text(page)
    assert comparison.champion_id is not None
    assert "✓ Passed every gate" in read
    for gate in gates:
        assert GATE_TITLES[gate.gate] in read
        assert gate.gate in read
        assert gate.reason in read
    assert read.count("✓ passed") == len(GATE_TITLES)
    for model in comparison.models:
        assert model.model_id[:12] in read
        assert (
            f"{100 * model.accuracy.value:.1f} % ({100 * model.accuracy.lower:.1f}–{100 * model.accuracy.upper:.1f})"
            in read
        )
    for expected in (
        comparison.candidate_id,
        comparison.champion_id,
        FACTS.dataset_digest,
        FACTS.training_run_id,
        "dr.a",
        "Autumn labels",
        "2026-11-24 12:05 UTC",
        "2026-11-25 04:00 UTC",
        "0.1.0+abc",
        "9,000",
        "Left out: contested",
        "exact McNemar test",
        *CLASS_NAMES.values(),
    ):
        assert expected in read, expected


def test_page_is_self_contained_and_runs_no_script(page: str) -> None:
    tags = Page(page)
    assert not tags.of("script")
    assert not tags.of("link")
    assert [each.get("http-equiv") for each in tags.of("meta")].count("Content-Security-Policy") == 1
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert not re.findall(r"https?://", page)


def test_every_plot_is_a_non_empty_picture_with_a_text_alternative(page: str) -> None:
    pictures = Page(page).of("img")
    assert len(pictures) == 5
    for each in pictures:
        assert each["alt"]
        kind, body = (each["src"] or "").split(",", 1)
        assert kind == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(body)))
        assert image.width > 900
        assert len(image.convert("RGB").getcolors(1_000_000) or []) > 50
        assert not image.info.keys() & {"Software", "Creation Time", "date"}


@pytest.mark.slow
def test_the_same_validation_gives_the_same_bytes_in_another_process(
    page: str, comparison: Comparison, gates: tuple[Gate, ...]
) -> None:
    assert validation_page(comparison, gates, FACTS) == page
    code = (
        "import hashlib\n"
        "from tests.retraining import test_validation_page as made\n"
        "found = made.comparison_of()\n"
        "page = made.validation_page(found, made.judge_gates(found, made.Settings()), made.FACTS)\n"
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


@pytest.mark.slow
def test_the_page_of_a_refused_candidate_begins_with_every_reason() -> None:
    comparison = comparison_of(strength=2.0, n_out_of_scope=0)
    gates = judge_gates(comparison, Settings())
    page = validation_page(comparison, gates, FACTS)
    read = text(page)
    assert "✗ Refused" in read
    assert "The champion stays." in read
    failed = [gate for gate in gates if not gate.passed]
    assert failed
    for gate in failed:
        assert read.count(gate.reason) == 2
    assert read.count("✗ failed") == len(failed)
    assert page.count('<tr class="failed">') == len(failed)


@pytest.mark.slow
def test_text_that_a_person_typed_is_shown_and_not_executed(comparison: Comparison, gates: tuple[Gate, ...]) -> None:
    facts = dataclasses.replace(FACTS, requested_by=HOSTILE, reason=HOSTILE, left_out=((HOSTILE, 1),))
    page = validation_page(comparison, gates, facts)
    assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert "\\u202e" in page


@pytest.mark.slow
def test_without_a_champion_the_candidate_is_shown_alone() -> None:
    holdout = drawn_holdout(1_200, 40)
    comparison = compare(holdout, [drawn_predictions(holdout)])
    page = validation_page(comparison, judge_gates(comparison, Settings()), FACTS)
    assert "judged alone" in text(page)
    assert "Candidate minus champion" not in page
    assert "lost / won" not in page
    assert len(Page(page).of("img")) == 4


def test_an_empty_holdout_has_a_page_that_says_so() -> None:
    comparison = compare(holdout_of([]), [predictions_of([]), predictions_of([], "champion")])
    page = validation_page(
        comparison, judge_gates(comparison, Settings()), dataclasses.replace(FACTS, labels_until=None, splits=())
    )
    assert "The hold-out is empty" in text(page)
    assert "✗ Refused" in page
    assert not Page(page).of("img")


@pytest.mark.slow
def test_a_holdout_of_one_cell_and_of_empty_classes_has_a_page() -> None:
    comparison = compare(holdout_of([3]), [predictions_of([3]), predictions_of([2], "champion")])
    page = validation_page(comparison, judge_gates(comparison, Settings()), FACTS)
    assert "nan" not in text(page)
    assert "No slide has enough labelled and called leucocytes." in page
