"""Writes a night's folder for tests, file by file."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

NIGHT = date(2026, 11, 21)


def picture(seed: int, *, size: tuple[int, int] = (48, 50), form: str = "PNG", mode: str = "RGB") -> bytes:
    """Returns an image file that is unique to its seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image, body = Image.fromarray(pixels).convert(mode), io.BytesIO()
    if mode == "RGBA":
        image.putpixel((1, 1), (0, 0, 0, 0))  # an alpha that is opaque throughout is accepted
    image.save(body, form)
    return body.getvalue()


class NightFolder:
    """The folder `<drops>/<night>`."""

    def __init__(self, drops: Path, night: date = NIGHT) -> None:
        self.path = drops / night.isoformat()
        self.path.mkdir(parents=True)

    def write(self, path: str, body: bytes) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        return file

    def cell(self, slide: str, number: int, *, code: str = "SNE", seed: int | None = None) -> Path:
        return self.write(f"{slide}/{code}_{number:08d}.png", picture(number if seed is None else seed))

    def record(self, slide: str, **fields: object) -> Path:
        return self.write(f"{slide}/slide.json", json.dumps({"barcode": slide, **fields}).encode())

    def complete(self) -> None:
        (self.path / ".complete").touch()
