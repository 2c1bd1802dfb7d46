"""What people write at the desk: labels, comments, leases, and signatures.

Everything goes through functions of the database that look up whose session it is; see sql/views/75_review_desk.sql.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa

from bloodcell.errors import BloodcellError, SigningRefusedError
from bloodcell.results.due_results import count_slides
from bloodcell.results.versions import delta_since
from bloodcell.review.desk_records import Lease, Outcome
from bloodcell.storage.runs import recorded_run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from bloodcell.differential.laboratory_rules import LaboratoryRules
    from bloodcell.review.live_result import LiveResult
    from bloodcell.review.people import Person, Role
    from bloodcell.review.sessions import Session
    from bloodcell.storage.database import Database

Kind = Literal["review", "blind", "second", "adjudication"]

LEASE_S: Final = 120
_LABEL: Final = sa.text(
    "SELECT key, cell_id, outcome, told FROM bloodcell.desk_label(:token, :kind, :slide_id, CAST(:changes AS jsonb))"
)
_COMMENT: Final = sa.text("SELECT bloodcell.desk_comment(:token, :slide_id, :cell_id, :text, CAST(:key AS uuid))")
_OPEN: Final = sa.text("SELECT bloodcell.desk_open_slide(:token, :slide_id)")
_LEASE: Final = sa.text("SELECT * FROM bloodcell.desk_lease(:token, :slide_id, :seconds, :take_over)")
_END_LEASE: Final = sa.text("SELECT bloodcell.desk_end_lease(:token, :slide_id)")
_SIGN: Final = sa.text("SELECT bloodcell.desk_sign(:token, :slide_id, :number, :digest, :state, :reason)")
_OVERRIDE: Final = sa.text("SELECT bloodcell.desk_override_check(:token, :check, :reason)")
_DECIDE: Final = sa.text("SELECT bloodcell.desk_decide_message(:token, :message, :action, :reason)")
_NEWEST: Final = sa.text(
    "SELECT number, state, digest, withheld_for, review_for, signed_by FROM bloodcell.newest_version "
    "WHERE slide_id = :slide_id"
)

_TOLD: Final = {
    "key": "The same request was used for something else.",
    "label": "There is no such class or code.",
    "cell": "The slide has no such cell any more.",
    "nothing_to_take_back": "You have no label of this cell that you could take back.",
    "note": "The note has characters that nobody sees. Type it again.",
    "not_blind": "You have seen this cell or its slide before, so you cannot read it blind any more.",
    "own_label": "You have labelled this cell; another person has to read it.",
    "party": "You have labelled this cell, so another person has to settle it.",
    "not_contested": "People agree on this cell by now.",
}


class SessionEndedError(BloodcellError):
    """The session ended while the person was working: log in again."""


class RightMissingError(BloodcellError):
    """The person's role does not allow it."""


def require_role(person: Person, role: Role) -> None:
    """Refuses a person without a role.

    Raises:
        RightMissingError: The person does not have it.
    """
    if not person.may(role):
        raise RightMissingError(f"This needs the role {role}.")


