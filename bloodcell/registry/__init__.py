"""Bundles, the registered models, the champion and its challengers, promotion, and the models that ship."""

import os

# TensorFlow reads these when it is first imported, which nothing does before it comes here; a site's own values stay
_TENSORFLOW = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # or every start tells of the GPUs that a machine lacks
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # or one process takes all of a GPU's memory
    "NVIDIA_TF32_OVERRIDE": "0",  # ten bits of a distance are too few: an SVM's decision was 0.04 off
}
for _name, _value in _TENSORFLOW.items():
    os.environ.setdefault(_name, _value)
