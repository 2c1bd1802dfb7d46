"""Measures everything, prints the table and writes RESULTS.md; exit status 1 if a target is missed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.speed import (
    classifying,
    exporting,
    growing,
    ingesting,
    labelling,
    sending,
    shipped,
    starting,
    training,
    writing,
)
from benchmarks.speed.line import Line, as_markdown, as_table, machine
from benchmarks.speed.place import Place, apart, measuring_place

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, no RESULTS.md: shows that everything runs")
    quick = parser.parse_args().quick
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    console = Console()
    facts, started = machine(), time.monotonic()
    lines = []
    with measuring_place(quick=quick) as place:
        for line in _measured(place):
            lines.append(line)
            console.print(
                f"[dim]{time.monotonic() - started:4.0f} s[/dim]  {line.what}: {line.cells[2]}  {line.target}"
            )
    console.print(as_table(lines))
    if not quick:
        RESULTS.write_text(as_markdown(lines, facts))
        console.print(f"Written: {RESULTS}")
    return int(any(line.is_met is False for line in lines))


def _measured(place: Place) -> Iterator[Line]:
    yield from apart(starting.starting, place)
    yield apart(ingesting.ingest, place)
    apart(classifying.prepare, place)
    for variant in ("inception_v3", "vgg16"):
        yield apart(classifying.end_to_end, place, variant)
    yield apart(classifying.four_variants, place)
    yield from apart(shipped.loading, place)
    yield from apart(shipped.forward, place)
    yield from growing.ingest(place)
    apart(growing.register_tiny, place)
    yield from growing.classify(place)
    yield from apart(writing.calls, place)
    yield from labelling.labelling(place)
    yield apart(sending.sending, place)
    yield from exporting.exporting(place)
    yield from apart(training.epochs, place)


if __name__ == "__main__":
    sys.exit(main())
