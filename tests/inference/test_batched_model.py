"""A model sees one shape only, and rows come back in their order, whatever their number."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bloodcell.cells.image_size import Size
from bloodcell.inference.batched_model import BatchedModel, FeatureExtractor, padded


@pytest.fixture(scope="module")
def model() -> keras.Model:
    pixels = keras.Input((4, 4, 3), dtype="uint8")
    wide = keras.ops.cast(pixels, "float32")
    return keras.Model(pixels, {"mean": keras.ops.mean(wide, axis=(1, 2)), "sum": keras.ops.sum(wide, axis=(1, 2, 3))})


@pytest.mark.parametrize("n_rows", [0, 1, 4, 7])
def test_any_number_of_rows_gives_as_many_outputs(model: keras.Model, n_rows: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n_rows, 4, 4, 3), dtype=np.uint8)
    outputs = FeatureExtractor(model, 4)({Size(4, 4): pixels})
    np.testing.assert_allclose(outputs["mean"], pixels.mean(axis=(1, 2)).reshape(n_rows, 3), rtol=1e-6)
    np.testing.assert_allclose(outputs["sum"], pixels.sum(axis=(1, 2, 3)), rtol=1e-6)


def test_every_batch_that_the_model_sees_has_one_shape(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    predict_on_batch = model.predict_on_batch

    def recorded(rows: np.ndarray) -> dict[str, np.ndarray]:
        shapes.append(rows.shape)
        outputs: dict[str, np.ndarray] = predict_on_batch(rows)
        return outputs

    monkeypatch.setattr(model, "predict_on_batch", recorded)
    BatchedModel(model, 3).run(np.zeros((8, 4, 4, 3), np.uint8))
    assert shapes == [(3, 4, 4, 3)] * 3


def test_padding_repeats_the_last_row() -> None:
    assert padded(np.array([1, 2]), 4).tolist() == [1, 2, 2, 2]
