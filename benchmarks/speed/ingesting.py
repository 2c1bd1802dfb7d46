"""Times ingest, from a night to rows, against a loop on two cores that only reads, hashes and verifies the files."""

from __future__ import annotations

import hashlib
import io
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median

from PIL import Image

from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.material import cell_images, write_night
from benchmarks.speed.place import Place
from bloodcell.ingest import ingest_night


def ingest(place: Place) -> Line:
    n_files = 200 if place.quick else 2_000
    night = write_night(place.folder / "ingesting", cell_images(place, n_files))
    files = sorted(night.glob("*/*.jpg"))
    _with_threads(files)  # every side reads from the page cache

    def ingested() -> float:
        settings = place.fresh()
        started = time.perf_counter()
        summary = ingest_night(night, settings)
        if summary.n_cells != n_files:
            raise ValueError(f"Expected {n_files} cells. Received: {summary}.")
        return time.perf_counter() - started

    file_us = place.file_us()
    of_threads, of_processes, of_ingest = alternately(
        1 if place.quick else 5, lambda: _with_threads(files), lambda: _with_processes(files), ingested
    )
    faster, name = min((of_threads, "threads"), (of_processes, "processes"), key=lambda side: median(side[0]))
    return Line(
        f"ingest, {n_files:,} images",
        f"only read, hash and verify with Pillow, two {name}",
        ratio(faster, of_ingest),
        f"s: {shown(of_ingest)}; two threads: {shown(of_threads)}; two processes: {shown(of_processes)}; "
        f"creating a file took {file_us:.0f} us before",
        at_least=0.7,
    )


def _verified(file: Path) -> str:
    body = file.read_bytes()
    Image.open(io.BytesIO(body)).load()
    return hashlib.sha256(body).hexdigest()


def _with_threads(files: list[Path]) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(_verified, files))
    return time.perf_counter() - started


def _with_processes(files: list[Path]) -> float:
    with ProcessPoolExecutor(2) as processes:
        list(processes.map(_verified, files[:2]))  # both are up before the clock starts
        started = time.perf_counter()
        list(processes.map(_verified, files, chunksize=32))
        return time.perf_counter() - started
