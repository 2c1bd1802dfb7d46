"""Loads a bundle's Keras model in safe mode, and only if it has the inputs and outputs of a bundle's model.

It is loaded from the bytes whose digest was checked, and not from the file, which another program could replace between
the check and the loading.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bloodcell.inference.keras_backend import load_backend
from bloodcell.inference.model_output import OF_CODES, OUTPUTS
from bloodcell.registry.bundle import MODEL, refused

if TYPE_CHECKING:
    import keras

    from bloodcell.registry.bundle import Bundle


def load_model(bundle: Bundle) -> keras.Model:
    """Returns the bundle's Keras model: uint8 RGB (n, height, width, 3) in, a dict of `OUTPUTS` out.

    `probabilities` (n, 8), calibrated, in the order of `CELL_CLASSES`; `embedding` (n, d); `novelty` (n,); and, if the
    bundle knows codes out of scope, `of_codes` (n, k).

    Raises:
        BundleError: The model is altered, cannot be loaded safely, or has other inputs or outputs.
    """
    load_backend()
    # keras.saving.load_model takes a path only; it calls this function, which also takes a file object
    from keras.src.saving import saving_lib

    body = io.BytesIO(bundle.read(MODEL))
    try:
        model = saving_lib.load_model(body, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise refused(bundle.folder, f"{MODEL} cannot be loaded safely: {error}") from error
    expected = bundle.input_size.shape
    outputs = model.output if isinstance(model.output, dict) else {}
    names = (*OUTPUTS, OF_CODES) if bundle.codes else OUTPUTS
    if model.input_shape[1:] != expected or set(outputs) != set(names):
        raise refused(
            bundle.folder,
            f"{MODEL} is not a model of this format: expected input {expected} and outputs {names}, "
            f"received input {model.input_shape[1:]} and outputs {sorted(outputs)}",
        )
    return model
