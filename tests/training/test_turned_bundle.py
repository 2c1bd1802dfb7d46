"""A copy of a model that averages over turns of each cell: the mean of what the model makes of the turned images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloodcell.errors import ConfigurationError
from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import MODEL, Bundle, open_bundle
from bloodcell.training.image_changes import Turned
from bloodcell.training.turned_bundle import turned_bundle


@pytest.fixture(params=["svm_bundle", "tuned_bundle"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    found: Bundle = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("turns", "of_them"), [(2, (0, 2)), (4, (0, 1, 2, 3)), (8, range(8))])
def test_its_probabilities_are_the_mean_over_the_turns(
    bundle: Bundle, turns: int, of_them: range, pixels: np.ndarray, tmp_path: Path
) -> None:
    turned = open_bundle(turned_bundle(bundle, turns, tmp_path).folder)
    model = load_model(bundle)
    seen = [model.predict_on_batch(np.stack([Turned(number)(each, "") for each in pixels])) for number in of_them]
    found = load_model(turned).predict_on_batch(pixels)
    mean = np.mean([each["probabilities"] for each in seen], axis=0)
    np.testing.assert_allclose(found["probabilities"], mean, atol=1e-5)
    assert np.abs(mean - seen[0]["probabilities"]).max() > 1e-4
    for name in ("novelty", "embedding"):
        np.testing.assert_allclose(found[name], seen[0][name], rtol=1e-4, atol=1e-4)


def test_the_bundle_says_so_and_is_hardly_larger(bundle: Bundle, tmp_path: Path) -> None:
    turned = turned_bundle(bundle, 8, tmp_path)
    assert (turned.manifest.turns, turned.manifest.variant) == (8, bundle.manifest.variant)
    assert turned.title == f"{bundle.manifest.variant}, 8 turns"
    assert turned.manifest.turned_from == bundle.model_id
    assert turned.manifest.confidence_threshold == bundle.manifest.confidence_threshold
    sizes = [(each.folder / MODEL).stat().st_size for each in (bundle, turned)]
    assert sizes[1] < 1.3 * sizes[0]


def test_a_run_of_both_models_gives_what_each_gives_alone(bundle: Bundle, pixels: np.ndarray, tmp_path: Path) -> None:
    turned = turned_bundle(bundle, 4, tmp_path)
    both = MergedNetwork([bundle, turned], batch_cells=24)({bundle.input_size: pixels})
    for each in (bundle, turned):
        alone = load_model(each).predict_on_batch(pixels)
        np.testing.assert_allclose(both[each.model_id].probabilities, alone["probabilities"], atol=1e-5)


def test_other_numbers_and_models_that_average_already_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected one of 2, 4, 8"):
        turned_bundle(bundle, 3, tmp_path)
    with pytest.raises(ConfigurationError, match="averages over 2 turns already"):
        turned_bundle(turned_bundle(bundle, 2, tmp_path), 4, tmp_path)
