"""What a message says of a slide's result, read for many messages at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, OTHER_LEUCOCYTES
from bloodcell.cells.intervals import proportion
from bloodcell.differential.laboratory_rules import rules_of
from bloodcell.exchange.identities import read_identities
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from bloodcell.differential.laboratory_rules import LaboratoryRules, Sex
    from bloodcell.differential.reference_ranges import Flag
    from bloodcell.exchange.hl7_text import Segment
    from bloodcell.exchange.identities import IdentityKeys

_SQL: Final = load_statements("exchange/outgoing_result.sql")


@dataclass(frozen=True, slots=True)
class OutgoingLine:
    """One line of the differential.

    Attributes:
        line: A leucocyte class, a code of another leucocyte, or erythroblast.
        n_cells: Cells that count as this.
        value: In percent of the leucocytes; of erythroblasts per 100 leucocytes. None without leucocytes.
        interval: Ends of the exact 95 % interval of the value.
        bounds: Lowest and highest value that the unclassified cells allow; None for erythroblasts.
        absolute: Cells in 10^9 per litre; None without a leucocyte count.
        had_absolute: Whether there is no absolute count, and an earlier version had one.
        flag: The value relative to the reference range; None within it.
        expected: Lower and upper end of the reference range; None: there is none.
    """

    line: str
    n_cells: int
    value: float | None
    interval: tuple[float, float] | None
    bounds: tuple[float, float] | None
    absolute: float | None
    flag: Flag | None
    expected: tuple[float, float] | None
    had_absolute: bool = False


@dataclass(frozen=True, slots=True)
class OutgoingResult:
    """A version of a slide's result, or its withdrawal, as a receiver gets it.

    Attributes:
        message_id: Key of the message.
        control_id: Names it to the receiver.
        is_withdrawal: Whether the slide was withdrawn: what was sent of it is not valid.
        was_withdrawn: Whether the receiver has a withdrawal of this slide already, so that this corrects it.
        slide_id: Key of the slide, whose barcode another slide may get after a withdrawal.
        barcode: The slide.
        order_id: Its order; None: unknown.
        patient_key: Pseudonym of the patient; None: unknown.
        analyser: The analyser that imaged it.
        acquired_at: When it was imaged.
        state: machine, final, amended or corrected.
        made_at: When the version was made.
        counted_at: When its cells were counted.
        signed_by: Who signed it; None: nobody.
        reason: Why it was signed again, or why the slide was withdrawn.
        n_leucocytes: The denominator of the percentages.
        n_unclassified: Cells that may be leucocytes and that nobody could name.
        is_sufficient: Whether there are enough leucocytes.
        age_months: Age that the reference ranges were chosen by.
        sex: Sex that they were chosen by.
        model_id: The model whose calls were counted.
        variant: Its variant.
        code_version: Release of bloodcell that counted.
        lines: Lines of the differential: the six classes, other leucocytes that occur, or occurred in an earlier
            version, and erythroblasts.
        loinc: Line -> LOINC code, with `panel`; lines without one are left out.
        collected_at: When the specimen was collected, as the order says; None: unknown.
        queued_at: When the message was made.
        slide_run_id: The run that first read the slide; with slide_id it names the slide in any copy of the database.
        withdrawn_by: Who asked for the withdrawal; None: it is none, or the result became withheld.
        patient_digest: Tells the patient of the order apart from others; None: unknown.
        sent_patient_digest: The same of the message of the slide before this one; None: none was sent, or without.
        comments: What people wrote about the slide until then, the oldest first.
        patient: What the order says of its patient (PID); None: nothing, or it has expired.
    """

    message_id: int
    control_id: str
    is_withdrawal: bool
    was_withdrawn: bool
    slide_id: int
    barcode: str
    order_id: str | None
    patient_key: str | None
    analyser: str | None
    acquired_at: datetime | None
    state: str
    made_at: datetime
    counted_at: datetime
    signed_by: str | None
    reason: str | None
    n_leucocytes: int
    n_unclassified: int
    is_sufficient: bool
    age_months: int | None
    sex: str | None
    model_id: str
    variant: str
    code_version: str
    collected_at: datetime | None
    queued_at: datetime
    slide_run_id: uuid.UUID
    withdrawn_by: str | None
    patient_digest: str | None
    sent_patient_digest: str | None
    lines: tuple[OutgoingLine, ...]
    loinc: Mapping[str, str]
    comments: tuple[str, ...]
    patient: Segment | None = None

    @property
    def reported_state(self) -> str:
        """The state that the receiver is told: what follows a withdrawal corrects it."""
        return "corrected" if self.was_withdrawn and self.state == "final" else self.state

    @property
    def lacks_its_patient(self) -> bool:
        """Whether the receiver has the slide under a patient whom this message cannot name, or names another one."""
        before = self.sent_patient_digest
        return before is not None and (self.patient is None or self.patient_digest != before)

    @property
    def reported_at(self) -> datetime:
        """When what the message says came to be."""
        return self.queued_at if self.is_withdrawal or self.was_withdrawn else self.made_at

    @property
    def specimen_at(self) -> datetime | None:
        """When the specimen was collected, or else imaged."""
        return self.collected_at or self.acquired_at


def read_outgoing(connection: sa.Connection, messages: Sequence[int], keys: IdentityKeys) -> Iterator[OutgoingResult]:
    """Reads what messages say, and returns an iterator over it in the order of their keys.

    Everything is read at once; a result is made when the iterator comes to it, so that the first message can leave
    before the last one is made.

    Args:
        connection: Where to read.
        messages: Keys of messages.
        keys: The keys of identities.
    """
    rows = connection.execute(_SQL["facts"], {"messages": list(messages)}).all()
    lines: dict[int, dict[str, sa.Row[Any]]] = {}
    for line in connection.execute(_SQL["lines"], {"reports": [row.report_id for row in rows]}):
        lines.setdefault(line.report_id, {})[line.line] = line
    earlier: dict[int, dict[str, sa.Row[Any]]] = {}
    for row in connection.execute(_SQL["earlier_lines"], {"messages": list(messages)}):
        earlier.setdefault(row.message_id, {})[row.line] = row
    comments: dict[int, list[sa.Row[Any]]] = {}
    for comment in connection.execute(_SQL["comments"], {"slides": [row.slide_id for row in rows]}):
        comments.setdefault(comment.slide_id, []).append(comment)
    digests = {row.rules_digest for row in rows if row.rules_digest}
    rules = {
        row.rules_digest: _LineRules(rules_of(row.document))
        for row in connection.execute(_SQL["rules"], {"digests": sorted(digests)})
    }
    patients = read_identities(connection, keys, [row.lab_order_id for row in rows if row.lab_order_id])
    return (
        _result(
            row,
            patients.get(row.lab_order_id),
            lines.get(row.report_id, {}),
            earlier.get(row.message_id, {}),
            rules.get(row.rules_digest, _NO_RULES),
            comments.get(row.slide_id, ()),
        )
        for row in rows
    )


_LINES: Final = (*LEUCOCYTE_CLASSES, *OTHER_LEUCOCYTES, "erythroblast")


class _LineRules:
    """What the rules of a result say of each line: looked up once for all patients of an age and sex."""

    def __init__(self, rules: LaboratoryRules | None) -> None:
        names = ("panel", *_LINES) if rules else ()
        self.loinc = {name: code for name in names if rules and (code := rules.loinc.code_of(name))}
        self._rules = rules
        self._expected: dict[tuple[int | None, Sex | None], dict[str, tuple[float, float]]] = {}

    def expected(self, age_months: int | None, sex: Sex | None) -> dict[str, tuple[float, float]]:
        """Returns line -> lower and upper end of its reference range."""
        if (age_months, sex) not in self._expected:
            ranges = self._rules.ranges_for(age_months, sex) if self._rules else {}
            self._expected[age_months, sex] = {name: (each.low, each.high) for name, each in ranges.items()}
        return self._expected[age_months, sex]


_NO_RULES: Final = _LineRules(None)


def _result(
    row: sa.Row[Any],
    patient: Segment | None,
    lines: Mapping[str, sa.Row[Any]],
    earlier: Mapping[str, sa.Row[Any]],
    rules: _LineRules,
    comments: Iterable[sa.Row[Any]],
) -> OutgoingResult:
    is_withdrawal = row.kind == "withdrawal"
    facts = {name: value for name, value in row._mapping.items() if name in OutgoingResult.__dataclass_fields__}
    facts["reason"] = row.withdrawn_for if is_withdrawal else row.reason
    had_absolute = {name for name, each in earlier.items() if each.had_absolute and row.wbc_10e9_per_l is None}
    expected = rules.expected(row.age_months, row.sex)
    return OutgoingResult(
        **facts,
        is_withdrawal=is_withdrawal,
        patient=patient,
        lines=tuple(
            _line(row, lines[name], expected.get(name), had_absolute=name in had_absolute)
            if name in lines
            else _gone(row, name, had_absolute=name in had_absolute)
            for name in _LINES
            if name in lines or (name in earlier and earlier[name].had_cells)
        ),
        loinc=rules.loinc,
        comments=tuple(each.text for each in comments if each.written_at <= row.made_at),
    )


def _gone(row: sa.Row[Any], name: str, *, had_absolute: bool) -> OutgoingLine:
    """Returns a line that an earlier version had and this one has no more."""
    share, possible = proportion(0, row.n_leucocytes), row.n_leucocytes + row.n_unclassified
    return OutgoingLine(
        line=name,
        n_cells=0,
        value=share.percentage,
        interval=share.percentage_interval,
        bounds=(0.0, 100 * row.n_unclassified / possible) if possible else None,
        absolute=None if row.wbc_10e9_per_l is None else 0.0,
        had_absolute=had_absolute,
        flag=None,
        expected=None,
    )


def _line(
    row: sa.Row[Any], line: sa.Row[Any], expected: tuple[float, float] | None, *, had_absolute: bool
) -> OutgoingLine:
    if line.line == "erythroblast":
        value, ends, bounds = row.nrbc_per_100_wbc, (row.nrbc_lower, row.nrbc_upper), None
    else:
        value, ends, bounds = line.percentage, (line.lower, line.upper), (line.bound_lower, line.bound_upper)
    return OutgoingLine(
        line=line.line,
        n_cells=line.n_cells,
        value=value,
        interval=ends if ends[0] is not None else None,
        bounds=bounds if bounds and bounds[0] is not None else None,
        absolute=line.absolute,
        had_absolute=had_absolute,
        flag=line.flag,
        expected=expected,
    )
