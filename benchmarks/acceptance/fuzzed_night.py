"""Ingests nights of generated nonsense: every file has to be accounted for once, and nothing may stop a night.

    python -m benchmarks.acceptance.fuzzed_night WORK [--records 10000] [--images 2000] [--seed 1]

Writes slides whose `slide.json` is random JSON, JSON that is almost right, or random bytes, and images that were cut,
zeroed, overwritten or given another header, between intact slides; ingests them into an embedded Postgres, twice.
Prints what became of the files, and ends with status 1 if a file is missing from the ledger or is there twice, an
intact slide lost a cell, or bloodcell met an error that it did not expect.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from PIL import Image

from bloodcell.drawing.cells import draw_cell
from bloodcell.ingest import ingest_night
from bloodcell.settings import Settings
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade

FIRST_NIGHT: Final = date(2026, 3, 2)
SLIDES_PER_NIGHT: Final = 2_500
TEXTS: Final = (
    *("", " ", "S1", "P-17", "Müller", "Smith, John", "1961-04-03", "\u202epatient", "a\u200bb", "\ufeffx", "\ud800"),
    *("\x00", "=1+1", "<script>", "'; DROP TABLE slide;--", "Ju\u0308rgen", "x" * 201, "\n", "\U0001f9ec", "%s", "{}"),
)
TIMES: Final = (
    *("2026-03-01T22:00:00+01:00", "2026-03-01T22:00:00+16:00", "2026-03-01T22:00:00-23:59", "2026-03-01", "now", ""),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "infinity", "-infinity"),
    *("2026-03-01T22:00:00", "2026-03-01T24:00:00Z", "2026-W09-7T00:00Z", "1e300", "2026-03-01T22:00:60Z", "epoch"),
)


class Nonsense:
    """Random values; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._images = [_encoded(form, number) for number, form in enumerate(("JPEG", "PNG", "BMP", "TIFF") * 4)]

    def value(self, depth: int = 0) -> Any:
        """Returns any JSON value."""
        draw = self._random
        kind = draw.randrange(9 if depth < 4 else 7)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(draw.randrange(4))]
        if kind == 8:
            return {draw.choice(TEXTS): self.value(depth + 1) for _ in range(draw.randrange(4))}
        number = draw.choice([0, -1, 2**63, 10**400, 1e308, float("nan"), float("inf"), 1_700_000_000])
        return (None, True, False, number, draw.choice(TEXTS), draw.choice(TIMES), draw.random())[kind]

    def record(self, barcode: str) -> bytes:
        """Returns the bytes of a slide.json."""
        draw = self._random
        record: Any = {
            "barcode": barcode,
            "order_id": f"A-{draw.randrange(10**6)}",
            "analyser": "DM-1",
            "patient_key": f"p-{draw.randrange(10**6):06x}",
            "acquired_at": draw.choice(TIMES) if draw.random() < 0.4 else TIMES[0],
        }
        for _ in range(draw.randrange(3)):
            name = draw.choice([*record, "Barcode", "PATIENT_KEY", "name", "birth_date", ""])
            record[name] = self.value() if draw.random() < 0.5 else draw.choice(TEXTS)
        if draw.random() < 0.1:
            record = self.value()
        body = json.dumps(record, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        if draw.random() < 0.05:
            body = b"[" * draw.choice([10, 3_000, 60_000]) + body
        if draw.random() < 0.05:
            body = body.decode("utf-8", "replace").encode(draw.choice(["utf-16", "latin-1", "utf-8-sig"]), "replace")
        return self.damaged(body) if draw.random() < 0.3 else body

    def image(self) -> bytes:
        """Returns the bytes of a damaged image."""
        return self.damaged(self._random.choice(self._images))

    def damaged(self, body: bytes) -> bytes:
        """Returns bytes of which some were cut off, zeroed, replaced, inserted or swapped."""
        draw = self._random
        start = draw.randrange(len(body) + 1)
        end = min(len(body), start + draw.choice([1, 4, 64, 1_024]))
        some = draw.randbytes(end - start)
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: body[:start],
            lambda: body[:start] + bytes(end - start) + body[end:],
            lambda: body[:start] + some + body[end:],
            lambda: body[:start] + some + body[start:],
            lambda: body[:start] + body[end:],
            lambda: some + body[len(some) :],
            lambda: draw.randbytes(len(body) // 4),
        )
        return draw.choice(ways)()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    settings = Settings(data_dir=arguments.work / "data", settle_s=0)
    server = embedded_database(settings)
    try:
        upgrade(server.url())
        return _run(settings, Nonsense(arguments.seed), arguments.records, arguments.images)
    finally:
        server.stop()


def _run(settings: Settings, nonsense: Nonsense, n_records: int, n_images: int) -> int:
    n_written, intact = _write(settings.drops, nonsense, n_records, n_images)
    n_bad = 0
    for attempt in ("first", "again"):
        started = time.monotonic()
        for folder in sorted(settings.drops.iterdir()):
            summary = ingest_night(folder, settings)
            for slide, error in summary.failed.items():
                n_bad += 1
                print(f"UNEXPECTED: {folder.name} {slide}: {error}")
        seconds = time.monotonic() - started
        with open_database(settings).connect() as connection:
            rows = connection.execute(
                sa.text("SELECT night, path, outcome, reason, barcode FROM bloodcell.file_account ORDER BY 1, 2")
            ).all()
            failed = connection.scalar(sa.text("SELECT count(*) FROM bloodcell.run WHERE state <> 'succeeded'"))
        outcomes = Counter(f"{row.outcome} {row.reason or ''}".strip() for row in rows)
        n_cells = Counter(row.barcode for row in rows if row.outcome == "cell")
        n_unexpected = sum(row.reason == "unexpected_error" for row in rows)
        lost = [barcode for barcode in intact if n_cells[barcode] != 1]
        print(
            f"{attempt}: {n_written:,} files, {len(rows):,} rows of the ledger, {failed} failed runs, {n_unexpected} "
            f"unexpected errors, {len(lost)} of {len(intact):,} intact slides lost a cell, {seconds:.0f} s"
        )
        for outcome, n in outcomes.most_common():
            print(f"  {outcome}: {n:,}")
        n_bad += (len(rows) != n_written) + failed + n_unexpected + len(lost)
    return 1 if n_bad else 0


def _write(drops: Path, nonsense: Nonsense, n_records: int, n_images: int) -> tuple[int, list[str]]:
    """Writes the nights; returns the number of files, and the barcodes of the intact slides."""
    n_written, intact = 0, []
    for number in range(n_records):
        night = drops / (FIRST_NIGHT + timedelta(days=number // SLIDES_PER_NIGHT)).isoformat()
        slide = night / f"F{number:05}"
        slide.mkdir(parents=True)
        (slide / "slide.json").write_bytes(nonsense.record(slide.name))
        (slide / "LY_1.png").write_bytes(_small(number))
        n_written += 2
        for image in range(number * n_images // n_records, (number + 1) * n_images // n_records):
            (slide / f"SNE_{image + 2}.{('jpg', 'png', 'bmp', 'tif')[image % 4]}").write_bytes(nonsense.image())
            n_written += 1
        if number % 50 == 0:
            whole = night / f"I{number:05}"
            whole.mkdir()
            (whole / "slide.json").write_text(json.dumps({"barcode": whole.name, "patient_key": f"p-{number}"}))
            (whole / "LY_1.png").write_bytes(_small(-1 - number))
            n_written += 2
            intact.append(whole.name)
    return n_written, intact


def _small(number: int) -> bytes:
    pixels = np.random.default_rng(number & 0xFFFFFFFF).integers(0, 256, (48, 48, 3), np.uint8)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def _encoded(form: str, number: int) -> bytes:
    body = io.BytesIO()
    options = {"progressive": True} if form == "JPEG" and number % 8 == 0 else {}
    Image.fromarray(draw_cell("neutrophil", np.random.default_rng(number))).save(body, form, **options)
    return body.getvalue()


if __name__ == "__main__":
    sys.exit(main())
