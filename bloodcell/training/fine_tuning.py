"""Stages of fine-tuning, from cached maps or from pixels; after a kill they resume from the last checkpoint."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.metrics import negative_log_likelihood
from bloodcell.errors import ConfigurationError
from bloodcell.inference.batched_model import BatchedModel
from bloodcell.inference.keras_backend import compile_model
from bloodcell.inference.read_ahead import read_ahead
from bloodcell.registry.recipes import Augmentation
from bloodcell.storage.atomic_write import atomic_file
from bloodcell.training.augmentation import augmented
from bloodcell.training.calibration import fit_temperature, softmax
from bloodcell.training.outliers import outlier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import keras
    import tensorflow as tf
    from numpy.typing import NDArray

    from bloodcell.training.feature_cache import Rows


class Examples(Protocol):
    """The rows that a stage is trained on."""

    @property
    def labels(self) -> NDArray[np.integer]:
        """Class numbers of the cells, int (n,)."""

    def __len__(self) -> int:
        """Returns the number of rows of an epoch: each cell once, or once for each of its transforms."""

    def rows(
        self, numbers: NDArray[np.integer], random: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.integer]]:
        """Returns inputs and labels of the rows `numbers`; `random` is the only source of randomness."""


@dataclass(frozen=True, slots=True)
class CachedRows:
    """Cached outputs of frozen layers.

    Attributes:
        inputs: One or more arrays of rows (n, ...); every further array is of the same cells, rotated or mirrored.
        labels: int (n,), class numbers.
    """

    inputs: Sequence[NDArray[Any] | Rows]
    labels: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.labels) * len(self.inputs)

    def rows(
        self, numbers: NDArray[np.integer], random: np.random.Generator
    ) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        """Returns cached inputs and labels of the rows `numbers`, which count through all the arrays.

        They stay float16 until the device converts them: here the conversion would take eight times as long as reading.
        """
        which, places = np.divmod(numbers, len(self.labels))
        none = self.inputs[0][:0]
        rows = np.empty((len(numbers), *none.shape[1:]), none.dtype)
        for array in np.unique(which):
            rows[which == array] = self.inputs[array][places[which == array]]
        return rows, self.labels[places]


@dataclass(frozen=True, slots=True)
class AugmentedPixels:
    """Images with new random changes each time they are used.

    Attributes:
        pixels: uint8 rows (n, side, side, 3), RGB.
        labels: int (n,), class numbers.
        augmentation: Bounds of the changes.
        outlier_share: Share of the images that are changed into images of no class, with the number after the last
            class as their label.
        mild_share: Share of the images that have the changes of `mild` instead.
        mild: Bounds of smaller changes.
    """

    pixels: NDArray[np.uint8] | Rows
    labels: NDArray[np.integer]
    augmentation: Augmentation
    outlier_share: float = 0.0
    mild_share: float = 0.0
    mild: Augmentation = field(default_factory=Augmentation)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(
        self, numbers: NDArray[np.integer], random: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Returns the images with random changes, and the labels, of the rows `numbers`."""
        images, labels = list(self.pixels[numbers]), self.labels[numbers].copy()
        for row in np.flatnonzero(random.random(len(numbers)) < self.outlier_share):
            [other] = self.pixels[random.integers(len(self.labels), size=1)]
            images[row], labels[row] = outlier(images[row], other, random), len(CELL_CLASSES)
        is_mild = random.random(len(numbers)) < self.mild_share
        changes = [self.mild if mild else self.augmentation for mild in is_mild]
        return np.stack([augmented(*each, random) for each in zip(images, changes, strict=True)]), labels


