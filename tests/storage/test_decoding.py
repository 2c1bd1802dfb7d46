"""`verify` refuses what `decode` refuses, and JPEG files that the decoder calls corrupt; intact ones pass."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bloodcell.drawing.cells import draw_cell
from bloodcell.errors import UnusableFileError
from bloodcell.storage.bare_image import without_metadata
from bloodcell.storage.decoding import ImageBounds, ImageFacts, decode, resized, verify

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
def test_a_broken_jpeg_is_refused_by_verify_if_by_decode(options: dict[str, object]) -> None:
    body, rng = encoded("JPEG", **options), np.random.default_rng(11)
    files = [body, *(broken(body, rng) for _ in range(150))]
    verdicts = [verdict(verify, file).partition(":")[0] for file in files]
    decoded = [verdict(decode, file).partition(":")[0] for file in files]
    assert verdicts[0] == decoded[0] == "usable"
    assert set(verdicts) >= {"usable", "truncated", "damaged"}
    assert not [pair for pair in zip(verdicts, decoded, strict=True) if pair[0] == "usable" and pair[1] != "usable"]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
@pytest.mark.parametrize("kind", ["zeroed", "foreign"])
def test_a_block_that_a_disk_lost_is_damage(options: dict[str, object], kind: str) -> None:
    body, rng = encoded("JPEG", **options), np.random.default_rng(5)
    first = body.index(b"\xff\xda") + 100
    reasons = []
    for _ in range(50):
        start = int(rng.integers(first, len(body) - 600))
        block = bytes(512) if kind == "zeroed" else rng.bytes(512)
        reasons.append(verdict(verify, body[:start] + block + body[start + 512 :]).partition(":")[0])
    assert reasons.count("usable") <= 1, reasons  # a foreign block may happen to be a valid one
    assert verdict(verify, body) == "usable"


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    body = encoded("JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    many = body[:last] + 3_000 * body[last:-2] + body[-2:]
    bounds = ImageBounds(max_file_bytes=100_000_000, max_pixels=400_000, min_side_px=32)
    for judge in (verify, decode):
        with pytest.raises(UnusableFileError, match="too_many_scans: expected at most 32 scans, received 3,0"):
            judge(many, bounds)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda body: body.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "received a JPEG of 12"),
        (lambda body: body.replace(b"\xff\xc0", b"\xff\xc3", 1), "received one of SOF3"),
    ],
)
def test_an_intact_jpeg_of_another_coding_is_unsupported_not_damaged(changed: object, why: str) -> None:
    body = encoded("JPEG")
    with pytest.raises(UnusableFileError, match=f"unsupported_coding: .*{why}"):
        verify(changed(body), BOUNDS)  # type: ignore[operator]


def tiff(*, bits: int = 8, channels: int = 3, planes: int = 1, compression: int = 1) -> bytes:
    """Returns an uncompressed TIFF of 40 x 40 pixels; extra channels are of no specified kind."""
    pixels = 40 * 40 * channels * bits // 8
    tags = {256: 40, 257: 40, 259: compression, 262: 2, 277: channels, 278: 40, 284: planes}
    n_strips = channels if planes == 2 else 1
    entries, extra = [], b""
    base = 8 + 2 + 12 * (len(tags) + 3 + (channels > 3)) + 4
    values: dict[int, tuple[int, ...]] = {tag: (value,) for tag, value in tags.items()}
    values[258] = (bits,) * channels
    if channels > 3:
        values[338] = (0,) * (channels - 3)
    values[279] = (pixels // n_strips,) * n_strips
    longs = {273, 279}
    size = base + sum(len(v) * (4 if t in longs else 2) for t, v in values.items() if len(v) * 2 > 4) + n_strips * 4
    values[273] = tuple(size + number * pixels // n_strips for number in range(n_strips))
    for tag, found in sorted(values.items()):
        form = "I" if tag in longs else "H"
        packed = struct.pack(f"<{len(found)}{form}", *found)
        if len(packed) > 4:
            entries.append(struct.pack("<HHII", tag, 4 if tag in longs else 3, len(found), base + len(extra)))
            extra += packed
        else:
            entries.append(struct.pack("<HHI", tag, 4 if tag in longs else 3, len(found)) + packed.ljust(4, b"\0"))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + extra
    return head.ljust(size, b"\0") + np.random.default_rng(1).bytes(pixels)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(("bits", "channels"), [(16, 3), (16, 4), (8, 4)])
def test_a_tiff_of_other_channels_or_bits_is_refused_not_cut(bits: int, channels: int, planes: int) -> None:
    assert verdict(verify, tiff()) == verdict(decode, tiff()) == "usable"
    for judge in (verify, decode):
        assert verdict(judge, tiff(bits=bits, channels=channels, planes=planes)).startswith("unsupported_colour: ")


def test_a_field_smaller_than_the_image_is_its_middle() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert np.array_equal(resized(Image.fromarray(pixels), 40, 40, 40.0), pixels[10:50, 20:60])


def test_a_field_larger_than_the_image_continues_with_its_mirror_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    seen = resized(Image.fromarray(pixels), 80, 80, 80.0)
    assert np.array_equal(seen[10:70, 10:70], pixels)
    assert np.array_equal(seen[:10, 10:70], pixels[9::-1])


def test_images_of_one_field_at_two_scales_look_alike() -> None:
    cell = Image.fromarray(draw_cell("monocyte", np.random.default_rng(3)))
    half = cell.resize((cell.width // 2, cell.height // 2), Image.Resampling.BOX)
    large, small = (resized(cell, 90, 90, 200.0), resized(half, 90, 90, 100.0))
    assert np.abs(large.astype(int) - small).mean() < 2


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_pixel_refused(form: str, options: dict[str, str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    pixels[..., 3] = 255
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, form, **options)
    assert verify(body.getvalue(), BOUNDS).format == form
    assert np.array_equal(np.asarray(decode(body.getvalue(), BOUNDS)), pixels[..., :3])
    bare = without_metadata(body.getvalue(), form, BOUNDS)
    assert np.array_equal(np.asarray(decode(bare, BOUNDS)), pixels[..., :3])

    pixels[7, 3, 3] = 254
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, form, **options)
    for judge in (verify, decode):
        assert verdict(judge, body.getvalue()) == "unsupported_colour: expected opaque pixels, received an alpha of 254"


@pytest.mark.parametrize("compression", [33003, 33005, 34712])
def test_a_tiff_with_jpeg_2000_is_unsupported_not_damaged(compression: int) -> None:
    assert verdict(verify, tiff(compression=compression)) == (
        f"unsupported_coding: expected a compression that Pillow reads, received TIFF compression {compression}"
    )


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
    with pytest.raises(UnusableFileError, match="another number of bits per channel"):
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
