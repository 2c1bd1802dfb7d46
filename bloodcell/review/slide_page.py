"""Reads everything that the page of a slide shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from bloodcell.cells.classes import (
    CELL_CLASSES,
    CLASS_NAMES,
    CONTESTED,
    NOT_LEUCOCYTES,
    OTHER_LEUCOCYTES,
    REPORT_ORDER,
    UNCLASSIFIED,
    UNDECIDED_CODES,
)
from bloodcell.differential.laboratory_rules import age_text
from bloodcell.errors import UnknownRecordError
from bloodcell.results.judging import reason_names
from bloodcell.results.result_display import line_name
from bloodcell.review.desk_records import (
    DeskCell,
    DeskComment,
    DeskCount,
    DeskDifferential,
    DeskLabel,
    DeskLine,
    DeskNrbc,
    DeskPerson,
    DeskSlide,
    DeskUnclassified,
    DeskVersion,
    Lease,
    LineChoice,
    May,
    Missing,
    Named,
    Signing,
    SlidePage,
)
from bloodcell.review.live_result import live_result
from bloodcell.review.sprites import SPRITE_CELLS, sprites_of
from bloodcell.storage.statements import load_statements

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bloodcell.differential.counting import Differential
    from bloodcell.differential.laboratory_rules import LaboratoryRules, ReferenceRange
    from bloodcell.results.stored_result import ResultVersion
    from bloodcell.review.live_result import LiveResult
    from bloodcell.review.people import Person
    from bloodcell.storage.database import Database

_SQL: Final = load_statements("review/slide_page.sql")
GALLERY: Final = (*OTHER_LEUCOCYTES, CONTESTED, UNCLASSIFIED, *UNDECIDED_CODES, *REPORT_ORDER, *NOT_LEUCOCYTES)
_LETTERS: Final = {"BL": "b", "VLY": "v", "SMU": "m", "ART": "a"}
_NEEDS: Final = {
    UNCLASSIFIED: "unclassified",
    CONTESTED: "contested",
    "BL": "blast",
    **dict.fromkeys(UNDECIDED_CODES, "undecided"),
}
_PROBABILITIES: Final = tuple(f"p_{name}" for name in CELL_CLASSES)


def line_choices() -> list[LineChoice]:
    """Returns what a cell can be labelled as: the eight classes by number, and the codes out of scope."""
    numbered = [
        LineChoice(name, CLASS_NAMES[name], str(number), "class") for number, name in enumerate(REPORT_ORDER, start=1)
    ]
    kinds = {
        **dict.fromkeys(OTHER_LEUCOCYTES, "other_leucocyte"),
        **dict.fromkeys(NOT_LEUCOCYTES, "not_leucocyte"),
        **dict.fromkeys(UNDECIDED_CODES, "undecided"),
    }
    return numbered + [LineChoice(code, line_name(code), _LETTERS.get(code), kind) for code, kind in kinds.items()]


class SlideReader:
    """Reads slides for the desk.

    Args:
        desk: The database, as role `bloodcell_desk`.
        app: The database, as role `bloodcell_app`, which counts.
        rules: The laboratory's rules.
        um_per_px: The site's scale; None: unknown.
    """

    def __init__(self, desk: Database, app: Database, rules: LaboratoryRules, um_per_px: float | None) -> None:
        self._desk = desk
        self._app = app
        self._rules = rules
        self._um_per_px = um_per_px

    def page(self, slide_id: int, person: Person, *, needs_password: bool) -> SlidePage:
        """Returns everything that the page of a slide shows.

        Raises:
            UnknownRecordError: There is no such slide, or it was withdrawn.
        """
        slide = self._slide(slide_id)
        live = live_result(self._app, slide_id, slide.barcode, self._rules)
        facts = live.result.facts if live else None

        def read(connection: sa.Connection) -> SlidePage:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            model = live.result.model.model_id if live else None
            images = connection.execute(_SQL["images"], {"slide_id": slide_id}).all()
            return SlidePage(
                slide=DeskSlide(
                    slide_id=slide_id,
                    barcode=slide.barcode,
                    night=slide.night,
                    order_id=slide.order_id,
                    analyser=slide.analyser,
                    patient_key=slide.patient_key,
                    age=None if facts is None or facts.age_months is None else age_text(facts.age_months),
                    sex=facts.sex if facts else None,
                    acquired_at=slide.acquired_at,
                    um_per_px=self._um_per_px,
                ),
                person=DeskPerson(person.name, sorted(person.roles)),
                may=May(person.may("reader"), person.may("reader")),
                lease=_lease(connection, slide_id, person),
                lines=line_choices(),
                gallery=list(GALLERY),
                cells=self._cells(connection, slide_id, model, images, None, person),
                sprites=sprites_of(slide_id, [row.sha256 for row in images]),
                comments=comments(connection, slide_id),
                **standing(live, needs_password=needs_password),
            )

        return self._desk.transact(read)

    def changes(
        self, slide_id: int, live: LiveResult | None, cells: Collection[int], person: Person, *, needs_password: bool
    ) -> dict[str, Any]:
        """Returns these cells, the result and the lease as they are now, by the fields of `LabelsStored`.

        Args:
            slide_id: The slide.
            live: Its result as it is now.
            cells: Cells to return.
            person: Who asks.
            needs_password: Whether a signature asks for the password.
        """

        def read(connection: sa.Connection) -> dict[str, Any]:
            model = live.result.model.model_id if live else None
            images = connection.execute(_SQL["images"], {"slide_id": slide_id}).all()
            return {
                "cells": self._cells(connection, slide_id, model, images, list(cells), person),
                "lease": _lease(connection, slide_id, person),
                **standing(live, needs_password=needs_password),
            }

        return self._desk.transact(read)

    def live(self, slide_id: int) -> tuple[str, LiveResult | None]:
        """Returns the barcode, and the result that a count of now would give."""
        slide = self._slide(slide_id)
        return slide.barcode, live_result(self._app, slide_id, slide.barcode, self._rules)

    def _slide(self, slide_id: int) -> sa.Row[Any]:
        row = self._desk.transact(lambda c: c.execute(_SQL["slide"], {"slide_id": slide_id}).one_or_none())
        if row is None:
            raise UnknownRecordError("There is no such slide. It may have been withdrawn or erased.")
        return row

    def _cells(
        self,
        connection: sa.Connection,
        slide_id: int,
        model_id: str | None,
        images: Sequence[sa.Row[Any]],
        wanted: list[int] | None,
        person: Person,
    ) -> list[DeskCell]:
        places = {row.cell_id: divmod(number, SPRITE_CELLS) for number, row in enumerate(images)}
        asked = {"slide_id": slide_id, "model_id": model_id, "cells": wanted}
        labels: dict[int, list[DeskLabel]] = {}
        for row in connection.execute(_SQL["labels"], {"slide_id": slide_id, "cells": wanted}):
            is_own = row.labelled_by.lower() == person.name.lower()
            label = DeskLabel(row.labelled_by, row.label, row.labelled_at, row.is_blind, is_own)
            labels.setdefault(row.cell_id, []).append(label)
        again = {"slide_id": slide_id, "rules_digest": self._rules.digest}
        for_second_reader = set(connection.scalars(_SQL["for_second_reader"], again))
        rows = [row for row in connection.execute(_SQL["cells"], asked) if row.cell_id in places]
        rows.sort(key=_most_doubtful_first)
        return [_cell(row, places[row.cell_id], labels.get(row.cell_id, []), for_second_reader) for row in rows]


def images_of(connection: sa.Connection, slide_id: int) -> list[str]:
    """Returns the digests of the images of a slide's cells, in the order in which the cells came."""
    return [str(row.sha256) for row in connection.execute(_SQL["images"], {"slide_id": slide_id})]


