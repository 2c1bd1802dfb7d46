"""A stored image has the pixels of the received one and nothing else."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from bloodcell.drawing.cells import draw_cell
from bloodcell.errors import UnusableFileError
from bloodcell.storage.bare_image import without_metadata
from bloodcell.storage.decoding import ImageBounds, decode, verify

BOUNDS = ImageBounds(max_file_bytes=1_000_000, max_pixels=400_000, min_side_px=32)
PIXELS = draw_cell("neutrophil", np.random.default_rng(3))
NAME = b"DOE JOHN 1970-01-01"
PREVIEW = Image.fromarray(PIXELS).resize((32, 32))


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = NAME.decode()
    found[0x0112] = 6  # turned by a quarter
    return found


def encoded(form: str, **options: object) -> bytes:
    body = io.BytesIO()
    Image.fromarray(PIXELS).save(body, form, **options)
    return body.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(payload) + 2).to_bytes(2) + payload


def chunk(kind: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + kind + payload + zlib.crc32(kind + payload).to_bytes(4)


def behind_start(body: bytes, *segments: bytes) -> bytes:
    return body[:2] + b"".join(segments) + body[2:]


def between_scans(body: bytes, piece: bytes) -> bytes:
    last = body.rindex(b"\xff\xc4")
    return body[:last] + piece + body[last:]


def png_text() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("Patient", NAME.decode())
    found.add_text("Patient2", NAME.decode(), zip=True)
    found.add_itxt("Patient3", NAME.decode())
    return found


def png(*chunks: bytes, behind: bytes = b"") -> bytes:
    body = encoded("PNG")
    return body[:33] + b"".join(chunks) + body[33:] + behind


def png_with_data_behind_the_pixels() -> bytes:
    raw = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    header = encoded("PNG")[:33]
    return header + chunk(b"IDAT", zlib.compress(raw) + NAME) + chunk(b"IEND", b"")


def tiff(**options: object) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = NAME.decode()
    tags[315] = NAME.decode()
    return encoded("TIFF", tiffinfo=tags, **options)


BMP_V5 = encoded("BMP")
JPEG = encoded("JPEG", quality=90)
PROGRESSIVE = encoded("JPEG", progressive=True)
ICC = segment(0xE2, b"ICC_PROFILE\0\1\1" + NAME)
FILES = {
    "exif that turns the image": encoded("JPEG", exif=exif()),
    "xmp": encoded("JPEG", xmp=b"<x:xmpmeta>" + NAME),
    "comment": encoded("JPEG", comment=NAME),
    "comment, progressive": encoded("JPEG", comment=NAME, progressive=True),
    "profile": behind_start(JPEG, ICC),
    "profile and comment, 4:4:4": behind_start(encoded("JPEG", subsampling=0, quality=95), ICC, segment(0xFE, NAME)),
    "every application segment": behind_start(
        JPEG, *(segment(marker, b"Made up\0" + NAME) for marker in range(0xE0, 0xF0))
    ),
    "preview in the JFIF segment": b"\xff\xd8"
    + segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\x20\x20" + PREVIEW.tobytes() + NAME)
    + JPEG[20:],
    "preview in a JFXX segment": behind_start(JPEG, segment(0xE0, b"JFXX\0\x10" + NAME)),
    "comment between scans": between_scans(PROGRESSIVE, segment(0xFE, NAME)),
    "exif between scans": between_scans(PROGRESSIVE, segment(0xE1, b"Exif\0\0" + NAME)),
    "number of lines that nobody reads": between_scans(PROGRESSIVE, segment(0xDC, NAME)),
    "restart markers": behind_start(encoded("JPEG", restart_marker_blocks=3), segment(0xFE, NAME)),
    "fill bytes": behind_start(JPEG, b"\xff\xff", segment(0xFE, NAME)),
    "image behind the end": JPEG + encoded("JPEG", comment=NAME),
    "text behind the end": JPEG + NAME,
    "RGB in an Adobe segment": behind_start(
        encoded("JPEG", keep_rgb=True), segment(0xFE, NAME), segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + NAME)
    ),
    "PNG text": encoded("PNG", pnginfo=png_text(), exif=exif(), dpi=(300, 300), icc_profile=NAME),
    "PNG with a made-up chunk": png(chunk(b"paTi", NAME), chunk(b"gAMA", bytes(4)), chunk(b"tRNS", bytes(6))),
    "PNG with a palette": png(chunk(b"PLTE", NAME[:18])),
    "PNG with text behind the end": png(behind=NAME),
    "PNG with text behind the pixels": png_with_data_behind_the_pixels(),
    "BMP with text behind the end": BMP_V5 + NAME,
    "BMP with a gap": BMP_V5[:10] + (54 + 19).to_bytes(4, "little") + BMP_V5[14:54] + NAME + BMP_V5[54:],
    "TIFF": tiff(),
    "TIFF, LZW": tiff(compression="tiff_lzw"),
    "TIFF, JPEG": tiff(compression="jpeg"),
    "TIFF that is turned": encoded("TIFF", exif=exif()),
}
CLEAN = {
    "JPEG": JPEG,
    "progressive": PROGRESSIVE,
    "4:4:4": encoded("JPEG", subsampling=0),
    "RGB": encoded("JPEG", keep_rgb=True),
    "restart markers": encoded("JPEG", restart_marker_blocks=3),
    "PNG": encoded("PNG"),
    "BMP": BMP_V5,
    "TIFF": encoded("TIFF"),
}


def pixels(body: bytes) -> np.ndarray:
    return np.asarray(decode(body, BOUNDS))


@pytest.mark.parametrize("body", FILES.values(), ids=FILES)
def test_metadata_goes_and_pixels_stay(body: bytes) -> None:
    facts = verify(body, BOUNDS)
    bare = without_metadata(body, facts.format, BOUNDS)
    assert bare != body
    assert NAME not in bare and NAME[:18] not in bare
    assert verify(bare, BOUNDS) == facts
    assert np.array_equal(pixels(bare), pixels(body))
    with Image.open(io.BytesIO(bare)) as image:
        assert not {"exif", "comment", "icc_profile", "xmp", "Patient", "photoshop"} & set(image.info)
        assert facts.format == "TIFF" or not image.getexif()
    assert without_metadata(bare, facts.format, BOUNDS) == bare


@pytest.mark.parametrize("body", CLEAN.values(), ids=CLEAN)
def test_a_file_without_metadata_stays_as_it_is(body: bytes) -> None:
    assert without_metadata(body, verify(body, BOUNDS).format, BOUNDS) == body


def test_the_orientation_in_a_jpegs_exif_was_never_applied() -> None:
    assert np.array_equal(pixels(FILES["exif that turns the image"]), pixels(encoded("JPEG")))


def test_a_tiff_that_is_too_large_without_its_compression_is_refused() -> None:
    flat = io.BytesIO()
    Image.new("RGB", (200, 200)).save(flat, "TIFF", compression="tiff_lzw")
    bounds = ImageBounds(max_file_bytes=100_000, max_pixels=400_000, min_side_px=32)
    with pytest.raises(UnusableFileError, match="too_many_bytes: expected at most 100,000 bytes of pixels"):
        without_metadata(flat.getvalue(), "TIFF", bounds)


@pytest.mark.parametrize("folder", ["pbc", "external"])
def test_real_images_keep_their_pixels(shared: Path, folder: str) -> None:
    files = sorted(path for path in (shared / folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    bounds = ImageBounds(max_file_bytes=20_000_000, max_pixels=4_000_000, min_side_px=32)
    n_cut = 0
    for path in files[:: max(len(files) // 60, 1)]:
        body = path.read_bytes()
        bare = without_metadata(body, "JPEG", bounds)
        assert np.array_equal(np.asarray(decode(body, bounds)), np.asarray(decode(bare, bounds))), path
        n_cut += bare != body
    assert folder != "pbc" or n_cut > 40  # the analyser's software wrote its name into a comment
