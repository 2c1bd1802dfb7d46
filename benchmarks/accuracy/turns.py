"""How often models are right that look at a cell several times, turned and mirrored; writes TURNS.md.

    python -m benchmarks.accuracy.turns PBC EXTERNAL [--bundle FOLDER ...]

Images as in `laboratories`: those of the training's laboratory that no model has seen, and those of others. Each image
is shown in all eight turns once, and the first 1, 2, 4 and 8 are averaged, as `bloodcell models turn` does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binomtest

from benchmarks.accuracy.laboratories import parser_of, sets_of, unseen_of
from bloodcell.cells.intervals import proportion
from bloodcell.cells.labelled_image import LabelledImage
from bloodcell.inference.predicting import predict_all
from bloodcell.presentation.numbers import percent_with_interval
from bloodcell.registry.bundle import Bundle, open_bundle
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_changes import Turned
from bloodcell.training.image_folders import read_file
from bloodcell.training.turned_bundle import ORDER, TURNS

OUT = Path(__file__).parent / "TURNS.md"


def main() -> None:
    chosen = parser_of("turns", __doc__ or "", OUT).parse_args()

    from bloodcell.presentation.progress import step_bars

    settings = Settings(data_dir=chosen.work / "data")
    bundles = [open_bundle(folder) for folder in chosen.bundle] if chosen.bundle else shipped_bundles()
    sets = [unseen_of(chosen.pbc, bundles, settings), *sets_of(chosen.external, settings)]
    lines = [
        "# Turned and mirrored images",
        "",
        f"Written by `python -m benchmarks.accuracy.turns` on {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "Right by most probable class, with the exact 95 % interval. Corrected and new: errors of the image as it is "
        "that the mean does not make, and the reverse; p of an exact McNemar test. Each turn costs a forward pass.",
        "",
        "| images | model | turns | right | corrected | new | p |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    with step_bars() as tell:
        for name, images in sets:
            shown = [(image.image, turn) for turn in ORDER for image in images.labelled]
            found = predict_all(bundles, shown, _turned, settings, lambda d, t, name=name: tell(name, d, t))  # type: ignore[misc]
            truth = np.array([image.class_number for image in images.labelled])
            for bundle in bundles:
                probabilities = found[bundle.model_id].probabilities.reshape(len(ORDER), len(truth), -1)
                lines += _rows(name, bundle, probabilities, truth)
            chosen.out.write_text("\n".join([*lines, ""]))
    print(f"Written: {chosen.out}")


def _turned(shown: tuple[LabelledImage, int]) -> bytes:
    """Returns the image in a turn, as a file."""
    image, turn = shown
    body = read_file(image)
    if not turn:
        return body
    with Image.open(io.BytesIO(body)) as opened:
        pixels = Turned(turn)(np.asarray(opened.convert("RGB")), image.sha256)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=1)
    return png.getvalue()


def _rows(name: str, bundle: Bundle, probabilities: np.ndarray, truth: np.ndarray) -> Iterable[str]:
    """Yields the rows of one model; `probabilities` float (8, n, 8) of each turn."""
    as_it_is = probabilities[0].argmax(axis=1) == truth
    for turns in (1, *TURNS):
        right = probabilities[:turns].mean(axis=0).argmax(axis=1) == truth
        corrected, new = int((right & ~as_it_is).sum()), int((as_it_is & ~right).sum())
        p = binomtest(new, corrected + new).pvalue if corrected + new else 1.0
        shown = percent_with_interval(proportion(int(right.sum()), len(truth)))
        change = f"{corrected} | {new} | {p:.2f}" if turns > 1 else "| |"
        yield f"| {name} | {bundle.manifest.variant} | {turns} | {shown} | {change} |"


if __name__ == "__main__":
    main()
