"""Shows a slide's result on a terminal and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.markup import escape
from rich.text import Text

from bloodcell.cells.classes import CLASS_NAMES, CODES_OUT_OF_SCOPE
from bloodcell.differential.laboratory_rules import age_text
from bloodcell.differential.reference_ranges import FLAG_NAMES, Flag
from bloodcell.presentation.json_documents import proportion_json
from bloodcell.presentation.numbers import NOTHING, counted, interval, moment, number, percent_with_interval
from bloodcell.presentation.tables import plain_table
from bloodcell.results.judging import reason_names
from bloodcell.results.stored_result import withdrawn_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from bloodcell.cells.intervals import Proportion
    from bloodcell.differential.counting import LeucocyteShare
    from bloodcell.differential.laboratory_rules import ReferenceRange
    from bloodcell.results.stored_result import ResultVersion, SlideResult, SlideWithdrawal

NOT_A_DIAGNOSIS: Final = "Not a diagnosis: machine calls, for review by a qualified person."

_BAR_COLUMNS: Final = 40
_NUMBERS_COLUMNS: Final = 78
_BOUNDS_COLUMNS: Final = 14
_WBC_COLUMNS: Final = 8
_FLAG_STYLES: Final = {"high": "bold red", "low": "bold red", "possibly_high": "yellow", "possibly_low": "yellow"}


def result_table(read: SlideResult, width_columns: int) -> RenderableType:
    """Returns the result as a table, with bars if they fit, state and warnings above it and its origin below."""
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
        Text(state_text(read), style="bold red" if read.is_withheld or read.superseding else "bold"),
        *_warnings(read),
        "",
        _table(read, width_columns),
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


def line_name(cell_class: str) -> str:
    """Returns what people call a line of a differential: a class, or a code with its meaning."""
    meaning = CODES_OUT_OF_SCOPE.get(cell_class)
    return CLASS_NAMES.get(cell_class, cell_class.capitalize()) if meaning is None else f"{cell_class} {meaning}"


def state_text(read: SlideResult) -> str:
    """Returns the state of a result in one line."""
    version = read.version
    if version is None:
        return "Count of a challenger: not reported."
    by = f" by {version.signed_by}" if version.signed_by else ""
    meaning = {
        "machine": "machine result, nobody has reviewed it",
        "withheld": "WITHHELD, percentages are not to be used before a person has looked: "
        + ", ".join(reason_names(version.withheld_for, ()).values()),
        "final": f"final, signed{by}",
        "amended": f"amended, signed again{by}",
        "corrected": f"corrected, signed again{by}",
    }[version.state]
    after = read.superseding
    until = f". SUPERSEDED by version {after.number} ({after.state}) on {moment(after.made_at)}" if after else ""
    return f"Version {version.number} of {len(read.versions)}, {moment(version.made_at)}: {meaning}{until}"


def result_json(read: SlideResult) -> dict[str, object]:
    """Returns the result as one JSON document; shares are in percent, with 95 % intervals."""
    slide, model, differential, facts = read.slide, read.model, read.differential, read.facts
    return {
        "barcode": slide.barcode,
        "night": slide.night.isoformat(),
        "order_id": slide.order_id,
        "analyser": slide.analyser,
        "patient_key": slide.patient_key,
        "acquired_at": slide.acquired_at.isoformat() if slide.acquired_at else None,
        "age_months": facts.age_months,
        "sex": facts.sex,
        "delivered_as": slide.delivered_as,
        "withdrawn": _withdrawal_json(slide.withdrawal) if slide.withdrawal else None,
        "version": version_json(read.version) if read.version else None,
        "waiting_version": version_json(read.waiting_version) if read.waiting_version else None,
        "notices": attention(read),
        "n_cells": differential.n_cells,
        "n_leucocytes": differential.n_leucocytes,
        "is_sufficient": differential.is_sufficient,
        "loinc_panel": read.rules.loinc.code_of("panel"),
        "leucocytes": [_share_json(read, line) for line in differential.leucocytes],
        "other_leucocytes": [_share_json(read, line) for line in differential.other_leucocytes],
        "nrbc": {
            "loinc": read.rules.loinc.code_of("erythroblast"),
            "n_cells": differential.nrbc.n_erythroblasts,
            "per_100_wbc": differential.nrbc.per_100_wbc,
            "lower_95": differential.nrbc.lower,
            "upper_95": differential.nrbc.upper,
            "flag": differential.nrbc.flag,
            "corrected_wbc_factor": differential.nrbc.corrected_wbc_factor,
        },
        "wbc": {
            "received_10e9_per_l": facts.wbc_10e9_per_l,
            "is_corrected": facts.wbc_is_corrected,
            "used_10e9_per_l": differential.wbc_10e9_per_l,
            "was_corrected": differential.wbc_was_corrected,
        },
        "n_platelets": differential.n_platelets,
        "unclassified": proportion_json(differential.unclassified),
        "n_contested": differential.n_contested,
        "not_leucocytes": dict(differential.not_leucocytes),
        "undecided": dict(differential.undecided),
        "agreement_with_analyser": proportion_json(read.agreement),
        "n_waiting": read.n_waiting,
        "model": {
            "model_id": model.model_id,
            "variant": model.variant,
            "title": model.title,
            "is_reported": read.is_reported,
        },
        "rules": {"version": read.rules.version, "digest": read.rules_digest},
        "run_id": str(read.run_id),
        "code_version": read.code_version,
        "written_at": read.written_at.isoformat(),
    }


def version_json(version: ResultVersion) -> dict[str, object]:
    """Returns a version as a JSON document."""
    return {
        "number": version.number,
        "state": version.state,
        "made_at": version.made_at.isoformat(),
        "signed_by": version.signed_by,
        "reason": version.reason,
        "why": version.why,
        "withheld_for": list(version.withheld_for),
        "review_for": list(version.review_for),
        "digest": version.digest,
        "in_force_from": version.in_force_from.isoformat() if version.in_force_from else None,
        "in_force_until": version.in_force_until.isoformat() if version.in_force_until else None,
    }


def versions_table(read: SlideResult) -> Table:
    """Returns all versions of the slide's result as a table."""
    table = plain_table("version", "made at", "state", "by", "why", "", right=("version",), wrapped=("why",))
    for version in read.versions:
        counts = "counts now" if version.is_in_force else "waits for a signature" if not version.in_force_from else ""
        why = f'{version.why}: "{version.reason}"' if version.reason else version.why
        table.add_row(
            str(version.number),
            moment(version.made_at),
            version.state,
            Text(version.signed_by or "run"),
            Text(why),
            counts,
        )
    return table


