"""Decodes one image file to RGB pixels within bounds, or raises an error that says why it cannot.

Ingest, training and serving all decode and resize here, so they cannot differ.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from bloodcell.errors import UnusableFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell.settings import ImageSettings

FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF")
# what Pillow's readers raised on 7,200 damaged files, and related errors
_DECODER_ERRORS: Final = (OSError, SyntaxError, ValueError, EOFError, TypeError, ArithmeticError, LookupError)
MAX_SCANS: Final = 32
"""Scans of a progressive JPEG. Encoders write about ten; a file of 2 MB with thousands took half a minute to decode."""
_START_OF_SCAN: Final = b"\xff\xda"
_OPAQUE: Final = 255
_OTHER_DEPTH: Final = re.compile(r"(?:RGB|BGR);1[56]")
# tags of TIFF 6.0, and markers of ITU-T T.81, table B.1
_BITS_PER_SAMPLE: Final = 258
_COMPRESSION: Final = 259
_SAMPLES_PER_PIXEL: Final = 277
_EXTRA_SAMPLES: Final = 338
_ALPHA: Final = {(1,), (2,)}  # associated and not, which is the same where it is opaque
_NO_FRAMES: Final = frozenset({0xC4, 0xC8, 0xCC})
_DECODED_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")


@dataclass(frozen=True, slots=True)
class ImageBounds:
    """The largest file, the largest number of pixels and the shortest side that a cell image may have."""

    max_file_bytes: int
    max_pixels: int
    min_side_px: int

    @classmethod
    def of(cls, settings: ImageSettings) -> ImageBounds:
        return cls(settings.max_file_bytes, settings.max_pixels, settings.min_side_px)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Format and size of an image file."""

    format: str
    width_px: int
    height_px: int


def decode(body: bytes, bounds: ImageBounds) -> Image.Image:
    """Returns the only frame of an image file, fully decoded.

    Args:
        body: The whole file.
        bounds: Bounds that are checked before any pixel is decoded.

    Returns:
        Image of mode RGB, 8 bits per channel. Grey, palette, CMYK and 16-bit images are refused, not converted: a
        stained cell is a colour image, and a conversion would guess. So is an image with a transparent pixel, whose
        colour nobody knows; an alpha channel that is opaque throughout says nothing and is dropped. The orientation in
        a JPEG's EXIF is ignored, as cells have no top; that of a TIFF is applied by Pillow.

    Raises:
        UnusableFileError: With reason empty, too_many_bytes, not_an_image, too_many_pixels, too_small, too_many_scans,
            several_frames, unsupported_colour, unsupported_coding, truncated or damaged.
    """
    return _loaded(_checked(body, bounds))


def verify(body: bytes, bounds: ImageBounds) -> ImageFacts:
    """Returns format and size of an image file after decoding all its data; refuses what `decode` refuses, and more.

    A JPEG of which the decoder says that data are corrupt is refused as well. Pillow ignores these warnings and returns
    pixels that are grey, shifted or of another image. The decoder makes grey pixels at an eighth of the size: it still
    reads every bit, and pixels that nobody uses are not computed.
    """
    image = _checked(body, bounds)
    if image.format == "JPEG":
        _verify_jpeg(body)
    else:
        _loaded(image)
    return ImageFacts(image.format or "", image.width, image.height)


def resized(image: Image.Image, height_px: int, width_px: int, field_px: float | None = None) -> NDArray[np.uint8]:
    """Returns `image` as uint8 (height_px, width_px, 3), RGB, scaled with an antialiased bilinear filter.

    Args:
        image: Mode RGB.
        height_px: Height of the result.
        width_px: Width of the result.
        field_px: Side of the square in the middle of the image that is scaled, in pixels of the image; an image that
            is smaller is continued by its mirror image. None: the whole image, whose aspect ratio is not kept, since
            analyser crops differ by a few pixels in height, and size must not reveal the class.
    """
    if field_px is not None:
        image, box = _with_field(image, field_px)
        return np.asarray(image.resize((width_px, height_px), Image.Resampling.BILINEAR, box))
    if image.size == (width_px, height_px):
        return np.asarray(image)
    return np.asarray(image.resize((width_px, height_px), Image.Resampling.BILINEAR))


def _with_field(image: Image.Image, field_px: float) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """Returns the image, continued by its mirror image where it is smaller than the field, and the field's borders."""
    lacking = [math.ceil(max(0.0, (field_px - side) / 2)) for side in (image.height, image.width)]
    if any(lacking):
        rows, columns = ((n, n) for n in lacking)
        image = Image.fromarray(np.pad(np.asarray(image), (rows, columns, (0, 0)), "symmetric"))
    left, top = ((side - field_px) / 2 for side in image.size)
    return image, (left, top, left + field_px, top + field_px)


def _checked(body: bytes, bounds: ImageBounds) -> Image.Image:
    """Returns the image after reading its header and checking that it is within the bounds."""
    if not body:
        raise UnusableFileError("empty", "expected an image, received 0 bytes")
    if len(body) > bounds.max_file_bytes:
        raise UnusableFileError(
            "too_many_bytes", f"expected at most {bounds.max_file_bytes:,} bytes, received {len(body):,}"
        )
    _refuse_unsupported_jpeg(body)
    image = _opened(body)
    _check(image, body, bounds)
    return image


