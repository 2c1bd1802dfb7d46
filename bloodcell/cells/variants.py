"""The model variants that can be trained and that the database accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

Variant = Literal["vgg16", "inception_v3", "vgg16_svm", "inception_v3_svm"]
VARIANTS: Final[tuple[str, ...]] = get_args(Variant)
"""Fine-tuned networks, and SVMs on a network's features."""


def title_of(variant: str, members: Sequence[str], turns: int) -> str:
    """Returns the variant, or those of a committee's members, and its turns: inception_v3 + inception_v3_svm, 4 turns.

    Args:
        variant: Of the model.
        members: Variants of a committee's members; empty: it is none.
        turns: Turned images of a cell that it averages over; 1: the image as it is.
    """
    return (" + ".join(members) or variant) + (f", {turns} turns" if turns > 1 else "")
