"""`verify` refuses the same files as `decode`, for the same reasons, though it does not compute every pixel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bloodcell.drawing.cells import draw_cell
from bloodcell.errors import UnusableFileError
from bloodcell.storage.decoding import ImageBounds, ImageFacts, decode, verify

BOUNDS = ImageBounds(max_file_bytes=200_000, max_pixels=400_000, min_side_px=32)


def encoded(form: str, **options: object) -> bytes:
    body = io.BytesIO()
    Image.fromarray(draw_cell("neutrophil", np.random.default_rng(3))).save(body, form, **options)
    return body.getvalue()


def verdict(judge: object, body: bytes) -> str:
    try:
        judge(body, BOUNDS)  # type: ignore[operator]
    except UnusableFileError as error:
        return str(error)
    return "usable"


def broken(body: bytes, rng: np.random.Generator) -> bytes:
    """Returns the file cut short, with bytes changed, or with a piece missing."""
    kind, place = rng.integers(3), int(rng.integers(len(body)))
    if kind == 0:
        return body[:place]
    if kind == 1:
        return body[:place] + body[place + int(rng.integers(1, 2_000)) :]
    changed = bytearray(body)
    for _ in range(int(rng.integers(1, 20))):
        changed[rng.integers(len(body))] = rng.integers(256)
    return bytes(changed)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_broken_jpeg_is_refused_by_verify_as_by_decode(options: dict[str, object]) -> None:
    body, rng = encoded("JPEG", **options), np.random.default_rng(11)
    files = [body, *(broken(body, rng) for _ in range(150))]
    verdicts = [verdict(verify, file) for file in files]
    assert verdicts == [verdict(decode, file) for file in files]
    assert verdicts[0] == "usable"
    assert {each.partition(":")[0] for each in verdicts} >= {"usable", "truncated", "damaged"}


def test_a_tiff_with_an_empty_second_directory_is_damaged() -> None:
    body = bytearray(encoded("TIFF", compression="tiff_lzw"))
    (directory,) = struct.unpack_from("<I", body, 4)
    (n_entries,) = struct.unpack_from("<H", body, directory)
    struct.pack_into("<I", body, directory + 2 + 12 * n_entries, len(body))
    body += struct.pack("<HI", 0, 0)
    with pytest.raises(UnusableFileError, match="damaged"):
        verify(bytes(body), ImageBounds(max_file_bytes=2_000_000, max_pixels=400_000, min_side_px=32))


def test_sixteen_bits_per_channel_are_refused_not_cut_to_eight() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(40 * (b"\0" + 40 * b"\x12\x34\x56\x78\x9a\xbc")))
    body = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    with pytest.raises(UnusableFileError, match="16 bits"):
        verify(body, BOUNDS)


def test_an_orientation_tag_does_not_rotate_the_pixels() -> None:
    turned = Image.Exif()
    turned[274] = 6  # orientation: rotate by 90 degrees for display
    assert decode(encoded("JPEG", exif=turned), BOUNDS).tobytes() == decode(encoded("JPEG"), BOUNDS).tobytes()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF"])
def test_verify_returns_the_full_size_of_the_image(form: str) -> None:
    bounds = ImageBounds(max_file_bytes=2_000_000, max_pixels=400_000, min_side_px=32)
    width, height = decode(encoded(form), bounds).size
    assert verify(encoded(form), bounds) == ImageFacts(form, width, height)
