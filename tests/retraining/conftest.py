"""One retraining on small coloured cells, trained and validated once; each test gets a copy of the database."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bloodcell.registry.bundle import Bundle
from bloodcell.retraining import Request, TrainingRun, begin_training_run, train_candidate, validate_candidates
from bloodcell.retraining.validating import Validated
from bloodcell.settings import Settings
from bloodcell.storage.embedded import EmbeddedPostgres
from tests.conftest import _administer
from tests.laboratory import make_champion
from tests.retraining.nights import label_cells, make_night

PATIENTS = [f"P{number}" for number in range(20)]
REQUEST = Request("dr.a", "for a test", ("vgg16_svm",), base="champion", seed=3)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Judged:
    """A laboratory with a barely trained champion, and a candidate that was validated against it."""

    settings: Settings
    run: TrainingRun
    validated: Validated
    champion_id: str


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns settings with which every cell is of the random sample."""
    return settings.model_copy(update={"sample_cells": 10_000})


@pytest.fixture(scope="package")
def judged_template(
    postgres: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory, svm_bundle: Bundle
) -> Judged:
    name = "judged_template"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("judged"),
        database_url=postgres.url(name),
        settle_s=0,
        sample_cells=10_000,  # every cell is of the random sample, and read blind
        gate_min_holdout_cells=5,
        gate_min_holdout_patients=4,
        gate_min_out_of_scope_cells=4,
        gate_min_class_patients=1,
        gate_min_held_back=0,
        gate_accuracy_margin=0.1,  # with a hundred cells not even two equal models are shown to be within a point
        gate_max_calibration_error=0.3,
        approvers="dr.chief",
    )
    truth = make_night(settings, patients=PATIENTS, cells_per_class=3)
    make_champion(settings, svm_bundle)
    # only a person's first label of a cell is a blind reading
    smudges = dict(list(truth.items())[:4])
    label_cells(settings, smudges, labelled_as=lambda cell_class: None)
    label_cells(settings, dict(truth.items() - smudges.items()))
    run = begin_training_run(settings, REQUEST, uuid.uuid4())
    train_candidate(settings, run.training_run_id, "vgg16_svm")
    (validated,) = validate_candidates(settings, run.training_run_id)
    return Judged(settings, run, validated, svm_bundle.model_id)


@pytest.fixture
def judged(postgres: EmbeddedPostgres, judged_template: Judged) -> Iterator[Judged]:
    """Returns a copy for one test."""
    name = f"judged_{next(_numbers)}"
    _administer(postgres, f"CREATE DATABASE {name} TEMPLATE judged_template")
    settings = judged_template.settings.model_copy(update={"database_url": postgres.url(name)})
    yield Judged(settings, judged_template.run, judged_template.validated, judged_template.champion_id)
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")
