"""A model that looks at every cell several times, turned and mirrored, and averages the probabilities.

It is the same model with the same thresholds; embedding and novelty are those of the image as it is. A cell has no
upside, so what changes with a turn is noise. Each turn costs a forward pass, whatever the model. Figures and reference
in the bundle are those of the model that it was made of; its confidence is not compared with them.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bloodcell.errors import ConfigurationError
from bloodcell.inference.model_loading import load_model
from bloodcell.registry.bundle import MODEL, write_bundle
from bloodcell.training.bundle_training import write_compact_model
from bloodcell.training.model_assembly import mean_outputs
from bloodcell.training.provenance import code_version, git_commit, library_versions

if TYPE_CHECKING:
    import keras

    from bloodcell.registry.bundle import Bundle

TURNS: Final = (2, 4, 8)
"""Numbers of turns that can be chosen; the first two are the image and its half turn, four are all quarter turns."""

ORDER: Final = (0, 2, 1, 3, 4, 6, 5, 7)
"""Turns in the order in which they are used, as `image_changes.Turned` numbers them: from 4 on mirrored."""


def turned_bundle(bundle: Bundle, turns: int, out: Path) -> Bundle:
    """Writes the bundle of a model that averages over turns, and returns it.

    Args:
        bundle: A model that does not.
        turns: One of `TURNS`.
        out: Folder of bundles.

    Raises:
        ConfigurationError: The number is none of those, the model averages already, or its images are not square.
        BundleError: The model cannot be loaded.
    """
    manifest = bundle.manifest
    if turns not in TURNS:
        raise ConfigurationError(f"Turns: expected one of {', '.join(map(str, TURNS))}. Received: {turns}.")
    if manifest.turns != 1:
        raise ConfigurationError(
            f"Model {bundle.model_id[:12]} averages over {manifest.turns} turns already. Next: bloodcell models turn "
            f"{manifest.turned_from[:12]} --turns {turns}"
        )
    if manifest.input_height_px != manifest.input_width_px:
        raise ConfigurationError(
            f"Model {bundle.model_id[:12]} has an input that is not square, so its images cannot be rotated."
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".turning-") as folder:
        model = write_compact_model(Path(folder), turned_model(load_model(bundle), turns))
        files = {name: bundle.folder / name for name in manifest.files} | {MODEL: model}
        copy = replace(
            manifest,
            turns=turns,
            turned_from=bundle.model_id,
            code_version=code_version(),
            git_commit=git_commit(),
            libraries=library_versions(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files={},
        )
        return write_bundle(out, copy, files)


def turned_model(model: keras.Model, turns: int) -> keras.Model:
    """Returns a model of the same input and outputs, whose probabilities are the mean over `turns` turns.

    Args:
        model: A bundle's Keras model; its layers become those of the new model.
        turns: Up to 8.
    """
    import keras

    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    # call, not (): layers are added to the graph one by one, so that a run that merges models can share them
    seen = [model.call(_turned(pixels, number)) for number in ORDER[:turns]]
    whole = keras.Model(pixels, {**seen[0], **mean_outputs(seen, "turned")}, name=model.name)
    whole.trainable = False
    return whole


def _turned(pixels: Any, number: int) -> Any:
    """Returns what `image_changes.Turned` does to an image, for a batch."""
    import keras

    quarters = number % 4
    if quarters == 2:
        pixels = keras.ops.flip(pixels, axis=(1, 2))
    elif quarters:
        pixels = keras.ops.flip(keras.ops.transpose(pixels, (0, 2, 1, 3)), axis=1 if quarters == 1 else 2)
    return keras.ops.flip(pixels, axis=2) if number >= 4 else pixels
