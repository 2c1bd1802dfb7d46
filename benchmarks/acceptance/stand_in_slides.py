"""Slides with cells that the champion does not know, through ingest, classification and result in a real database.

    python -m benchmarks.acceptance.stand_in_slides WORK SHARED [--study FOLDER] [--out STAND_IN_SLIDES.md]

SHARED holds pbc/<class>/*.jpg and external/. Slides of 120 leucocytes with a healthy adult's mix, of which 5 to 40 %
are stand-ins for blasts, coded as lymphocytes or monocytes. Each model gets an installation of its own, in which it is
the only model:

    the shipped champion       stand-ins are cells of two other laboratories (external/)
    a model without one class  stand-ins are cells of that class; the analyser codes them as lymphocytes

The calls of the second kind are compared with those of benchmarks.acceptance.stand_ins. FOLDER is the work folder of
that benchmark: with it, features are not computed again. All cells are of images that the model never saw. An image may
be on several slides: a comment of its own makes it another file with the same pixels. Took 18 minutes on two cores that
others used, too. Writes STAND_IN_SLIDES.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.acceptance.healthy_slides import healthy
from benchmarks.acceptance.honest_slides import CODES
from benchmarks.acceptance.stand_in_study import NOVELTIES, VARIANT, Study
from benchmarks.acceptance.stand_ins import own_table
from benchmarks.acceptance.three_ages import Bloodcell
from benchmarks.accuracy import without_class
from benchmarks.accuracy.measuring import Laboratory
from bloodcell.differential.reference_ranges import SURE_FLAGS
from bloodcell.presentation.numbers import percent
from bloodcell.registry.bundle import Bundle, unseen_by
from bloodcell.registry.shipped import shipped_bundles
from bloodcell.settings import Settings
from bloodcell.training.image_folders import read_image_folders

OUT: Final = Path(__file__).with_name("STAND_IN_SLIDES.md")
NIGHT: Final = "2026-11-23"
N_LEUCOCYTES: Final = 120
N_SLIDES: Final = 3
"""For each kind of stand-in and each share."""
SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.4)
OTHER_LABORATORIES: Final = (("raabin", "monocyte"), ("bccd", "lymphocyte"))
CALLED: Final = "SELECT barcode || '/' || file_name, called_class FROM bloodcell.cell_result"
LEFT_OUT: Final = ("ig", "erythroblast")
"""Classes that are not expected in a healthy mix, so that no healthy cell is of them."""


@dataclass(frozen=True)
class Kind:
    """A kind of stand-in.

    Attributes:
        name: What the table calls it.
        code: The analyser's code of the stand-ins.
        files: Their images.
    """

    name: str
    code: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class SlideOutcome:
    """What the database says of one slide.

    Attributes:
        unclassified_share: Of the leucocytes and the unclassified cells.
        withheld_for: Why it is withheld.
        named_for: Sure flags and review rules.
    """

    unclassified_share: float
    withheld_for: tuple[str, ...]
    named_for: tuple[str, ...]


def lay_out(
    drop: Path, kind: Kind, known: Mapping[str, Sequence[Path]], chance: np.random.Generator
) -> dict[str, Path]:
    """Writes the slides of one kind into a night's folder; returns barcode/file -> the image it was made from."""
    made = {}
    for share in SHARES:
        n_stand_ins = int(np.ceil(share * N_LEUCOCYTES - 1e-9))
        for number in range(N_SLIDES if n_stand_ins <= len(kind.files) else 0):
            counts = healthy(chance, (N_LEUCOCYTES - n_stand_ins, N_LEUCOCYTES - n_stand_ins))
            cells = [
                (CODES[name], known[name][place])
                for name, n in counts.items()
                if name in known
                for place in chance.choice(len(known[name]), n, replace=False)
            ]
            cells += [(kind.code, kind.files[i]) for i in chance.choice(len(kind.files), n_stand_ins, replace=False)]
            folder = drop / f"{kind.name.replace(' ', '-')}-{round(100 * share):02}-{number}"
            folder.mkdir(parents=True)
            for place, (code, path) in enumerate(cells):
                body = with_comment(path.read_bytes(), f"{folder.name} {place}")
                (folder / f"{code}_{place:04}.jpg").write_bytes(body)
                made[f"{folder.name}/{code}_{place:04}.jpg"] = path
            (folder / "slide.json").write_text(json.dumps({"barcode": folder.name, "age_years": 40}))
    return made


def with_comment(jpeg: bytes, text: str) -> bytes:
    """Returns a JPEG file with a comment behind its first marker: other bytes, the same pixels."""
    assert jpeg[:2] == b"\xff\xd8", "not a JPEG file"
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode("ascii") + jpeg[2:]


def reported(
    work: Path, bundle: Bundle, kinds: Sequence[Kind], known: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, SlideOutcome], list[tuple[Path, str]]]:
    """Returns the outcome of each slide by barcode, and each cell's image with the class that it was called.

    Args:
        work: Folder of an installation, in which the model becomes champion.
        bundle: The model.
        kinds: Stand-ins.
        known: Class -> images of it that the model has not seen.
    """
    bloodcell = Bloodcell(work, BLOODCELL_SHIPPED_MODELS="false")
    chance = np.random.default_rng(20)
    made: dict[str, Path] = {}
    for kind in kinds:
        made |= lay_out(work / "drops" / NIGHT, kind, known, chance)
    bloodcell("db", "upgrade")
    bloodcell("models", "register", str(bundle.folder))
    bloodcell("models", "promote", bundle.model_id, "--reason", "benchmark", "--by", "benchmark")
    bloodcell("ingest", str(work / "drops" / NIGHT))
    bloodcell("classify", "--night", NIGHT)
    barcodes = sorted({name.split("/")[0] for name in made})
    outcomes = {barcode: _outcome(json.loads(bloodcell("result", barcode, "--json"))) for barcode in barcodes}
    listed = bloodcell("db", "psql", "-A", "-t", "-F", ",", "-c", CALLED)
    called = [(made[name], cell_class) for name, cell_class in csv.reader(listed.splitlines())]
    assert len(called) == len(made), "a cell has no call"
    return outcomes, called


