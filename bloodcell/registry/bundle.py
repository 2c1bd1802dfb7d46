"""A bundle: a folder that holds one trained model with everything needed to run it and to account for it.

    <model id>/bundle.json      the manifest; its own sha256 is the model id
               model.keras      pixels in; calibrated probabilities, embedding and novelty out
               images.csv       digest, class and split of every image that the model was trained or validated on
               reference.npz    a sample of the model's outputs on the validation images, for drift checks
               rehearsal.npz    features of some training images, from which a laboratory's own head starts
               look.npz         how some of the images look, with which the images of each night are compared

The manifest has the digest of every other file, so the model id covers every byte of the bundle. Bundles of earlier
releases also hold the fitted scikit-learn pipeline of an SVM variant; it is verified and otherwise ignored.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from bloodcell.cells.classes import CELL_CLASSES
from bloodcell.cells.image_size import Size
from bloodcell.cells.variants import VARIANTS, title_of
from bloodcell.errors import BundleError
from bloodcell.registry.base_weights_record import BaseWeights
from bloodcell.registry.recipes import Recipe
from bloodcell.storage.atomic_write import make_durable, part_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bloodcell.cells.labelled_image import LabelledImage, TrainingSet

FORMAT_VERSION: Final = 1
MANIFEST: Final = "bundle.json"
MODEL: Final = "model.keras"
IMAGES: Final = "images.csv"

_MODEL_ID = re.compile(r"[0-9a-f]{64}")

# ranges outside of which a manifest is damaged or made to mislead; the reader refuses it
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Confidence = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]  # above 1, every cell is left unclassified
_Nats = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=2**31)]
CODE_PATTERN: Final = r"[A-Za-z0-9_-]{1,32}"
"""What a code of cells out of scope may look like: it is written to rows, pages and logs."""
_Code = Annotated[str, Field(pattern=f"^{CODE_PATTERN}$")]
_UmPerPx = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
_Turns = Annotated[int, Field(ge=1, le=8)]
_SidePx = Annotated[int, Field(ge=16, le=2_048)]
_FieldPx = Annotated[float, Field(ge=16, le=8_192, allow_inf_nan=False)]
_Temperature = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]
_Novelty = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class DataSplit:
    """Images that a model was trained and validated on.

    Attributes:
        dataset_digest: Identity of all the images and their labels.
        n_training: Images that weights were fitted on.
        n_validation: Images for early stopping, calibration, thresholds and the metrics.
        rule: How the images were split, in words.
    """

    dataset_digest: str
    n_training: _Count
    n_validation: _Count
    rule: str


@dataclass(frozen=True, slots=True)
class ValidationMetrics:
    """Figures on the validation images, slightly too good because these images also set temperature and thresholds.

    Attributes:
        accuracy: Share of cells whose most probable class is the true one.
        macro_sensitivity: Mean sensitivity over the classes, each cell given its most probable class.
        negative_log_likelihood: In nats, after calibration.
        uncalibrated_negative_log_likelihood: In nats, at temperature 1.
        coverage: Share of cells at or above the confidence threshold.
        covered_accuracy: Share of these cells that are called correctly; None if there are none.
        search_macro_sensitivity: For SVM variants, the macro sensitivity of the chosen SVM in cross-validation on the
            training images.
    """

    accuracy: _Share
    macro_sensitivity: _Share
    negative_log_likelihood: _Nats
    uncalibrated_negative_log_likelihood: _Nats
    coverage: _Share
    covered_accuracy: _Share | None
    search_macro_sensitivity: _Share | None = None


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What a bundle that was calibrated for a laboratory was calibrated on.

    Attributes:
        name: The laboratory, or one of its analysers.
        parent_id: The model whose network and learnt classes it has; of a committee, the first member's.
        members: Variants whose mean it is; empty: it is no committee.
        um_per_px: Micrometres per pixel, if they were given; None: the scale was estimated.
        n_labelled: Class, or code out of scope, -> labelled cells.
        n_slides: Slides of the labelled cells; 0 if they are not known.
        n_unlabelled: Further cells, of those that look like the labelled ones.
        red_cell_px: Diameter of red cells in the site's images, in pixels; None if there were too few.
        codes: Codes out of scope that it knows by name.
        verdict: What it may be used for, in sentences.
        may_be_used: Whether the verdict allows any class.
    """

    name: str
    parent_id: str
    n_labelled: dict[str, int]
    n_slides: _Count
    n_unlabelled: _Count
    red_cell_px: float | None
    codes: tuple[_Code, ...]
    verdict: tuple[str, ...]
    may_be_used: bool
    members: tuple[str, ...] = ()
    um_per_px: _UmPerPx | None = None


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """What a bundle records about its model.

    Attributes:
        format_version: Version of the bundle's layout.
        variant: One of `bloodcell.cells.variants.VARIANTS`.
        classes: Order of the probabilities.
        input_height_px: Height of the images that the model takes.
        input_width_px: Width of the images that the model takes.
        preprocessing: What the model does to the pixels, in words.
        base_weights: Weights that the training started from.
        data: Images that it was trained and validated on.
        seed: Seed of everything random in the training.
        recipe: How it was trained.
        choice: What the training chose (SVM kernel and C, or the epochs of each stage), in words.
        code_version: Version of bloodcell that trained it.
        git_commit: Commit of bloodcell that trained it, empty for an installed package.
        libraries: Versions of the libraries that it was trained with.
        metrics: Figures on the validation images.
        temperature: Divisor of the scores before the softmax.
        confidence_threshold: A cell with a lower confidence is left unclassified.
        novelty_threshold: A cell with a higher novelty is left unclassified.
        created_at: Time of the training, UTC, ISO 8601.
        files: File name -> sha256, of every file but the manifest.
        field_px: Side of the middle of an image that the model sees, in pixels of the image; None: all of it.
        site: The laboratory that it was calibrated for; None for a model of no laboratory in particular.
        turns: Turned and mirrored images of a cell whose probabilities are averaged; 1: the image as it is.
        turned_from: The model that it is a copy of, if it averages over turns.
    """

    format_version: int
    variant: str
    classes: tuple[str, ...]
    input_height_px: _SidePx
    input_width_px: _SidePx
    preprocessing: str
    base_weights: BaseWeights
    data: DataSplit
    seed: int
    recipe: Recipe
    choice: str
    code_version: str
    git_commit: str
    libraries: dict[str, str]
    metrics: ValidationMetrics
    temperature: _Temperature
    confidence_threshold: _Confidence
    novelty_threshold: _Novelty
    created_at: str
    files: dict[str, str]
    field_px: _FieldPx | None = None
    site: SiteRecord | None = None
    turns: _Turns = 1
    turned_from: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose every byte has been verified.

    Attributes:
        folder: Where it is.
        model_id: sha256 of its manifest.
        manifest: What it records about its model.
    """

    folder: Path
    model_id: str
    manifest: BundleManifest

    def __hash__(self) -> int:
        return hash(self.model_id)

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, after checking these very bytes: the file may have been replaced since.

        Args:
            name: A file of the manifest.

        Raises:
            BundleError: The file is missing, or altered.
        """
        try:
            body = (self.folder / name).read_bytes()
        except OSError as error:
            raise refused(self.folder, f"{name} cannot be read: {error.strerror}") from error
        if (received := hashlib.sha256(body).hexdigest()) != self.manifest.files[name]:
            raise refused(
                self.folder, f"{name} is altered: expected sha256 {self.manifest.files[name]}, received {received}"
            )
        return body

    @property
    def input_size(self) -> Size:
        """The size at which the model takes images."""
        return Size(self.manifest.input_height_px, self.manifest.input_width_px, self.manifest.field_px)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes out of scope that the model knows by name."""
        return self.manifest.site.codes if self.manifest.site else ()

    @property
    def title(self) -> str:
        """What the model is called in lists (`title_of`)."""
        members = self.manifest.site.members if self.manifest.site else ()
        return title_of(self.manifest.variant, members, self.manifest.turns)


def canonical_json(manifest: BundleManifest) -> bytes:
    """Returns the manifest in the form in which it is stored and hashed."""
    record = _adapter().dump_python(manifest, mode="json")
    return (json.dumps(record, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def file_digest(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(out: Path, manifest: BundleManifest, files: Mapping[str, Path]) -> Bundle:
    """Stores a bundle as `out/<model id>` and returns it; a kill leaves either the whole bundle or none.

    Args:
        out: Folder of bundles, created if missing.
        manifest: The manifest, whose `files` are filled in here.
        files: Name in the bundle -> file to copy.
    """
    manifest = replace(manifest, files={name: file_digest(path) for name, path in sorted(files.items())})
    body = canonical_json(manifest)
    model_id = hashlib.sha256(body).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    with part_folder(out / model_id) as part:
        part.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, part / name)
        (part / MANIFEST).write_bytes(body)
        for path in part.iterdir():
            make_durable(path)
        make_durable(part)
        if not (out / model_id).exists():
            part.rename(out / model_id)
            make_durable(out)
    return open_bundle(out / model_id)


def open_bundle(folder: Path) -> Bundle:
    """Returns the bundle in `folder` after verifying every digest; no model is loaded.

    Args:
        folder: A bundle. If its name is a model id, the manifest must have that id.

    Raises:
        BundleError: The manifest is missing, unreadable, or has another format or id; a file is missing, altered, or
            not in the manifest.
    """
    try:
        body = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise refused(folder, f"expected the file {MANIFEST}, received: {error.strerror}") from error
    model_id = hashlib.sha256(body).hexdigest()
    if _MODEL_ID.fullmatch(folder.name) and folder.name != model_id:
        raise refused(folder, f"{MANIFEST} is altered: expected sha256 {folder.name}, received {model_id}")
    manifest = _parsed(folder, body)
    _verify_files(folder, manifest.files)
    return Bundle(folder, model_id, manifest)


def write_image_list(path: Path, images: TrainingSet, earlier: Bundle | None = None) -> None:
    """Writes the images that a model was trained and validated on: sha256, class and split, sorted by digest.

    Args:
        path: Where to.
        images: Its images.
        earlier: The model that a warm start began with: what that has seen, the new one has seen, too.
    """
    rows: dict[str, str] = {}
    if earlier is not None and IMAGES in earlier.manifest.files:
        for row in earlier.read(IMAGES).decode().splitlines()[1:]:
            sha256, cell_class, _ = row.split(",")
            rows[sha256] = f"{sha256},{cell_class},training\n"
    for split, members in (("training", images.training), ("validation", images.validation)):
        rows |= {image.sha256: f"{image.sha256},{image.cell_class},{split}\n" for image in members}
    path.write_text("sha256,class,split\n" + "".join(rows[sha256] for sha256 in sorted(rows)))


def images_of(*bundles: Bundle) -> frozenset[str]:
    """Returns the digests of the images that any of the models was trained or validated on.

    A bundle without a list of images adds none.
    """
    return frozenset[str]().union(*(splits_of(bundle) for bundle in bundles if IMAGES in bundle.manifest.files))


def splits_of(bundle: Bundle) -> dict[str, str]:
    """Returns the digest of each image in a bundle's list -> `training` or `validation`, sorted by digest."""
    rows = (line.split(",") for line in bundle.read(IMAGES).decode().splitlines()[1:])
    return {sha256: split for sha256, _, split in rows}