@dataclass(frozen=True, slots=True)
class Stage:
    """How long and how fast a stage trains.

    Attributes:
        name: Name of its checkpoint.
        epochs: Maximum epochs.
        learning_rate: AdamW's learning rate after the warm-up; falls to zero along a cosine.
        weight_decay: AdamW's weight decay.
        batch_cells: Rows per step.
        patience: Epochs without a better calibrated validation loss after which the stage ends.
        seed: Seed of order, dropout and augmentation.
        warm_up: Share of all steps during which the learning rate rises to its full value.
        label_smoothing: Probability that targets distribute evenly over all classes.
        average_momentum: Momentum of the running mean of the weights, which is validated and kept; 0 keeps the weights
            themselves.
        may_stay: Whether the model before the stage is kept if no epoch is better on validation images. False where
            these cannot tell: they show no image of no class, and a new head has not learnt what that is.
    """

    name: str
    epochs: int
    learning_rate: float
    weight_decay: float
    batch_cells: int
    patience: int
    seed: int
    warm_up: float = 0.0
    label_smoothing: float = 0.0
    average_momentum: float = 0.0
    may_stay: bool = True


_LEAST_GROWING: Final = 20
"""Steps over which a learning rate grows at least: Adam's first steps are as large as it is, whatever the gradient, and
three of them at the full rate took a fine-tuned InceptionV3 from 75 % to chance."""


@dataclass(slots=True)
class _Progress:
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")


def train_stage(
    model: keras.Model,
    training: Examples,
    validation: CachedRows,
    stage: Stage,
    work: Path,
    on_step: Callable[[int, int], None],
) -> int:
    """Trains `model` in place, leaves it with its best weights, and returns the epoch of these weights.

    Epochs count from 1. Epoch 0 is the model before the stage; a stage with `may_stay` never makes a model worse.

    Every epoch draws its order, dropout and augmentation from (seed, epoch) alone and ends with a checkpoint. A run
    that was killed resumes after its last complete epoch and ends with the weights of an undisturbed run.

    Args:
        model: Rows in, scores (n, 8) out.
        training: Rows to train on; all classes have the same weight, whatever their number of images.
        validation: Rows that decide which epoch is best, and when to stop.
        stage: Length and speed of the training.
        work: Folder of checkpoints.
        on_step: Called with the number of steps done and the maximum number of steps.

    Raises:
        ConfigurationError: After no epoch did the model have a validation loss, as if the learning rate is too high.
    """
    import keras

    n_steps = max(1, len(training) // stage.batch_cells)
    strategy = _strategy_of(model)
    with strategy.scope() if strategy else nullcontext():
        compile_model(
            model,
            optimizer=_optimizer(stage, n_steps),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=stage.label_smoothing),
        )
        model.optimizer.build(model.trainable_variables)
    weight_of_class = _weight_of_class(training.labels, model.output_shape[-1])
    checkpoint, best = work / f"{stage.name}.npz", work / f"{stage.name}-best.npz"
    progress = _restored(model, checkpoint)
    if progress.epoch == 0 and stage.may_stay:
        _validate(model, validation, stage, progress, best)
    while progress.epoch < stage.epochs and progress.epoch - progress.best_epoch < stage.patience:
        n_before = progress.epoch * n_steps
        for n_done in _train_epoch(model, training, weight_of_class, stage, progress.epoch, n_steps):
            on_step(n_before + n_done, stage.epochs * n_steps)
        progress.epoch += 1
        with _averaged(model, stage):
            _validate(model, validation, stage, progress, best)
        _store(checkpoint, [*model.variables, *model.optimizer.variables], progress)
    if not best.exists():
        raise ConfigurationError(
            f"Training {stage.name} failed: after none of {progress.epoch} epochs is the validation loss a number. "
            "Next: train with a lower learning rate."
        )
    _load(best, model.variables)
    return progress.best_epoch


def _weight_of_class(labels: NDArray[np.integer], n_outputs: int) -> NDArray[np.float32]:
    """Returns a weight for each output: that of a class is the larger the rarer it is; that of no class is 1."""
    counts = np.bincount(labels)
    weights = np.ones(n_outputs, np.float32)
    weights[: len(counts)] = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights


def _validate(model: keras.Model, validation: CachedRows, stage: Stage, progress: _Progress, best: Path) -> None:
    """Saves the weights if they are the best so far, by the loss after calibration.

    Without calibration, a model trained on smoothed targets looks worse the better it fits them: its loss cannot fall
    below 0.045, and an earlier epoch with more errors may have a lower loss.
    """
    scores = scores_of(model, validation.inputs[0], stage.batch_cells)
    temperature = fit_temperature(scores, validation.labels)
    loss = negative_log_likelihood(softmax(scores, temperature), validation.labels)
    if loss < progress.best_loss:
        progress.best_loss, progress.best_epoch = loss, progress.epoch
        _store(best, model.variables, progress)


