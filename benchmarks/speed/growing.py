"""Memory and time per cell of a small night and of one twenty times its size, with a tiny model."""

from __future__ import annotations

import time

from benchmarks.speed.classifying import seconds_per_cell
from benchmarks.speed.line import Line, alternately, ratio, shown
from benchmarks.speed.material import TINY, bundle_folder, write_small_night
from benchmarks.speed.place import Place, apart, peak_mib
from bloodcell.ingest import ingest_night
from bloodcell.registry.bundle import open_bundle
from bloodcell.registry.registered_models import register
from bloodcell.storage.connections import connect
from bloodcell.storage.store import Store


def sizes(place: Place) -> tuple[int, int]:
    return (200, 1_000) if place.quick else (1_000, 20_000)


def template(n_cells: int) -> str:
    return f"growing_{n_cells}"


def ingest(place: Place) -> list[Line]:
    """Ingests both nights, which `classify` then uses."""
    few, many = (apart(_ingested, place, n_cells) for n_cells in sizes(place))
    small, large = sizes(place)
    raw = f"{large:,}: {_figures(many)}; {small:,}: {_figures(few)}"
    return [
        Line(f"ingest, peak memory at {large:,} files", f"at {small:,}", many[0] / few[0], raw),
        Line(f"ingest, time per file at {large:,} files", f"at {small:,}", many[1] / few[1], raw),
    ]


def classify(place: Place) -> list[Line]:
    small, large = sizes(place)
    peaks: dict[int, list[float]] = {small: [], large: []}

    def side(n_cells: int) -> float:
        peak, seconds = apart(_classified, place, n_cells)
        peaks[n_cells].append(peak)
        return seconds

    of_small, of_large = alternately(1 if place.quick else 3, lambda: side(small), lambda: side(large))
    return [
        Line(
            f"classify, peak memory at {large:,} cells (tiny model)",
            f"at {small:,}",
            ratio(peaks[large], peaks[small]),
            f"MiB: {shown(peaks[large], digits=0)}; at {small:,}: {shown(peaks[small], digits=0)}",
            at_most=1.1,
        ),
        Line(
            f"classify, time per cell at {large:,} cells (tiny model)",
            f"at {small:,}",
            ratio(of_large, of_small),
            f"ms per cell: {shown(of_large, 1e3)}; at {small:,}: {shown(of_small, 1e3)}",
            at_most=1.1,
        ),
    ]


def _figures(figures: tuple[float, float]) -> str:
    return f"{figures[0]:,.0f} MiB, {figures[1] * 1e3:.2f} ms per file"


def _ingested(place: Place, n_cells: int) -> tuple[float, float]:
    settings = place.template(template(n_cells))
    night = write_small_night(settings.drops, n_cells)
    started = time.perf_counter()
    ingest_night(night, settings)
    return peak_mib(), (time.perf_counter() - started) / n_cells


def register_tiny(place: Place) -> None:
    bundle = open_bundle(bundle_folder(place, "vgg16_svm", TINY))
    for n_cells in sizes(place):
        settings = place.template(template(n_cells))
        with connect(str(settings.plain_database_url)).begin() as connection:
            register(connection, Store.of(settings), bundle, by="bench")


def _classified(place: Place, n_cells: int) -> tuple[float, float]:
    bundle = open_bundle(bundle_folder(place, "vgg16_svm", TINY))
    seconds = seconds_per_cell(place.fresh(template(n_cells)), [bundle])
    return peak_mib(), seconds
