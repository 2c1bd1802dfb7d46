"""A night of a million cells compared with one of ten thousand, through every stage, with a tiny model.

    python -m benchmarks.speed.million [--cells 1000000] [--results FILE]

Takes about an hour, and 12 GB while it runs. Writes MILLION.md beside this file; exit status 1 if memory or time per
cell grows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.speed.line import Line, as_markdown, as_table, machine
from benchmarks.speed.material import NIGHT, TINY, bundle_folder, write_small_night
from benchmarks.speed.place import Place, apart, measuring_place, peak_mib
from bloodcell.classify import classify_shard, plan_shards
from bloodcell.inbox.night_folders import night_of
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import open_bundle
from bloodcell.registry.promotion import promote
from bloodcell.registry.registered_models import register
from bloodcell.results import write_due_results
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.store import Store

SMALL = 10_000
RESULTS = Path(__file__).parent / "MILLION.md"


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.million", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    facts, lines, sizes = machine(), [], (SMALL, chosen.cells)
    with measuring_place(quick=False) as place:
        for n_cells in sizes:
            apart(_written, place, n_cells)
        for stage, work in STAGES.items():
            few, many = (apart(_measured, place, n_cells, work) for n_cells in sizes)
            for what, a, b, form in (
                ("peak memory", few[0], many[0], "{:,.0f} MiB"),
                ("ms per cell", few[1], many[1], "{:.3f}"),
            ):
                raw = f"{form.format(b)}; at {SMALL:,}: {form.format(a)}"
                lines.append(
                    Line(f"{stage}, {what} at {chosen.cells:,} cells", f"at {SMALL:,}", b / a, raw, at_most=1.1)
                )
                Console().print(lines[-1].what, raw)
    Console().print(as_table(lines))
    chosen.results.write_text(as_markdown(lines, facts).replace("make bench", "python -m benchmarks.speed.million"))
    return int(any(line.is_met is False for line in lines))


def _settings(place: Place, n_cells: int) -> Settings:
    return place.template(f"million_{n_cells}")


def _written(place: Place, n_cells: int) -> None:
    write_small_night(_settings(place, n_cells).drops, n_cells)


def _measured(place: Place, n_cells: int, work: Callable[[Place, Settings], None]) -> tuple[float, float]:
    """Returns the process's peak memory in MiB, and the milliseconds per cell of a stage."""
    settings = _settings(place, n_cells)
    started = time.perf_counter()
    work(place, settings)
    return peak_mib(), 1e3 * (time.perf_counter() - started) / n_cells


def _ingest(_place: Place, settings: Settings) -> None:
    ingest_night(settings.drops / NIGHT, settings)


def _classify(place: Place, settings: Settings) -> None:
    bundle, store = open_bundle(bundle_folder(place, "vgg16_svm", TINY)), Store.of(settings)
    with connect(str(settings.plain_database_url)).begin() as connection:
        register(connection, store, bundle, by="bench")
        promote(connection, store, bundle.model_id, by="bench", reason="to be measured", evidence={})
    for shard in plan_shards(settings, night=night_of(settings.drops / NIGHT, settings.night_pattern)):
        classify_shard(shard, settings)


def _add_up(_place: Place, settings: Settings) -> None:
    write_due_results(settings, night=night_of(settings.drops / NIGHT, settings.night_pattern))


STAGES: dict[str, Callable[[Place, Settings], None]] = {
    "ingest": _ingest,
    "classify": _classify,
    "differentials": _add_up,
}


if __name__ == "__main__":
    sys.exit(main())
