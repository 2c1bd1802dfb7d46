"""The page of a slide, its pictures, and what people do with it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import UUID4, BaseModel, ConfigDict, Field, TypeAdapter

from bloodcell.errors import SigningRefusedError, StoreUnavailableError, UnknownRecordError
from bloodcell.results.signed_before import holds_of
from bloodcell.review.cell_detail import cell_detail, image_of
from bloodcell.review.desk_records import CellDetail, DeskComment, LabelsStored, Lease, Signed, SignedVersion, SlidePage
from bloodcell.review.login_pages import authenticated
from bloodcell.review.navigation import desk_page
from bloodcell.review.services import services_of, session_of
from bloodcell.review.slide_page import comments, images_of
from bloodcell.review.writing import ResultChangedError, WrongPasswordError, require_role

if TYPE_CHECKING:
    from bloodcell.review.services import Services
    from bloodcell.review.sessions import Session

router: Final = APIRouter()

MAX_CHANGES: Final = 500
_IMMUTABLE: Final = {"cache-control": "private, max-age=31536000, immutable"}
_KINDS: Final = {
    b"\xff\xd8": "image/jpeg",
    b"\x89P": "image/png",
    b"BM": "image/bmp",
    b"II": "image/tiff",
    b"MM": "image/tiff",
}
_PAGE: Final = TypeAdapter(SlidePage)

Key = Annotated[int, Field(ge=1, le=2**63 - 1)]
Code = Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[A-Za-z]+$")]


Said = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""What a person writes; Postgres has no text with a NUL."""


class Strict(BaseModel):
    """A request; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class Change(Strict):
    """One label, or None to take the person's own label back."""

    key: UUID4
    cell_id: Key
    label: Code | None
    seen: Key | None = None


class Changes(Strict):
    """Changes of labels on one slide."""

    changes: list[Change] = Field(min_length=1, max_length=MAX_CHANGES)


class NewComment(Strict):
    """A comment on the slide, or on one of its cells."""

    key: UUID4
    cell_id: Key | None = None
    text: Said = Field(min_length=1, max_length=4000)


class LeaseAsked(Strict):
    """Whether to take the slide from the person who has it."""

    take_over: bool = False


