"""Staged fine-tuning from cached maps: epochs of a Keras model that a kill interrupts but does not change."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell.models.backend import jit_compile
from bloodcell.models.calibration import negative_log_likelihood, softmax
from bloodcell.models.features import padded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from bloodcell.models.features import Rows


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs of a stage.

    Attributes:
        inputs: One or more arrays of rows (n, ...); each further one shows the same cells, turned or mirrored.
        labels: int (n,), class numbers.
    """

    inputs: Sequence[NDArray[Any] | Rows]
    labels: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.labels) * len(self.inputs)

    def rows(self, numbers: NDArray[np.integer]) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Returns inputs, as they are kept, and labels of the rows `numbers`, counted through all the arrays.

        The device widens kept float16 to float32: here that costs eight times as much as reading it.
        """
        which, places = np.divmod(numbers, len(self.labels))
        none = self.inputs[0][:0]
        rows = np.empty((len(numbers), *none.shape[1:]), none.dtype)
        for array in np.unique(which):
            rows[which == array] = self.inputs[array][places[which == array]]
        return rows, self.labels[places]


@dataclass(frozen=True, slots=True)
class Stage:
    """How long and how fast a stage trains.

    Attributes:
        name: Of its checkpoint.
        epochs: At most.
        learning_rate: At the start; falls to zero along a cosine.
        weight_decay: AdamW's.
        batch_cells: Rows a step.
        patience: Epochs without a better validation loss after which the stage ends.
        seed: Of order and dropout.
    """

    name: str
    epochs: int
    learning_rate: float
    weight_decay: float
    batch_cells: int
    patience: int
    seed: int


@dataclass(slots=True)
class _Progress:
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")


def train_stage(
    model: keras.Model,
    training: Examples,
    validation: Examples,
    stage: Stage,
    work: Path,
    on_epoch: Callable[[int, int], None],
) -> int:
    """Trains `model` in place, leaves it with its best weights, and returns the epoch they are of (from 1).

    Every epoch draws its order and dropout from (seed, epoch) alone and ends with a checkpoint, so a run that was
    killed goes on after its last whole epoch and ends with the weights of an undisturbed run.

    Args:
        model: Rows in, scores (n, 8) out.
        training: Trained on; classes weigh the same whatever their number of images.
        validation: Decides which epoch is best, and when to stop.
        stage: Its settings.
        work: Folder of checkpoints.
        on_epoch: Called with epochs done and epochs at most.
    """
    import keras

    n_steps = max(1, len(training) // stage.batch_cells)
    schedule = keras.optimizers.schedules.CosineDecay(stage.learning_rate, stage.epochs * n_steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=stage.weight_decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile(),
    )
    model.optimizer.build(model.trainable_variables)
    counts = np.bincount(training.labels)
    weight_of_class = (len(training.labels) / (len(counts) * counts)).astype(np.float32)
    checkpoint, best = work / f"{stage.name}.npz", work / f"{stage.name}-best.npz"
    progress = _restored(model, checkpoint)
    while progress.epoch < stage.epochs and progress.epoch - progress.best_epoch < stage.patience:
        _train_epoch(model, training, weight_of_class, stage, progress.epoch, n_steps)
        progress.epoch += 1
        scores = scores_of(model, validation.inputs[0], stage.batch_cells)
        loss = negative_log_likelihood(softmax(scores), validation.labels)
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            _store(best, model.variables, progress)
        _store(checkpoint, [*model.variables, *model.optimizer.variables], progress)
        on_epoch(progress.epoch, stage.epochs)
    _load(best, model.variables)
    return progress.best_epoch


def scores_of(model: keras.Model, rows: NDArray[Any] | Rows, batch_cells: int) -> NDArray[np.float32]:
    """Returns the model's output (n, k) for all rows, in batches of one shape."""
    parts = []
    for start in range(0, len(rows), batch_cells):
        batch = np.asarray(rows[start : start + batch_cells], np.float32)
        parts.append(model.predict_on_batch(padded(batch, batch_cells))[: len(batch)])
    return np.concatenate(parts)


def _train_epoch(
    model: keras.Model, training: Examples, weight_of_class: NDArray[np.float32], stage: Stage, epoch: int, n_steps: int
) -> None:
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([stage.seed, epoch])
    order = np.random.default_rng((stage.seed, epoch)).permutation(len(training))
    # The last, smaller batch would be another shape to trace; its rows come early in another epoch.
    batches = order[: n_steps * stage.batch_cells].reshape(n_steps, -1)
    with ThreadPoolExecutor(1) as reader:  # the next batch is read while the device works on this one
        ahead = reader.submit(training.rows, batches[0])
        for step in range(n_steps):
            rows, labels = ahead.result()
            if step + 1 < n_steps:
                ahead = reader.submit(training.rows, batches[step + 1])
            model.train_on_batch(rows, labels, sample_weight=weight_of_class[labels])


def _restored(model: keras.Model, checkpoint: Path) -> _Progress:
    if not checkpoint.exists():
        return _Progress()
    return _load(checkpoint, [*model.variables, *model.optimizer.variables])


def _load(path: Path, variables: Sequence[Any]) -> _Progress:
    with np.load(path, allow_pickle=False) as stored:
        for number, variable in enumerate(variables):
            variable.assign(stored[str(number)])
        return _Progress(**json.loads(str(stored["progress"])))


def _store(path: Path, variables: Sequence[Any], progress: _Progress) -> None:
    import keras

    part = path.with_suffix(".part")
    record = {"epoch": progress.epoch, "best_epoch": progress.best_epoch, "best_loss": progress.best_loss}
    with part.open("wb") as file:
        arrays = {str(number): keras.ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}
        np.savez(file, progress=np.array(json.dumps(record)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
