from __future__ import annotations

from dataclasses import replace

import pytest

from bloodcell.cells.variants import VARIANTS
from bloodcell.errors import ConfigurationError
from bloodcell.registry.recipes import DEFAULT_RECIPES, Recipe, base_of, default_recipe
from bloodcell.training.base_networks import build_base, feature_map


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_a_recipe_that_fits_its_network(variant: str) -> None:
    recipe = DEFAULT_RECIPES[variant]
    network = build_base(base_of(variant), recipe.side_px, recipe.crop_px)
    order = [layer.name for layer in network.layers]
    for layer in recipe.feature_layers:
        feature_map(network, layer)
    assert (recipe.svm is not None) == variant.endswith("_svm")
    if recipe.tuning:
        cut = order.index(recipe.tuning.cut_layer)
        assert all(cut < order.index(layer) or recipe.tuning.cut_layer == layer for layer in recipe.feature_layers)
        assert recipe.tuning.augmentation or recipe.tuning.cut_layer != "pixels"


def test_an_unknown_variant_is_refused_with_the_names_of_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"inception_v3_svm.*'resnet'"):
        default_recipe("resnet")


@pytest.mark.parametrize("variant", ["vgg16", "vgg16_svm"])
def test_an_svm_or_an_embedding_of_the_features_has_no_embedding_layers(variant: str) -> None:
    recipe = DEFAULT_RECIPES[variant]
    with pytest.raises(ConfigurationError, match="embedding_layers"):
        replace(recipe, embedding_layers=recipe.feature_layers)


def test_a_recipe_without_either_way_of_training_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="exactly one"):
        Recipe(32, ("block1_pool",))


def test_the_base_network_of_a_variant_is_its_name_without_svm() -> None:
    assert [base_of(variant) for variant in VARIANTS] == ["vgg16", "inception_v3", "vgg16", "inception_v3"]