def comments(connection: sa.Connection, slide_id: int) -> list[DeskComment]:
    """Returns the comments on a slide and its cells, the oldest first."""
    rows = connection.execute(_SQL["comments"], {"slide_id": slide_id})
    return [DeskComment(row.cell_id, row.person, row.written_at, row.text) for row in rows]


def standing(live: LiveResult | None, *, needs_password: bool) -> dict[str, Any]:
    """Returns the result of a slide and what signing needs, by the fields of `SlidePage`."""
    if live is None:
        nothing = Signing([Missing("result", 1, "The slide has no result yet.")], [], [], False, None, needs_password)
        return {"result": None, "waiting": None, "is_withheld": False, "differential": None, "signing": nothing}
    newest = live.result.versions[-1]
    in_force = next((each for each in live.result.versions if each.is_in_force), newest)
    reasons = reason_names(newest.withheld_for, newest.review_for)
    states = [] if live.is_signed else ["amended", "corrected"] if live.was_signed else ["final"]
    return {
        "result": _version(in_force),
        "waiting": _version(newest) if newest.number != in_force.number else None,
        "is_withheld": newest.state == "withheld",
        "differential": _differential(
            live.result.differential, live.result.rules.ranges_for(live.result.facts.age_months, live.result.facts.sex)
        ),
        "signing": Signing(
            missing=[Missing(what, n, f"{told[0].upper()}{told[1:]}: {n}") for what, told, n in live.missing],
            named=[Named(name, text, name in newest.withheld_for) for name, text in reasons.items()],
            states=states,
            needs_reason=live.was_signed,
            digest=live.digest,
            needs_password=needs_password,
        ),
    }


