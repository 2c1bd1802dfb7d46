"""Shows a slide's differential on a terminal and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.markup import escape
from rich.text import Text

from bloodcell.cells.classes import CLASS_NAMES
from bloodcell.differential.reference_ranges import ADULT_RANGES, FLAG_NAMES, Flag
from bloodcell.differential.stored_differential import withdrawn_text
from bloodcell.presentation.json_documents import proportion_json
from bloodcell.presentation.numbers import NOTHING, counted, interval, moment, number, percent_with_interval
from bloodcell.presentation.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from bloodcell.cells.intervals import Proportion
    from bloodcell.differential.counting import LeucocyteShare
    from bloodcell.differential.stored_differential import SlideDifferential, SlideWithdrawal

NOT_A_DIAGNOSIS: Final = "Not a diagnosis: machine calls, for review by a qualified person."

_BAR_COLUMNS: Final = 40
_NUMBERS_COLUMNS: Final = 78
_FLAG_STYLES: Final = {"high": "bold red", "low": "bold red", "possibly_high": "yellow", "possibly_low": "yellow"}


def differential_table(read: SlideDifferential, width_columns: int) -> RenderableType:
    """Returns the differential as a table, with bars if they fit, warnings above it and its origin below."""
    slide = read.slide
    facts = (
        ("night", slide.night),
        ("order", slide.order_id),
        ("analyser", slide.analyser),
        ("patient", slide.patient_key),
        ("delivered as", slide.delivered_as),
    )
    title = f"[bold]Slide {escape(slide.barcode)}[/]" + "".join(
        f"  [dim]{name}[/] {escape(str(value))}" for name, value in facts if value is not None
    )
    return Group(
        Text.from_markup(title),
        *_warnings(read),
        "",
        _table(read, min(_BAR_COLUMNS, width_columns - _NUMBERS_COLUMNS)),
        "",
        *_notes(read),
    )


def bar(share: Proportion, columns: int) -> str:
    """Returns a bar of 0 to 100 %: full to the interval's lower end, a whisker to its upper end, a dot at the value."""
    if columns < 3 or share.value is None or share.lower is None or share.upper is None:
        return ""
    lower, value, upper = (round(part * (columns - 1)) for part in (share.lower, share.value, share.upper))
    drawn = ["█"] * lower + ["─"] * (upper - lower + 1)
    drawn[lower], drawn[upper] = "├", "┤"
    drawn[value] = "●"
    return "".join(drawn)


def differential_json(read: SlideDifferential) -> dict[str, object]:
    """Returns the differential as one JSON document; shares are in percent, with 95 % intervals."""
    slide, model, differential = read.slide, read.model, read.differential
    return {
        "barcode": slide.barcode,
        "night": slide.night.isoformat(),
        "order_id": slide.order_id,
        "analyser": slide.analyser,
        "patient_key": slide.patient_key,
        "acquired_at": slide.acquired_at.isoformat() if slide.acquired_at else None,
        "delivered_as": slide.delivered_as,
        "withdrawn": _withdrawal_json(slide.withdrawal) if slide.withdrawal else None,
        "n_cells": differential.n_cells,
        "n_leucocytes": differential.n_leucocytes,
        "is_sufficient": differential.is_sufficient,
        "leucocytes": [_share_json(line) for line in differential.leucocytes],
        "nrbc": {
            "n_cells": differential.nrbc.n_erythroblasts,
            "per_100_wbc": differential.nrbc.per_100_wbc,
            "lower_95": differential.nrbc.lower,
            "upper_95": differential.nrbc.upper,
            "flag": differential.nrbc.flag,
            "corrected_wbc_factor": differential.nrbc.corrected_wbc_factor,
        },
        "n_platelets": differential.n_platelets,
        "unclassified": proportion_json(differential.unclassified),
        "agreement_with_analyser": proportion_json(read.agreement),
        "n_waiting": read.n_waiting,
        "out_of_scope_codes": dict(read.out_of_scope_codes),
        "model": {"model_id": model.model_id, "variant": model.variant, "is_reported": read.is_reported},
        "run_id": str(read.run_id),
        "code_version": read.code_version,
        "written_at": read.written_at.isoformat(),
    }


