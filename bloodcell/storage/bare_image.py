"""Removes everything from an image file that is not needed to decode its pixels, and changes no pixel.

What goes: EXIF, XMP, comments, colour profiles, previews, text, and bytes after the end of the image. The decoder uses
none of them, so a model sees the same pixels before and after.

JPEG and PNG are cut at the borders of their segments and chunks, which takes less time than hashing the file. BMP and
TIFF are written anew from their pixels: a TIFF can hide data anywhere, and its orientation is applied by the decoder.
"""

from __future__ import annotations

import io
import re
import zlib
from typing import TYPE_CHECKING, Final

from PIL import Image

from bloodcell.errors import UnusableFileError
from bloodcell.storage.decoding import decode

if TYPE_CHECKING:
    from bloodcell.storage.decoding import ImageBounds

_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A JPEG marker; within a scan, 0xFF is followed by 0x00 or by one of the restart markers D0 to D7.

Source: ITU-T T.81, B.1.1.5 and table B.1.
"""
_JPEG_START: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_START_OF_SCAN: Final = 0xDA
_DECODED_SEGMENTS: Final = frozenset({*range(0xC0, 0xCF + 1), 0xDA, 0xDB, 0xDD}) - {0xC8}
"""Frames, Huffman and arithmetic tables, scans, quantisation tables, restart intervals."""
_JFIF: Final = 0xE0
_ADOBE: Final = 0xEE

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


def without_metadata(body: bytes, image_format: str, bounds: ImageBounds) -> bytes:
    """Returns an image file with the same pixels and without metadata; the file itself if it has none.

    Doing it twice changes nothing.

    Args:
        body: A file that `bloodcell.storage.decoding.verify` accepts.
        image_format: Its format, as `verify` returns it.
        bounds: Within which the result has to be, too.

    Raises:
        UnusableFileError: With reason too_many_bytes, if a compressed TIFF is larger without its compression, or
            damaged, if data are wrong that the decoder does not check.
    """
    if image_format == "JPEG":
        bare = _bare_jpeg(body)
    elif image_format == "PNG":
        bare = _bare_png(body)
    else:
        bare = _written_anew(body, image_format, bounds)
    if len(bare) > bounds.max_file_bytes:
        raise UnusableFileError(
            "too_many_bytes", f"expected at most {bounds.max_file_bytes:,} bytes of pixels, received {len(bare):,}"
        )
    return bare


def _bare_jpeg(body: bytes) -> bytes:
    kept, position = [_JPEG_START], 2
    while (found := _NEXT_MARKER.search(body, position)) is not None:
        start, marker = found.start(), body[found.end() - 1]
        if body[start : start + 2] == _JPEG_END:
            kept.append(_JPEG_END)
            bare = b"".join(kept)
            return body if len(bare) == len(body) else bare  # pieces are left out or cut short, never changed
        position = start + 2 + int.from_bytes(body[start + 2 : start + 4])
        if marker == _START_OF_SCAN:
            end_of_scan = _NEXT_MARKER.search(body, position)
            position = end_of_scan.start() if end_of_scan else len(body)
        if marker in _DECODED_SEGMENTS:
            kept.append(body[start:position])
        elif marker in (_JFIF, _ADOBE):
            kept.append(_colour_segment(body[start:position]))
    raise UnusableFileError("damaged", "expected a JPEG that ends with an end marker, received none")


def _colour_segment(segment: bytes) -> bytes:
    """Returns the part of a segment that says how colours are coded, without a preview; empty if there is none.

    Source: ITU-T T.871 (JFIF), 10.1; libjpeg, jdmarker.c, examine_app0 and examine_app14.
    """
    if segment.startswith(b"JFIF\0", 4) and len(segment) >= 18:
        return b"\xff\xe0\0\x10" + segment[4:16] + b"\0\0"
    if segment.startswith(b"Adobe", 4) and len(segment) >= 16:
        return b"\xff\xee\0\x0e" + segment[4:16]
    return b""


def _bare_png(body: bytes) -> bytes:
    header, pixels, chunks, position = b"", [], [], len(_PNG_START)
    while position + 12 <= len(body):
        end = position + 12 + int.from_bytes(body[position : position + 4])
        kind = body[position + 4 : position + 8]
        if kind == b"IHDR":
            header = body[position:end]
        elif kind == b"IDAT":
            chunks.append(body[position:end])
            pixels.append(body[position + 8 : end - 4])
        elif kind == b"IEND":
            break
        position = end
    width, height = int.from_bytes(header[8:12]), int.from_bytes(header[12:16])
    stream = zlib.decompressobj()
    try:
        stream.decompress(b"".join(pixels), 2 * (3 * width + 1) * height)  # twice what interlacing needs
    except zlib.error as error:
        raise UnusableFileError("damaged", f"PNG pixels cannot be decoded: {error}") from error
    if stream.unused_data:  # bytes after the end of the pixels
        compressed = b"".join(pixels)[: -len(stream.unused_data)]
        chunks = [len(compressed).to_bytes(4) + b"IDAT" + compressed + zlib.crc32(b"IDAT" + compressed).to_bytes(4)]
    bare = b"".join((_PNG_START, header, *chunks, _PNG_END))
    return body if bare == body else bare


def _written_anew(body: bytes, image_format: str, bounds: ImageBounds) -> bytes:
    image = decode(body, bounds)
    bare, file = Image.new("RGB", image.size), io.BytesIO()
    bare.paste(image)
    bare.save(file, image_format)
    return file.getvalue()