def scores_of(model: keras.Model, rows: NDArray[Any] | Rows, batch_cells: int) -> NDArray[np.float32]:
    """Returns the model's output (n, k) for all rows, reading them batch by batch."""
    batched = BatchedModel(model, batch_cells)
    starts = range(0, len(rows), batch_cells)
    return np.concatenate([batched.run(np.asarray(rows[start : start + batch_cells], np.float32)) for start in starts])


def _optimizer(stage: Stage, n_steps: int) -> keras.optimizers.Optimizer:
    import keras

    n_all = stage.epochs * n_steps
    n_growing = max(int(stage.warm_up * n_all), _LEAST_GROWING) if stage.warm_up else 0
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if n_growing else stage.learning_rate,
        max(n_all - n_growing, 1),
        warmup_target=stage.learning_rate if n_growing else None,
        warmup_steps=n_growing,
    )
    return keras.optimizers.AdamW(
        schedule,
        weight_decay=stage.weight_decay,
        use_ema=stage.average_momentum > 0,
        ema_momentum=stage.average_momentum,
        ema_overwrite_frequency=None,
    )


@contextmanager
def _averaged(model: keras.Model, stage: Stage) -> Iterator[None]:
    """Replaces the weights with their running mean inside the context, and restores them at its end."""
    import keras

    if not stage.average_momentum:
        yield
        return
    weights = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)


def _train_epoch(
    model: keras.Model, training: Examples, weight_of_class: NDArray[np.float32], stage: Stage, epoch: int, n_steps: int
) -> Iterator[int]:
    """Trains for one epoch, and yields the number of steps done after each step."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([stage.seed, epoch])
    order = np.random.default_rng((stage.seed, epoch)).permutation(len(training))
    # the last, smaller batch is left out, because it would be another shape to trace; other epochs use its rows
    batches = order[: n_steps * stage.batch_cells].reshape(n_steps, -1)
    randoms = [np.random.default_rng((stage.seed, epoch, step)) for step in range(n_steps)]
    train_on_batch = _step_of(model)
    shown = read_ahead(([step] for step in range(n_steps)), lambda step: training.rows(batches[step], randoms[step]), 1)
    for [step], [(rows, labels)] in shown:
        targets = np.eye(model.output_shape[-1], dtype=np.float32)[labels]
        train_on_batch(rows, targets, weight_of_class[labels])
        yield step + 1


def _strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """Returns the strategy under which the model was built, if it has several devices."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy if strategy is not None and strategy.num_replicas_in_sync > 1 else None


def _step_of(model: keras.Model) -> Callable[[NDArray[Any], NDArray[np.float32], NDArray[np.float32]], None]:
    """Returns a function that trains the model on a batch of rows, targets and weights.

    Under a strategy each device gets its share of the batch; Keras' `train_on_batch` would give each the whole batch.
    """
    strategy = _strategy_of(model)
    if strategy is None:
        return lambda rows, targets, weights: model.train_on_batch(rows, targets, sample_weight=weights)
    import tensorflow as tf

    @tf.function  # type: ignore[untyped-decorator]
    def step(batch: tuple[Any, ...]) -> None:
        strategy.run(model.train_step, args=(batch,))

    def share(rows: NDArray[Any]) -> Any:
        shares = np.split(rows, strategy.num_replicas_in_sync)
        return strategy.experimental_distribute_values_from_function(
            lambda replica: tf.constant(shares[replica.replica_id_in_sync_group])
        )

    return lambda *batch: step(tuple(share(rows) for rows in batch))


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

    record = {"epoch": progress.epoch, "best_epoch": progress.best_epoch, "best_loss": progress.best_loss}
    with atomic_file(path, is_durable=True) as file:
        arrays = {str(number): keras.ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}
        np.savez(file, progress=np.array(json.dumps(record)), **arrays)