def _withdrawal_json(withdrawal: SlideWithdrawal) -> dict[str, object]:
    return {
        "at": withdrawal.withdrawn_at.isoformat(),
        "reason": withdrawal.reason,
        "requested_by": withdrawal.requested_by,
        "renamed_to": withdrawal.renamed_to,
    }


def _share_json(line: LeucocyteShare) -> dict[str, object]:
    expected = ADULT_RANGES[line.cell_class]
    return {
        "class": line.cell_class,
        **proportion_json(line.share),
        "reference_range": [expected.lower, expected.upper],
        "flag": line.flag,
    }


def _warnings(read: SlideDifferential) -> list[Text]:
    warnings = [f"WITHDRAWN, do not use: {withdrawn_text(read.slide)}"] if read.slide.withdrawal else []
    warnings += [
        f'Earlier results under this barcode were withdrawn on {moment(earlier.withdrawn_at)}: "{earlier.reason}".'
        for earlier in read.slide.earlier
    ]
    if read.out_of_scope_codes:
        codes = ", ".join(f"{code} ({n})" for code, n in read.out_of_scope_codes)
        warnings.append(
            f"Look at these first: the analyser gave codes outside the eight classes, which no model can name: {codes}."
        )
    if not read.differential.is_sufficient:
        warnings.append(
            f"Insufficient count: too few leucocytes ({read.differential.n_leucocytes}) were counted to report "
            "percentages. Nothing is flagged."
        )
    if read.n_waiting:
        warnings.append(f"Incomplete: {counted(read.n_waiting, 'cell')} came later, not counted yet.")
    if not read.is_reported and not read.slide.withdrawal:
        warnings.append("Challenger: these calls are not the ones that are reported for this slide.")
    return [Text(f"! {warning}", style="bold yellow") for warning in warnings]


def _table(read: SlideDifferential, bar_columns: int) -> Table:
    differential = read.differential
    figures = ("cells", "%", "95 % interval", "reference")
    scale = "0 %" + "100 %".rjust(bar_columns - 3) if bar_columns > 8 else ""
    table = plain_table("", *figures, "", scale, right=figures)
    for line in differential.leucocytes:
        table.add_row(
            CLASS_NAMES[line.cell_class],
            str(line.share.n),
            number(line.share.percentage),
            interval(line.share.percentage_interval),
            ADULT_RANGES[line.cell_class].text,
            _flag(line.flag),
            Text(bar(line.share, bar_columns), style=_FLAG_STYLES[line.flag] if line.flag else "cyan"),
        )
    table.add_row(
        "Leucocytes", str(differential.n_leucocytes), "100" if differential.n_leucocytes else NOTHING, style="bold"
    )
    table.add_section()
    nrbc = differential.nrbc
    nrbc_interval = None if nrbc.lower is None or nrbc.upper is None else (nrbc.lower, nrbc.upper)
    table.add_row(
        "NRBC per 100 WBC",
        str(nrbc.n_erythroblasts),
        number(nrbc.per_100_wbc),
        interval(nrbc_interval),
        ADULT_RANGES["erythroblast"].text,
        _flag(nrbc.flag),
    )
    table.add_row("Platelet images", str(differential.n_platelets))
    unclassified = differential.unclassified
    table.add_row(
        "Unclassified of all",
        str(unclassified.n),
        number(unclassified.percentage),
        interval(unclassified.percentage_interval),
        style="yellow" if unclassified.n else "",
    )
    return table


def _notes(read: SlideDifferential) -> list[Text]:
    notes = []
    factor = read.differential.nrbc.corrected_wbc_factor
    if factor is not None and factor < 1:
        notes.append(f"Corrected WBC = WBC x {number(factor, 3)}, if the counter included erythroblasts.")
    agreement = read.agreement
    if agreement.value is not None:
        notes.append(
            f"The analyser's class agrees for {agreement.n} of {agreement.total} cells: "
            f"{percent_with_interval(agreement)}."
        )
    notes.append(
        f"Model {read.model.variant} {read.model.model_id[:12]}, written {moment(read.written_at)} "
        f"by bloodcell {read.code_version}, run {read.run_id}."
    )
    notes.append(NOT_A_DIAGNOSIS)
    return [Text(note, style="dim") for note in notes]


def _flag(flag: Flag | None) -> Text:
    return Text(FLAG_NAMES[flag], style=_FLAG_STYLES[flag]) if flag else Text("")