def _lease(connection: sa.Connection, slide_id: int, person: Person) -> Lease:
    row = connection.execute(_SQL["lease"], {"slide_id": slide_id}).one_or_none()
    if row is None:
        return Lease(None, is_mine=False, until=None)
    return Lease(row.person, row.person.lower() == person.name.lower(), row.held_until)


def _version(version: ResultVersion) -> DeskVersion:
    return DeskVersion(version.number, version.state, version.made_at, version.signed_by, version.why)


def _most_doubtful_first(row: sa.Row[Any]) -> tuple[bool, bool, bool, bool, float, float]:
    """Sort key as in the report.

    Codes out of scope, cells that resemble one, novel cells by novelty, others by confidence; labelled last.
    """
    is_novel = row.unclassified_reason == "novel"
    confidence, novelty = row.confidence or 0.0, row.novelty or 0.0
    is_out_of_scope = row.analyser_code is not None and row.analyser_class is None
    by_doubt = -novelty if is_novel else confidence
    return (row.is_labelled, not is_out_of_scope, row.resembles is None, not is_novel, by_doubt, -novelty)


def probabilities(row: sa.Row[Any]) -> list[tuple[str, float]]:
    """Returns the eight classes with their probabilities, the most probable first; empty for a cell without a call."""
    if row._mapping[_PROBABILITIES[0]] is None:
        return []
    named = [(name, float(row._mapping[f"p_{name}"])) for name in CELL_CLASSES]
    return sorted(named, key=lambda each: -each[1])


def _cell(
    row: sa.Row[Any], place: tuple[int, int], labels: list[DeskLabel], for_second_reader: Collection[int]
) -> DeskCell:
    choices = probabilities(row)[:2]
    return DeskCell(
        cell_id=row.cell_id,
        line=row.line,
        sprite=place[0],
        tile=place[1],
        file_name=row.file_name,
        analyser_code=row.analyser_code,
        analyser_class=row.analyser_class,
        called_class=row.called_class,
        reason=row.unclassified_reason if choices else "late",
        resembles=row.resembles,
        choices=choices,
        novelty=row.novelty,
        labels=labels,
        seen=row.seen,
        needs=_needs(row, for_second_reader),
        n_comments=row.n_comments,
        has_image=row.has_image,
    )


def _needs(row: sa.Row[Any], for_second_reader: Collection[int]) -> str | None:
    if row.cell_id in for_second_reader:
        return "second_reader"
    if row.line == CONTESTED or not row.is_labelled:
        return _NEEDS.get(row.line) or ("unverified" if row.line in OTHER_LEUCOCYTES else None)
    return None


def _differential(differential: Differential, ranges: dict[str, ReferenceRange]) -> DeskDifferential:
    def line(each: Any) -> DeskLine:
        interval, bounds = each.share.percentage_interval or (None, None), each.percentage_bounds or (None, None)
        expected = ranges.get(each.cell_class)
        return DeskLine(
            line=each.cell_class,
            name=line_name(each.cell_class),
            n=each.share.n,
            percentage=each.share.percentage,
            lower=interval[0],
            upper=interval[1],
            bound_lower=bounds[0],
            bound_upper=bounds[1],
            absolute=each.absolute[0] if each.absolute else None,
            range=(expected.low, expected.high) if expected else None,
            flag=each.flag,
            n_labelled=each.n_labelled,
            n_unverified=each.n_unverified,
        )

    nrbc = differential.nrbc
    others = (*differential.undecided, *differential.not_leucocytes)
    return DeskDifferential(
        n_cells=differential.n_cells,
        n_leucocytes=differential.n_leucocytes,
        is_sufficient=differential.is_sufficient,
        lines=[line(each) for each in (*differential.leucocytes, *differential.other_leucocytes)],
        nrbc=DeskNrbc(nrbc.n_erythroblasts, nrbc.per_100_wbc, nrbc.lower, nrbc.upper, nrbc.flag),
        unclassified=DeskUnclassified(differential.unclassified.n, differential.unclassified.percentage),
        n_contested=differential.n_contested,
        others=[DeskCount(code, line_name(code), n) for code, n in others],
        n_platelets=differential.n_platelets,
        wbc_10e9_per_l=differential.wbc_10e9_per_l,
    )