class SlideHeldError(BloodcellError):
    """Somebody else is working on the slide.

    Attributes:
        holder: Who.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"{holder} is working on this slide. Take it over, or wait.")
        self.holder = holder


class ResultChangedError(SigningRefusedError):
    """The result is not the one that the person has looked at."""


class WrongPasswordError(BloodcellError):
    """The password that a signature needs again is wrong."""


class WriteRefusedError(BloodcellError):
    """The database refuses what was written."""


class Desk:
    """Writes in the name of the person of a session.

    Args:
        desk: The database, as role `bloodcell_desk`.
        app: The database, as role `bloodcell_app`, which counts.
        rules: The laboratory's rules.
    """

    def __init__(self, desk: Database, app: Database, rules: LaboratoryRules) -> None:
        self._desk = desk
        self._app = app
        self._rules = rules

    def label(
        self, session: Session, kind: Kind, changes: Sequence[dict[str, object]], slide_id: int | None = None
    ) -> list[Outcome]:
        """Stores labels, each once, and returns what became of each, in the order given.

        Args:
            session: Whose labels these are.
            kind: review, blind, second or adjudication.
            changes: Each with key, cell_id, label (None takes the person's own label back), seen and note.
            slide_id: The slide of a review.

        Raises:
            SlideHeldError: Somebody else has the slide.
            SessionEndedError: The session has ended.
            RightMissingError: The person's role does not allow it.
        """
        asked = {"token": session.digest, "kind": kind, "slide_id": slide_id, "changes": json.dumps(list(changes))}
        rows = self._write(lambda c: c.execute(_LABEL, asked).all())
        found = {
            (str(row.key), row.cell_id): Outcome(str(row.key), row.cell_id, row.outcome, _told(row.outcome, row.told))
            for row in rows
        }
        return [found[str(change["key"]), change["cell_id"]] for change in changes]

    def comment(self, session: Session, slide_id: int, cell_id: int | None, text: str, key: str) -> None:
        """Stores a comment once.

        Raises:
            WriteRefusedError: There is no such slide or cell, or the text has characters that nobody sees.
        """
        asked = {"token": session.digest, "slide_id": slide_id, "cell_id": cell_id, "text": text, "key": key}
        self._write(lambda c: c.execute(_COMMENT, asked))

    def decide_on_message(self, session: Session, message_id: int, action: str, reason: str) -> None:
        """Has a rejected message to another system sent again (replay), or never (skip).

        Raises:
            WriteRefusedError: There is no such message, or it is not rejected any more.
            RightMissingError: The person is no senior.
        """
        asked = {"token": session.digest, "message": message_id, "action": action, "reason": reason}
        self._write(lambda c: c.execute(_DECIDE, asked))

    def override_check(self, session: Session, check_id: int, reason: str) -> None:
        """Releases what a failed check of the quality control holds.

        Raises:
            WriteRefusedError: There is no such check, or it holds nothing any more.
            RightMissingError: The person is no senior.
        """
        asked = {"token": session.digest, "check": check_id, "reason": reason}
        self._write(lambda c: c.execute(_OVERRIDE, asked))

    def open_slide(self, session: Session, slide_id: int) -> None:
        """Records that the person looks at the slide: cells of it cannot be read blind any more."""
        self._write(lambda c: c.execute(_OPEN, {"token": session.digest, "slide_id": slide_id}))

    def lease(self, session: Session, slide_id: int, *, take_over: bool) -> Lease:
        """Takes or renews the lease of a slide unless somebody else has it; returns who has it."""
        asked = {"token": session.digest, "slide_id": slide_id, "seconds": LEASE_S, "take_over": take_over}
        row: Any = self._write(lambda c: c.execute(_LEASE, asked).one())
        return Lease(row.person, row.is_mine, row.held_until)

    def end_lease(self, session: Session, slide_id: int) -> None:
        """Gives a slide back."""
        self._write(lambda c: c.execute(_END_LEASE, {"token": session.digest, "slide_id": slide_id}))

    def settle(self, slide_id: int, live: LiveResult | None) -> None:
        """Makes a version now if labels make the slide withheld, or are the first that change what was signed.

        Other labels are counted with the signature, or by the next import of labels, so that not every key makes a
        version.

        Args:
            slide_id: The slide.
            live: Its result with the labels.
        """
        if live is None or live.is_signed:
            return
        newest: Any = self._desk.transact(lambda c: c.execute(_NEWEST, {"slide_id": slide_id}).one_or_none())
        state = live.result.versions[-1].state
        if newest is None or newest.number >= live.result.versions[-1].number:
            return
        if newest.signed_by is not None or (state == "withheld" and newest.state != "withheld"):
            self._count(slide_id)

    def _count(self, slide_id: int) -> None:
        with recorded_run(self._app, "differential") as run:
            self._app.transact(lambda c: count_slides(c, [slide_id], run_id=run.run_id, rules=self._rules))
            run.detail |= {"slides": 1, "counted_at_the_desk": True}

    def sign(
        self,
        session: Session,
        slide_id: int,
        barcode: str,
        *,
        digest: str,
        state: str,
        reason: str | None,
        ticked: Collection[str],
    ) -> int:
        """Counts the slide, signs the version, and returns its number.

        Args:
            session: The person, who has just been authenticated again.
            slide_id: The slide.
            barcode: Its barcode.
            digest: What the person has seen.
            state: final, amended or corrected.
            reason: Why it is signed again.
            ticked: Reasons for review that the person has confirmed.

        Raises:
            ResultChangedError: The result is not the one that was seen.
            SigningRefusedError: Something is missing.
        """
        self._count(slide_id)

        def sign(connection: sa.Connection) -> int:
            newest = connection.execute(_NEWEST, {"slide_id": slide_id}).one_or_none()
            if newest is None or newest.digest != digest:
                raise ResultChangedError("The result has changed since you looked at it. Look again, then sign.")
            if {*newest.withheld_for, *newest.review_for} - set(ticked):  # another one may have come meanwhile
                raise SigningRefusedError("Tick each reason for review when you have looked at it.")
            if (signed := delta_since(connection, barcode, newest.number)) is not None:
                raise SigningRefusedError(
                    f"The result differs much from {signed}, which was signed meanwhile. Look again, then sign."
                )
            asked = {"token": session.digest, "slide_id": slide_id, "number": newest.number, "digest": digest}
            return int(connection.scalar(_SIGN, {**asked, "state": state, "reason": reason}) or 0)

        return int(self._write(sign))

    def _write(self, work: Callable[[sa.Connection], Any]) -> Any:
        try:
            return self._desk.transact(work)
        except sa.exc.DBAPIError as error:
            raise _meaning(error) or error from None


def _told(outcome: str, told: str | None) -> str | None:
    if outcome == "conflict":
        return f"{told} has labelled this cell meanwhile."
    return _TOLD.get(told or "", told)


def _meaning(error: sa.exc.DBAPIError) -> BloodcellError | None:
    """Returns what an error of the database's functions means for the person; None for any other error."""
    code = getattr(error.orig, "pgcode", None)
    told = str(error.orig).split("\n")[0].removeprefix("ERROR:").strip() + "."
    if code == "55006":
        return SlideHeldError(error.orig.diag.message_hint)  # type: ignore[union-attr]
    kinds: dict[str | None, type[BloodcellError]] = {
        "28000": SessionEndedError,
        "42501": RightMissingError,
        "55000": SigningRefusedError,
        "P0002": WriteRefusedError,
        "28P01": SigningRefusedError,
        "23514": WriteRefusedError,
    }
    kind = kinds.get(code)
    return kind(told) if kind else None
