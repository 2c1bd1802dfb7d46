"""The model variants that can be trained and that the database accepts."""

from __future__ import annotations

from typing import Final, Literal, get_args

Variant = Literal["vgg16", "inception_v3", "vgg16_svm", "inception_v3_svm"]
VARIANTS: Final[tuple[str, ...]] = get_args(Variant)
"""Fine-tuned networks, and SVMs on a network's features."""