def _loaded(image: Image.Image) -> Image.Image:
    """Returns the decoded image, without an alpha channel that is opaque throughout."""
    try:
        image.load()
    except _DECODER_ERRORS as error:
        reason = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise UnusableFileError(reason, f"{image.format} pixels cannot be decoded: {error}") from error
    if image.mode == "RGB":
        return image
    least = image.getextrema()[-1][0]  # type: ignore[index]  # of several channels
    if least < _OPAQUE:
        raise UnusableFileError("unsupported_colour", f"expected opaque pixels, received an alpha of {least}")
    return image.convert("RGB")


def _verify_jpeg(body: bytes) -> None:
    try:
        simplejpeg.decode_jpeg(body, "GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        reason = "truncated" if "premature end of jpeg file" in str(error).lower() else "damaged"
        raise UnusableFileError(reason, f"JPEG pixels cannot be decoded: {error}") from error


def _opened(body: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError as error:
        start = body[:8].hex(" ")
        _refuse_unsupported_tiff(body)
        if body.startswith(_SIGNATURES):
            raise UnusableFileError("damaged", f"image header cannot be read; the file starts with {start}") from error
        raise UnusableFileError(
            "not_an_image", f"expected {', '.join(FORMATS)}, received a file that starts with {start}"
        ) from error
    except Image.DecompressionBombError as error:
        raise UnusableFileError("too_many_pixels", str(error)) from error
    except _DECODER_ERRORS as error:
        raise UnusableFileError("damaged", f"image header cannot be read: {error}") from error


def _check(image: Image.Image, body: bytes, bounds: ImageBounds) -> None:
    width, height = image.size
    if width * height > bounds.max_pixels:
        raise UnusableFileError(
            "too_many_pixels", f"expected at most {bounds.max_pixels:,} pixels, received {width}x{height}"
        )
    if min(width, height) < bounds.min_side_px:
        raise UnusableFileError(
            "too_small", f"expected sides of at least {bounds.min_side_px} px, received {width}x{height}"
        )
    if (n_frames := _n_frames(image)) != 1:
        raise UnusableFileError("several_frames", f"expected one frame, received {n_frames}")
    if image.mode not in ("RGB", "RGBA"):
        raise UnusableFileError("unsupported_colour", f"expected 8-bit RGB, received mode {image.mode}")
    # Pillow would silently cut or widen such channels to 8 bits, and drop a fourth one
    if any(_OTHER_DEPTH.search(str(part.args)) for part in getattr(image, "tile", ())):
        raise UnusableFileError("unsupported_colour", "expected 8-bit RGB, received another number of bits per channel")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_other_channels(image.tag_v2)
    if image.format == "JPEG" and (n_scans := body.count(_START_OF_SCAN)) > MAX_SCANS:
        raise UnusableFileError("too_many_scans", f"expected at most {MAX_SCANS} scans, received {n_scans:,}")


def _n_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))  # reads a TIFF directory by directory
    except _DECODER_ERRORS as error:
        raise UnusableFileError("damaged", f"frames of the {image.format} cannot be counted: {error}") from error


def _refuse_unsupported_tiff(body: bytes) -> None:
    """Says what is not supported about an intact TIFF that Pillow cannot open; returns if that is not the reason."""
    if not body.startswith((b"II*\0", b"MM\0*")):
        return
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(body[:8])
        file = io.BytesIO(body)
        file.seek(tags.next)
        tags.load(file)
        compression = int(tags.get(_COMPRESSION, 1))
    except _DECODER_ERRORS:
        return
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise UnusableFileError(
            "unsupported_coding", f"expected a compression that Pillow reads, received TIFF compression {compression}"
        )
    _refuse_other_channels(tags)


def _refuse_other_channels(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    bits, n_channels = tags.get(_BITS_PER_SAMPLE, (1,)), tags.get(_SAMPLES_PER_PIXEL, 1)
    if set(bits) != {8} or not (n_channels == 3 or (n_channels == 4 and tags.get(_EXTRA_SAMPLES) in _ALPHA)):
        raise UnusableFileError(
            "unsupported_colour",
            f"expected RGB of 8 bits, received {n_channels} channels of {bits} bits",
        )


def _refuse_unsupported_jpeg(body: bytes) -> None:
    """Refuses a JPEG that is lossless or hierarchical, or has other than 8 bits; Pillow would call it damaged."""
    position = 2 if body.startswith(b"\xff\xd8") else len(body)
    while position + 5 <= len(body) and body[position] == 0xFF:
        marker, length = body[position + 1], int.from_bytes(body[position + 2 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            if marker not in _DECODED_FRAMES:
                raise UnusableFileError(
                    "unsupported_coding", f"expected a baseline or progressive JPEG, received one of SOF{marker - 0xC0}"
                )
            if (bits := body[position + 4]) != 8:
                raise UnusableFileError("unsupported_coding", f"expected 8 bits per channel, received a JPEG of {bits}")
            return
        position += 2 + length
