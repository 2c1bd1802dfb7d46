"""Bundles as one merged network; images are read ahead and predicted in one loop, whoever asks."""

import bloodcell.registry  # noqa: F401 - sets what TensorFlow reads when it is first imported
