"""Labelled images become a bundle: recipes, augmentation, features, fitting, calibration and novelty."""

import bloodcell.registry  # noqa: F401 - sets what TensorFlow reads when it is first imported