class Signature(Strict):
    """What a person signs, and the password again."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    state: str = Field(pattern=r"^(final|amended|corrected)$")
    reason: Said | None = Field(None, max_length=1000)
    ticked: list[str] = Field(default_factory=list, max_length=50)
    password: str = Field("", max_length=1000)


class Comments(BaseModel):
    """All comments of a slide."""

    comments: list[DeskComment]


class LeaseAnswer(BaseModel):
    """Who has the slide."""

    lease: Lease


@router.get("/slides/{slide_id}", include_in_schema=False)
def slide_page(request: Request, slide_id: Key) -> HTMLResponse:
    """Shows a slide, and records that the person has opened it."""
    services, session = services_of(request), session_of(request)
    page = _opened(services, session, slide_id)
    return desk_page(
        request,
        "slide.html.j2",
        holds=services.desk.transact(lambda connection: holds_of(connection, slide_id)),
        slide_data=_PAGE.dump_python(page, mode="json"),
    )


@router.get("/api/slides/{slide_id}")
def read_slide(request: Request, slide_id: Key) -> SlidePage:
    """Returns a slide, and records that the person has opened it."""
    return _opened(services_of(request), session_of(request), slide_id)


@router.post("/api/slides/{slide_id}/labels")
def label_cells(request: Request, slide_id: Key, changes: Changes) -> LabelsStored:
    """Stores labels; each is stored once, however often it is sent."""
    services, session = services_of(request), session_of(request)
    asked = [each.model_dump(mode="json") for each in changes.changes]
    outcomes = services.writer.label(session, "review", asked, slide_id)
    cells = {each.cell_id for each in changes.changes}
    _, live = services.slides.live(slide_id)
    services.writer.settle(slide_id, live)
    now = services.slides.changes(slide_id, live, cells, session.person, needs_password=_needs_password(session))
    return LabelsStored(outcomes=outcomes, **now)


@router.post("/api/slides/{slide_id}/comments")
def comment(request: Request, slide_id: Key, new: NewComment) -> Comments:
    """Stores a comment once, and returns all of the slide."""
    services, session = services_of(request), session_of(request)
    services.writer.comment(session, slide_id, new.cell_id, new.text, str(new.key))
    return Comments(comments=services.desk.transact(lambda c: comments(c, slide_id)))


@router.post("/api/slides/{slide_id}/lease")
def take_slide(request: Request, slide_id: Key, asked: LeaseAsked) -> LeaseAnswer:
    """Takes or renews the lease of a slide."""
    lease = services_of(request).writer.lease(session_of(request), slide_id, take_over=asked.take_over)
    return LeaseAnswer(lease=lease)


@router.delete("/api/slides/{slide_id}/lease")
def give_slide_back(request: Request, slide_id: Key) -> LeaseAnswer:
    """Gives a slide back."""
    services_of(request).writer.end_lease(session_of(request), slide_id)
    return LeaseAnswer(lease=Lease(None, is_mine=False, until=None))


@router.post("/api/slides/{slide_id}/sign")
def sign(request: Request, slide_id: Key, signature: Signature) -> Signed:
    """Signs the result that the person has seen, with the password again."""
    services, session = services_of(request), session_of(request)
    require_role(session.person, "reader")
    barcode, live = services.slides.live(slide_id)
    if live is None:
        raise UnknownRecordError("The slide has no result yet.")
    if live.digest != signature.digest:
        raise ResultChangedError("The result has changed since you looked at it. Look again, then sign.")
    if live.missing:
        first = "; ".join(f"{told}: {n}" for _, told, n in live.missing)
        raise SigningRefusedError(f"This has to be done first: {first}")
    newest = live.result.versions[-1]
    unticked = {*newest.withheld_for, *newest.review_for} - set(signature.ticked)
    if unticked:
        raise SigningRefusedError("Tick each reason for review when you have looked at it.")
    _prove(request, session, signature.password)
    version = services.writer.sign(
        session,
        slide_id,
        barcode,
        digest=signature.digest,
        state=signature.state,
        reason=signature.reason,
        ticked=signature.ticked,
    )
    page = services.slides.page(slide_id, session.person, needs_password=_needs_password(session))
    shown = {each.name: getattr(page, each.name) for each in fields(SlidePage)}
    return Signed(**shown, signed=SignedVersion(version, signature.state))


@router.get("/api/slides/{slide_id}/cells/{cell_id}")
def read_cell(request: Request, slide_id: Key, cell_id: Key) -> CellDetail:
    """Returns what the large view of a cell shows, and records that the person has opened the slide."""
    services = services_of(request)
    detail = services.desk.transact(lambda c: cell_detail(c, slide_id, cell_id))
    services.writer.open_slide(session_of(request), slide_id)
    return detail


@router.get("/slides/{slide_id}/cells/{cell_id}/image", response_class=Response, include_in_schema=False)
def cell_image(request: Request, slide_id: Key, cell_id: Key) -> Response:
    """Returns the original pixels of a cell."""
    services = services_of(request)
    return picture(services, services.desk.transact(lambda c: image_of(c, slide_id, cell_id)))


@router.get("/slides/{slide_id}/sprites/{digest}.jpg", response_class=Response, include_in_schema=False)
def sprite(request: Request, slide_id: Key, digest: str) -> Response:
    """Returns thumbnails of a slide."""
    services = services_of(request)
    images = services.desk.transact(lambda c: images_of(c, slide_id))
    found = services.sprites.read(images, digest)
    if found is None:
        raise HTTPException(404, "The slide has no such picture any more.")
    return Response(found.body, media_type="image/jpeg", headers=_IMMUTABLE if found.is_complete else None)


def picture(services: Services, sha256: str) -> Response:
    """Returns an image from the store, unchanged."""
    try:
        body = services.store.read_image(sha256)
    except StoreUnavailableError:
        raise HTTPException(404, "The image is missing in the store, or was altered.") from None
    kind = _KINDS.get(body[:2], "application/octet-stream")
    return Response(body, media_type=kind, headers=_IMMUTABLE)


def _opened(services: Services, session: Session, slide_id: int) -> SlidePage:
    page = services.slides.page(slide_id, session.person, needs_password=_needs_password(session))
    services.writer.open_slide(session, slide_id)
    return page


def _prove(request: Request, session: Session, password: str) -> None:
    """Authenticates the person of a session again, which a signature needs."""
    if session.subject is not None:  # at the OpenID provider, which has been asked before
        if not session.is_proved:
            raise WrongPasswordError("Log in again at your laboratory's own page, then sign within two minutes.")
        return
    again = authenticated(request, session.person.name, password)
    if again is None or again.name != session.person.name:
        raise WrongPasswordError("The password is wrong.")
    require_role(again, "reader")  # the directory may have taken it away since the log-in
    services_of(request).sessions.prove(session)


def _needs_password(session: Session) -> bool:
    return session.method != "oidc"
