"""Trains the four models that bloodcell ships, from their default recipes.

    python -m benchmarks.accuracy.models IMAGES [--variant NAME ...] [--next] [--start BUNDLE ...] [--epochs N]

They are trained on IMAGES and a small share of drawn cells; a tenth of IMAGES, chosen by digest, is held out. A variant
that is done is not trained again, and a training that was killed resumes. A fine-tuned variant starts from ImageNet, or
from the network of an earlier release's BUNDLE of the same variant, for which fewer epochs are enough. To ship the
models: copy each bundle to bloodcell/shipped/<variant>, and write its id into bloodcell/registry/shipped.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from benchmarks.accuracy.measuring import kept_as, made_once
from benchmarks.accuracy.next_recipes import next_recipe
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.cells.variants import VARIANTS
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.recipes import Recipe, default_recipe
from bloodcell.settings import Settings
from bloodcell.storage.atomic_write import part_folder
from bloodcell.training.image_folders import is_held_out, read_image_folders

HOLDOUT_FRACTION = 0.1
DRAWN_PER_CLASS = 60
"""Drawn cells are 5 % of the training images: enough for the cells of a demonstration to be classified correctly."""
DRAWN_SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.models", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", type=Path, help="FOLDER/<class>/*.jpg")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="may be repeated; default: all")
    parser.add_argument("--next", action="store_true", help="by the recipes of `next_recipes`")
    parser.add_argument("--start", type=Path, action="append", default=[], metavar="BUNDLE", help="may be repeated")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of the second stage after a --start")
    parser.add_argument("--work", type=Path, default=Path("paper-work"))
    chosen = parser.parse_args()

    settings = Settings(data_dir=chosen.work / "data")
    folders = [chosen.images, _drawn(chosen.work / "drawn")]
    images = read_image_folders(settings, *folders).images
    starts = {bundle.manifest.variant: bundle for bundle in map(open_bundle, chosen.start)}
    for variant in chosen.variant or VARIANTS:
        recipe = next_recipe(variant) if chosen.next else default_recipe(variant)
        base: Literal["imagenet"] | Bundle = starts.get(variant) or "imagenet"
        if recipe.tuning and chosen.epochs and variant in starts:
            recipe = replace(recipe, tuning=replace(recipe.tuning, deep_epochs=chosen.epochs))
        of_base = f" from {base.model_id[:12]}" if isinstance(base, Bundle) else ""
        out = chosen.work / "bundles" / f"{variant} {kept_as(recipe, images)}{of_base}"
        print(f"{variant}: {_trained(variant, folders, settings, recipe, base, out).folder}")


def _trained(
    variant: str,
    folders: Sequence[Path],
    settings: Settings,
    recipe: Recipe,
    base: Literal["imagenet"] | Bundle,
    out: Path,
) -> Bundle:
    """Returns the bundle in `out`, which is trained if it is not there yet."""
    from bloodcell.presentation.progress import step_bars
    from bloodcell.training.bundle_training import train

    with step_bars() as tell:
        return made_once(
            out,
            lambda: train(
                variant,
                folders,
                settings,
                recipe=recipe,
                base=base,
                holdout_fraction=HOLDOUT_FRACTION,
                out=out,
                on_progress=tell,
            ),
        )


def not_held_out(folder: Path, settings: Settings) -> tuple[LabelledImage, ...]:
    """Returns the images that models may be trained and chosen with."""
    return tuple(
        image for image in read_image_folders(settings, folder).images if not is_held_out(image, HOLDOUT_FRACTION)
    )


def _drawn(folder: Path) -> Path:
    """Returns the folder of drawn cells; after an interruption they are drawn again, with the same bytes."""
    from bloodcell.drawing.drops import draw_folder

    if not folder.exists():
        with part_folder(folder) as part:
            draw_folder(part, cells_per_class=DRAWN_PER_CLASS, seed=DRAWN_SEED)
            part.rename(folder)
    return folder


if __name__ == "__main__":
    main()
