"""How much each choice of the fine-tuning contributes: short trainings that differ from the recipe in one thing.

    python -m benchmarks.accuracy.ablation_tuning IMAGES [--work FOLDER]

Models are trained on a part of the images and measured on another; images held out for `benchmarks.accuracy` are
in neither. Outputs are kept in WORK: a run that was killed resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.accuracy.measuring import Laboratory, evaluated, kept_as, made_once
from benchmarks.accuracy.models import not_held_out
from benchmarks.accuracy.shifts import SHIFTS
from bloodcell.cells.labelled_image import LabelledImage, TrainingSet, digest_of
from bloodcell.registry.bundle import Bundle
from bloodcell.registry.recipes import Augmentation, Recipe, Tuning, default_recipe
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_file, split_images
from tests.artefacts import a_few

VARIANT = "inception_v3"
N_EPOCHS = 3
N_TRAINED = 150
N_MEASURED = 100
"""Images per class."""

UNDER = (("as they are", ""), ("hue turned by", "+20°"), ("blurred, sigma", "2 px"), ("off centre by", "10%"))


def choices() -> dict[str, Recipe]:
    """Returns the name of each change -> the recipe with that change."""
    recipe = default_recipe(VARIANT)
    tuning = recipe.tuning
    assert tuning is not None
    assert tuning.augmentation is not None
    # only probabilities are measured, so there are no embedding layers, which would have to be frozen in every row
    recipe = replace(recipe, tuning=replace(tuning, deep_epochs=N_EPOCHS), embedding_layers=())
    no_stain = replace(tuning.augmentation, stain=0, shade=0, contrast=0, mixing=0, white=0, brightness=0)
    unchanged = Augmentation(rotation_deg=0, zoom=0, shift=0, stain=0, shade=0, brightness=0, degraded_share=0)

    def tuned(**changes: object) -> Recipe:
        assert isinstance(recipe.tuning, Tuning)
        return replace(recipe, tuning=replace(recipe.tuning, **changes))  # type: ignore[arg-type]

    return {
        "the recipe": recipe,
        "only mirrored, no other augmentation": tuned(augmentation=unchanged, mild_share=0.0),
        "no change of stain and light": tuned(augmentation=no_stain, mild_share=0.0),
        "all layers, not those above mixed2 only": tuned(cut_layer="pixels"),
        "no running mean of the weights": tuned(average_momentum=0.0),
        "no label smoothing": tuned(label_smoothing=0.0),
        "the whole image in as many pixels": replace(recipe, side_px=recipe.crop_px or 0, crop_px=None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.ablation_tuning", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--work", type=Path, default=Path("paper-work"))
    chosen = parser.parse_args()

    from bloodcell.presentation.progress import step_bars

    settings = Settings(data_dir=chosen.work / "data")
    pool = not_held_out(chosen.images, settings)
    trained = a_few(pool, N_TRAINED)
    others = set(pool) - set(trained)
    measured = a_few(tuple(image for image in pool if image in others), N_MEASURED)
    print(
        f"{VARIANT}, {N_EPOCHS} epochs on {N_TRAINED} images per class, accuracy in percent on {len(measured)} others:"
        f"\n\n| what is changed | {' | '.join(f'{kind} {strength}'.strip() for kind, strength in UNDER)} |\n"
        f"| --- |{' ---: |' * len(UNDER)}"
    )
    for what, recipe in choices().items():
        with step_bars() as tell:
            bundle = _trained(what, recipe, trained, chosen.work, settings, tell)
            laboratory = Laboratory([bundle], measured, measured, settings, chosen.work / "outputs", tell)
            row = [_accuracy(laboratory, bundle, kind, strength) for kind, strength in UNDER]
        print(f"| {what} | {' | '.join(row)} |", flush=True)


def _trained(
    what: str, recipe: Recipe, images: tuple[LabelledImage, ...], work: Path, settings: Settings, tell: object
) -> Bundle:
    from bloodcell.training.bundle_training import train

    out = work / "outputs" / f"ablation {what} {kept_as(recipe, images)}"
    training, validation = split_images(images, recipe.validation_fraction)
    together = TrainingSet(training, validation, digest_of(images), "for an ablation", False, read_file)
    return made_once(
        out,
        lambda: train(VARIANT, together, settings, recipe=recipe, out=out, on_progress=tell),  # type: ignore[arg-type]
    )


def _accuracy(laboratory: Laboratory, bundle: Bundle, kind: str, strength: str) -> str:
    shift = SHIFTS[kind][strength]
    name = f"{kind} {strength}".strip()
    outputs = laboratory.outputs(name, laboratory.images, lambda _, cell: shift(cell))
    return f"{100 * (evaluated(bundle, laboratory.images, outputs[bundle.model_id]).accuracy.value or 0):.1f}"


if __name__ == "__main__":
    main()