def _withdrawal_json(withdrawal: SlideWithdrawal) -> dict[str, object]:
    return {
        "at": withdrawal.withdrawn_at.isoformat(),
        "reason": withdrawal.reason,
        "requested_by": withdrawal.requested_by,
        "renamed_to": withdrawal.renamed_to,
    }


def _share_json(read: SlideResult, line: LeucocyteShare) -> dict[str, object]:
    expected = _expected(read).get(line.cell_class)
    return {
        "class": line.cell_class,
        "loinc": read.rules.loinc.code_of(line.cell_class),
        **proportion_json(line.share),
        "bounds": line.percentage_bounds,
        "absolute_10e9_per_l": line.absolute[0] if line.absolute else None,
        "absolute_interval_95": line.absolute[1:] if line.absolute else None,
        "reference_range": [expected.low, expected.high] if expected else None,
        "reference_source": read.rules.source_of(expected) if expected else None,
        "flag": line.flag,
        "n_labelled": line.n_labelled,
        "n_unverified": line.n_unverified,
    }


def _expected(read: SlideResult) -> dict[str, ReferenceRange]:
    return read.rules.ranges_for(read.facts.age_months, read.facts.sex)


def _warnings(read: SlideResult) -> list[Text]:
    warnings = [f"WITHDRAWN, do not use: {withdrawn_text(read.slide)}"] if read.slide.withdrawal else []
    warnings += [
        f'Earlier results under this barcode were withdrawn on {moment(earlier.withdrawn_at)}: "{earlier.reason}".'
        for earlier in read.slide.earlier
    ]
    return [Text(f"! {warning}", style="bold yellow") for warning in [*warnings, *attention(read)]]


def attention(read: SlideResult) -> list[str]:
    """Returns what a person has to know before the numbers, one sentence each."""
    differential, version, waiting = read.differential, read.version, read.waiting_version
    said = []
    if waiting is not None:
        said.append(
            f"Differs from what was signed: version {waiting.number} of {moment(waiting.made_at)} waits for a "
            f"signature ({waiting.why}). Next: bloodcell result {read.slide.barcode} --version {waiting.number}"
        )
        if named := ", ".join(reason_names(waiting.withheld_for, waiting.review_for).values()):
            what = "withheld" if waiting.withheld_for else "for review"
            said.append(f"Version {waiting.number} is {what}: {named}.")
    if version is not None and version.review_for:
        when = "Before it was signed, this result was for review" if version.is_signed else "For review"
        said.append(f"{when}: {', '.join(reason_names((), version.review_for).values())}.")
    if differential.n_unverified:
        codes = ", ".join(
            f"{line_name(line.cell_class)} ({line.n_unverified})"
            for line in differential.other_leucocytes
            if line.n_unverified
        )
        said.append(f"Look at these first, only the analyser's code names them: {codes}.")
    if differential.n_contested:
        said.append(f"People disagree on {counted(differential.n_contested, 'cell')}, which nobody has settled yet.")
    if not differential.is_sufficient:
        said.append(
            f"Insufficient count: {counted(differential.n_leucocytes, 'leucocyte')}, fewer than "
            f"{read.rules.sufficient_leucocytes}. The intervals say how little is known."
        )
    if read.facts.age_months is None:
        said.append("The age is unknown: flags are by the ranges of adults.")
    if read.n_waiting:
        said.append(f"Incomplete: {counted(read.n_waiting, 'cell')} came later, not counted yet.")
    return said


