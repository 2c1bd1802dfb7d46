"""Recipes of the models that are to be shipped next: more often right on the images of other laboratories.

What they are made of was chosen by measurement (ABLATIONS.md, "Other laboratories"). Those of InceptionV3 are
`DEFAULT_RECIPES` by now; those of VGG-16 follow when both of its variants are trained by them, because the two variants
of a base network have to see the same colours: only then does a night compute their lowest layers once.
"""

from __future__ import annotations

from dataclasses import replace

from bloodcell.registry.recipes import DEFAULT_RECIPES, SVM_FOR_OTHERS, TUNING_FOR_OTHERS, Recipe


def next_recipe(variant: str) -> Recipe:
    """Returns the recipe by which `variant` is to be trained for the next release."""
    recipe = DEFAULT_RECIPES[variant]
    if recipe.standardises_colour:
        return recipe
    if recipe.tuning is None:
        search = replace(SVM_FOR_OTHERS, gammas=(0.3, 0.5), max_components=448)
        return replace(recipe, standardises_colour=True, svm=search, evidence_share=1.0)
    own = {name: getattr(recipe.tuning, name) for name in ("cut_layer", "deep_learning_rate")}
    tuning = replace(TUNING_FOR_OTHERS, **own, deep_epochs=5)  # an epoch takes half an hour on two processor cores
    return replace(recipe, standardises_colour=True, tuning=tuning)
