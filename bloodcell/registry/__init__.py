"""Bundles of trained models, and the models that the database knows.

    bundle               a bundle on disk: its manifest, its files, every byte verified
    recipes              how each variant is trained
    base_weights_record  the weights that a training started from
    training_reference   a model's outputs on its validation images, for drift checks
    rehearsal            features of some training images, from which a site's head starts
    compact              a Keras file in less than half its bytes
    registered_models    the models that the database knows: the champion, its challengers and the others
    promotion            promotion of a model to champion, and rollback to the previous champion
    promotion_proof      what a model must prove before it can become champion
    shipped              the models that come with bloodcell

A model's id is the digest of its bundle's manifest.
"""

from bloodcell.registry.bundle import Bundle, BundleManifest, open_bundle
from bloodcell.registry.promotion import promote, rollback
from bloodcell.registry.recipes import Recipe, default_recipe
from bloodcell.registry.registered_models import find_model, register, serving_models
from bloodcell.registry.shipped import install_shipped, shipped_bundles

__all__ = [
    "Bundle",
    "BundleManifest",
    "Recipe",
    "default_recipe",
    "find_model",
    "install_shipped",
    "open_bundle",
    "promote",
    "register",
    "rollback",
    "serving_models",
    "shipped_bundles",
]