def _table(read: SlideResult, width_columns: int) -> Table:
    differential, expected = read.differential, _expected(read)
    has_wbc = differential.wbc_10e9_per_l is not None
    has_bounds = bool(differential.unclassified.n) and width_columns >= _NUMBERS_COLUMNS + _BOUNDS_COLUMNS
    bar_columns = min(
        _BAR_COLUMNS, width_columns - _NUMBERS_COLUMNS - _BOUNDS_COLUMNS * has_bounds - _WBC_COLUMNS * has_wbc
    )
    figures = ("cells", "%", "95 % interval", *["worst case"][:has_bounds], *["10⁹/l"][:has_wbc], "reference")
    scale = "0 %" + "100 %".rjust(bar_columns - 3) if bar_columns > 8 else ""
    table = plain_table("", *figures, "", scale, right=figures)

    def row(name: str, *cells: str | Text, bounds: str = "", absolute: str = "", style: str = "") -> None:
        shown = (*cells[:3], *[bounds][:has_bounds], *[absolute][:has_wbc], *cells[3:])
        table.add_row(Text(name), *shown, style=style)

    for line in (*differential.leucocytes, *differential.other_leucocytes):
        row(
            line_name(line.cell_class) + (", unverified" if line.n_unverified else ""),
            str(line.share.n),
            number(line.share.percentage),
            interval(line.share.percentage_interval),
            expected[line.cell_class].text if line.cell_class in expected else "",
            _flag(line.flag),
            Text(bar(line.share, bar_columns), style=_FLAG_STYLES[line.flag] if line.flag else "cyan"),
            bounds=interval(line.percentage_bounds),
            absolute=number(line.absolute[0], 2) if line.absolute else NOTHING,
        )
    total = "100" if differential.n_leucocytes else NOTHING
    row(
        "Leucocytes",
        str(differential.n_leucocytes),
        total,
        "",
        absolute=number(differential.wbc_10e9_per_l, 2),
        style="bold",
    )
    table.add_section()
    nrbc = differential.nrbc
    row(
        "NRBC per 100 WBC",
        str(nrbc.n_erythroblasts),
        number(nrbc.per_100_wbc),
        interval(None if nrbc.lower is None or nrbc.upper is None else (nrbc.lower, nrbc.upper)),
        expected["erythroblast"].text if "erythroblast" in expected else "",
        _flag(nrbc.flag),
    )
    row("Platelet images", str(differential.n_platelets))
    for code, n_cells in differential.not_leucocytes:
        row(f"{line_name(code)}, not counted", str(n_cells))
    unclassified = differential.unclassified
    row(
        "Unclassified",
        str(unclassified.n),
        number(unclassified.percentage),
        interval(unclassified.percentage_interval),
        style="yellow" if unclassified.n else "",
    )
    return table


def _notes(read: SlideResult) -> list[Text]:
    differential, facts = read.differential, read.facts
    notes = []
    if differential.unclassified.n:
        notes.append(
            "Unclassified: of these and the leucocytes. Worst case: the percentage if no unclassified cell, or every "
            "one, were of the class."
        )
    if facts.age_months is not None:
        whom = f", {facts.sex}" if facts.sex else ""
        notes.append(f"Reference ranges for {age_text(facts.age_months)}{whom}.")
    factor = differential.nrbc.corrected_wbc_factor
    if differential.wbc_was_corrected:
        notes.append(
            f"The analyser's leucocyte count {number(facts.wbc_10e9_per_l, 2)} x 10⁹/l was corrected for nucleated red "
            f"cells to {number(differential.wbc_10e9_per_l, 2)}."
        )
    elif differential.wbc_10e9_per_l is None and factor is not None and factor < 1:
        notes.append(f"Corrected WBC = WBC x {number(factor, 3)}, if the counter included erythroblasts.")
    agreement = read.agreement
    if agreement.value is not None:
        notes.append(
            f"The analyser's class agrees for {agreement.n} of {agreement.total} cells: "
            f"{percent_with_interval(agreement)}."
        )
    notes.append(
        f"Model {read.model.title} {read.model.model_id[:12]}, counted {moment(read.written_at)} "
        f"by bloodcell {read.code_version}, run {read.run_id}, rules {read.rules.version!r}."
    )
    notes.append(NOT_A_DIAGNOSIS)
    return [Text(note, style="dim") for note in notes]


def _flag(flag: Flag | None) -> Text:
    return Text(FLAG_NAMES[flag], style=_FLAG_STYLES[flag]) if flag else Text("")
