"""Recipes of the models that are to be shipped next: more often right on the images of other laboratories.

What they are made of was chosen by measurement (ABLATIONS.md, "Other laboratories"). They become `DEFAULT_RECIPES` when
all four models are trained by them, because the two variants of a base network have to see the same colours: only then
does a night compute their lowest layers once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bloodcell.registry.recipes import DEFAULT_RECIPES, Augmentation, Recipe, SvmSearch

OTHER_LABORATORIES: Final = Augmentation(
    zoom=0.25,
    shift=0.04,
    stain=0.25,
    blur_px=2.5,
    jpeg_quality=25,
    degraded_share=0.4,
    shade=0.35,
    contrast=0.2,
    mixing=0.06,
    white=0.12,
    sharpened_share=0.2,
)
"""Changes as large as those between laboratories."""

_SEARCH: Final = SvmSearch(
    gammas=(0.3,),
    costs=(10.0, 30.0),
    max_components=352,
    augmentation=OTHER_LABORATORIES,
    copies=4,
    weight_as_is=4.0,
    outlier_copies=0.2,
)
_SEARCHES: Final = {
    "inception_v3_svm": _SEARCH,
    "vgg16_svm": replace(_SEARCH, gammas=(0.3, 0.5), max_components=448),
}


def next_recipe(variant: str) -> Recipe:
    """Returns the recipe by which `variant` is to be trained for the next release."""
    recipe = replace(DEFAULT_RECIPES[variant], standardises_colour=True)
    if recipe.tuning is None:
        return replace(recipe, svm=_SEARCHES[variant], evidence_share=1.0)
    tuning = replace(recipe.tuning, augmentation=OTHER_LABORATORIES, outlier_share=0.2, mild_share=0.5)
    return replace(recipe, tuning=tuning)
