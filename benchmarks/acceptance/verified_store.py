"""How fast a store is verified, and that memory does not grow with it.

    python -m benchmarks.acceptance.verified_store 20000 100000 --folder FOLDER

Stores images of 4 kB with their rows, damages one in a thousand, and verifies the store in a process of its own, which
prints its speed and the largest memory that it needed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bloodcell.settings import Settings
from bloodcell.storage import tables
from bloodcell.storage.database import open_database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from bloodcell.storage.store import Store

IMAGE_BYTES: Final = 4_000
BATCH: Final = 5_000
VERIFY: Final = """
import resource, sys, time
from pathlib import Path
from bloodcell.settings import Settings
from bloodcell.verification import verify_store
settings = Settings(data_dir=Path(sys.argv[1]))
began = time.monotonic()
found = verify_store(settings)
took_s = time.monotonic() - began
mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
print(f"{found.n_objects:>9,} objects, {found.n_damaged:,} damaged: {took_s:.0f} s, "
      f"{found.n_objects / took_s:,.0f} objects/s, {mb:,.0f} MB at most")
"""


def main() -> None:
    """Verifies a store of each size, the smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the store is made; default: a temporary folder"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        settings = Settings(data_dir=Path(folder), shipped_models=False)
        server = embedded_database(settings)
        upgrade(server.url())
        before = 0
        for size in sorted(arguments.sizes):
            _fill(settings, range(before, size))
            before = size
            subprocess.run([sys.executable, "-c", VERIFY, folder], check=True)
        server.stop()


def _fill(settings: Settings, numbers: range) -> None:
    database, store = open_database(settings), Store.of(settings)
    began = time.monotonic()
    for start in range(numbers.start, numbers.stop, BATCH):
        rows = []
        for number in range(start, min(start + BATCH, numbers.stop)):
            body = random.Random(number).randbytes(IMAGE_BYTES)
            sha256 = hashlib.sha256(body).hexdigest()
            store.put_image(sha256, body if number % 1_000 else body[:100])
            rows.append({"sha256": sha256, "size_bytes": IMAGE_BYTES, "width_px": 1, "height_px": 1, "format": "PNG"})
        with database.begin() as connection:
            connection.execute(sa.insert(tables.image), rows)
    print(f"{numbers.stop:>9,} images stored ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