def _outcome(document: dict[str, Any]) -> SlideOutcome:
    version, unclassified = document["version"], document["unclassified"]
    flags = [f"{line['class']} {line['flag']}" for line in document["leucocytes"] if line["flag"] in SURE_FLAGS]
    return SlideOutcome(
        unclassified["n"] / unclassified["of"],
        tuple(version["withheld_for"]),
        (*flags, *version["review_for"]),
    )


def rows_of(model: str, kind: Kind, outcomes: Mapping[str, SlideOutcome]) -> list[list[str]]:
    """Returns a row for each share of stand-ins."""
    rows = []
    for share in SHARES:
        prefix = f"{kind.name.replace(' ', '-')}-{round(100 * share):02}-"
        found = [each for barcode, each in outcomes.items() if barcode.startswith(prefix)]
        if not found:  # too few images for this share
            continue
        why = Counter(
            reason for each in found for reason in (*(f"withheld: {one}" for one in each.withheld_for), *each.named_for)
        )
        rows.append(
            [
                model,
                kind.name,
                percent(share, 0),
                ", ".join(percent(each.unclassified_share, 0) for each in found),
                f"{sum(bool(each.withheld_for) for each in found)} of {len(found)}",
                f"{sum(bool(each.withheld_for or each.named_for) for each in found)} of {len(found)}",
                ", ".join(f"{reason} ({n})" for reason, n in why.most_common()) or "nothing",
            ]
        )
    return rows


def of_shipped(work: Path, shared: Path, settings: Settings) -> list[list[str]]:
    """Returns the rows of the shipped champion, with cells of other laboratories."""
    champion = shipped_bundles()[0]
    images = unseen_by([champion], read_image_folders(settings, shared / "pbc").images)
    known = {name: [image.path for image in images if image.cell_class == name] for name in CODES}
    kinds = [
        Kind(f"{source} {cell_class}", CODES[cell_class], _external(shared / "external", source, cell_class))
        for source, cell_class in OTHER_LABORATORIES
    ]
    outcomes, _ = reported(work / "shipped", champion, kinds, known)
    return [row for kind in kinds for row in rows_of(f"{champion.manifest.variant}, shipped", kind, outcomes)]


def _external(folder: Path, source: str, cell_class: str) -> tuple[Path, ...]:
    with (folder / "manifest.csv").open(newline="") as file:
        return tuple(
            folder / row["path"]
            for row in csv.DictReader(file)
            if (row["source"], row["class"]) == (source, cell_class)
        )


def of_left_out(work: Path, study: Study, left_out: str) -> tuple[list[list[str]], str]:
    """Returns the rows of a model without a class, and how many calls are those of the simulation."""
    like = study.laboratory.bundles[0]
    fitted = without_class.fit_without(left_out, study.pool, like.manifest.recipe)
    bundle = without_class.write_fitted(fitted, like, work / "bundles")
    held_out = study.held_out
    known = {
        name: [image.path for image in held_out.images if image.cell_class == name]
        for name in CODES
        if name != left_out
    }
    stand_ins = tuple(image.path for image in held_out.images if image.cell_class == left_out)
    kind = Kind(left_out, CODES["lymphocyte"], stand_ins)
    outcomes, called = reported(work / left_out, bundle, [kind], known)
    paths = [image.path for image in held_out.images]
    simulated = dict(zip(paths, study.calls(left_out, next(iter(NOVELTIES))).called, strict=True))
    n_same = sum(simulated[path] == cell_class for path, cell_class in called)
    return rows_of(f"{VARIANT} without {left_out}", kind, outcomes), f"{left_out} {n_same:,} of {len(called):,}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--study", type=Path, help="WORK of benchmarks.acceptance.stand_ins; default: a folder in WORK")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    settings = Settings(data_dir=given.work / "data")
    rows = of_shipped(given.work, given.shared, settings)
    bundles = [bundle for bundle in shipped_bundles() if bundle.manifest.variant == VARIANT]
    images = read_image_folders(settings, given.shared / "pbc").images
    kept = (given.study or given.work / "study") / "outputs"
    study = Study.of(Laboratory(bundles, images, (), settings, kept, lambda step, done, total: None))
    same = []
    for left_out in LEFT_OUT:
        of_class, as_simulated = of_left_out(given.work, study, left_out)
        rows += of_class
        same.append(as_simulated)
    head = ["model", "stand-ins", "share", "unclassified", "withheld", "withheld, flagged or named", "for"]
    text = "\n\n".join(
        [
            "# Slides with stand-ins, in a real database",
            f"Written by `python -m benchmarks.acceptance.stand_in_slides`, whose docstring describes the slides, on "
            f"{datetime.now(UTC):%Y-%m-%d}. {N_SLIDES} slides of {N_LEUCOCYTES} leucocytes for each row; unclassified: "
            "the share on each of them.",
            own_table(head, rows, right=(2,)),
            f"Calls in the database that are those of the simulation (STAND_INS.md): {'; '.join(same)}.",
        ]
    )
    given.out.write_text(f"{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