def unseen_by(bundles: Sequence[Bundle], images: Sequence[LabelledImage]) -> tuple[LabelledImage, ...]:
    """Returns those `images` that none of the models was trained or validated on, in their order.

    Raises:
        BundleError: A bundle has no list of images.
    """
    for bundle in bundles:
        if IMAGES not in bundle.manifest.files:
            raise refused(bundle.folder, f"expected {IMAGES}: without it, nobody knows which images the model has seen")
    seen = images_of(*bundles)
    return tuple(image for image in images if image.sha256 not in seen)


@cache
def _adapter() -> TypeAdapter[BundleManifest]:
    return TypeAdapter(BundleManifest)


def _parsed(folder: Path, body: bytes) -> BundleManifest:
    try:
        record: Any = json.loads(body)
    except ValueError as error:
        raise refused(folder, f"{MANIFEST} is not JSON: {error}") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise refused(folder, f"expected format version {FORMAT_VERSION}, received {version!r}")
    try:
        manifest = _adapter().validate_json(body, strict=True, extra="forbid")
    except ValidationError as error:
        raise refused(folder, f"{MANIFEST} has wrong fields: {error}") from error
    if manifest.variant not in VARIANTS:
        raise refused(folder, f"expected a variant of {VARIANTS}, received {manifest.variant!r}")
    if manifest.classes != CELL_CLASSES:
        raise refused(folder, f"expected the classes {CELL_CLASSES}, received {manifest.classes}")
    return manifest


def _verify_files(folder: Path, expected: Mapping[str, str]) -> None:
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if missing := sorted((expected.keys() | {MODEL}) - present):
        raise refused(folder, f"files are missing: {', '.join(missing)}")
    if extra := sorted(present - expected.keys()):
        raise refused(folder, f"files are not in the manifest: {', '.join(extra)}")
    for name, digest in expected.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise refused(folder, f"{name} is not a plain file")
        if (received := file_digest(path)) != digest:
            raise refused(folder, f"{name} is altered: expected sha256 {digest}, received {received}")


def refused(folder: Path, what: str) -> BundleError:
    """Returns the error for a bundle that cannot be used."""
    return BundleError(
        f"Model bundle refused: {folder}: {what}. Restore the bundle from its source, or train again.",
        folder=str(folder),
    )
