"""What the pages and the API of the review desk exchange with the browser, as JSON.

The names of the fields are those of the JSON. Shares are in percent, times in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DeskSlide:
    """The smear, as the analyser described it; `um_per_px` is the site's scale, None: no scale bar."""

    slide_id: int
    barcode: str
    night: date
    order_id: str | None
    analyser: str | None
    patient_key: str | None
    age: str | None
    sex: str | None
    acquired_at: datetime | None
    um_per_px: float | None


@dataclass(frozen=True, slots=True)
class DeskPerson:
    """Who looks at the page."""

    name: str
    roles: list[str]


@dataclass(frozen=True, slots=True)
class May:
    """What the person may do with the slide."""

    label: bool
    sign: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """Who has the slide; holder is None if nobody has it."""

    holder: str | None
    is_mine: bool
    until: datetime | None


@dataclass(frozen=True, slots=True)
class DeskVersion:
    """A version of the slide's result."""

    version: int
    state: str
    made_at: datetime
    signed_by: str | None
    why: str


@dataclass(frozen=True, slots=True)
class LineChoice:
    """What a cell can be labelled as; key is the key on the keyboard, None without one."""

    line: str
    name: str
    key: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class DeskLabel:
    """A label that counts; is_own: it is the person's who looks, also if the name is written otherwise."""

    by: str
    label: str
    at: datetime
    is_blind: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class DeskCell:
    """One cell of the gallery.

    Attributes:
        cell_id: Key of the cell.
        line: What it counts as now.
        sprite: Number of the sprite that has its thumbnail.
        tile: Place in that sprite, row by row.
        file_name: Name within the slide's folder.
        analyser_code: The analyser's code.
        analyser_class: The class of that code.
        called_class: What the model called it.
        reason: Why it was not classified: novel or low_confidence; late if it has no call yet.
        resembles: The code out of scope that it resembles, where the model knows one.
        choices: The two most probable classes with their probabilities.
        novelty: How unlike the training cells it is, on the model's scale.
        labels: The labels that count.
        seen: Newest label of the cell, by any person; a change names it.
        needs: What a person has to do: unclassified, blast, undecided, contested, second_reader; or should: unverified.
        n_comments: Comments on the cell.
        has_image: False once its image has been removed because of its age.
    """

    cell_id: int
    line: str
    sprite: int
    tile: int
    file_name: str
    analyser_code: str | None
    analyser_class: str | None
    called_class: str
    reason: str | None
    resembles: str | None
    choices: list[tuple[str, float]]
    novelty: float | None
    labels: list[DeskLabel]
    seen: int | None
    needs: str | None
    n_comments: int
    has_image: bool


@dataclass(frozen=True, slots=True)
class Sprite:
    """Thumbnails of up to 200 cells in one image."""

    url: str
    columns: int
    tile_px: int
    n: int


@dataclass(frozen=True, slots=True)
class DeskComment:
    """A comment on the slide, or on one of its cells."""

    cell_id: int | None
    by: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class DeskLine:
    """One leucocyte line of the differential; `lower` to `upper` is the exact 95 % interval."""

    line: str
    name: str
    n: int
    percentage: float | None
    lower: float | None
    upper: float | None
    bound_lower: float | None
    bound_upper: float | None
    absolute: float | None
    range: Interval | None
    flag: str | None
    n_labelled: int
    n_unverified: int


@dataclass(frozen=True, slots=True)
class DeskNrbc:
    """Erythroblasts per 100 leucocytes."""

    n: int
    per_100_wbc: float | None
    lower: float | None
    upper: float | None
    flag: str | None


@dataclass(frozen=True, slots=True)
class DeskCount:
    """A number of cells of something that is not in the denominator."""

    line: str
    name: str
    n: int


@dataclass(frozen=True, slots=True)
class DeskUnclassified:
    """Cells that may be leucocytes and have no name."""

    n: int
    percentage: float | None


@dataclass(frozen=True, slots=True)
class DeskDifferential:
    """The differential as it is now, with labels that no version has counted yet."""

    n_cells: int
    n_leucocytes: int
    is_sufficient: bool
    lines: list[DeskLine]
    nrbc: DeskNrbc
    unclassified: DeskUnclassified
    n_contested: int
    others: list[DeskCount]
    n_platelets: int
    wbc_10e9_per_l: float | None


@dataclass(frozen=True, slots=True)
class Missing:
    """What has to be done before the slide can be signed."""

    what: str
    n: int
    text: str


@dataclass(frozen=True, slots=True)
class Named:
    """Why the slide is withheld or named for review; the person who signs ticks each."""

    name: str
    text: str
    withholds: bool


@dataclass(frozen=True, slots=True)
class Signing:
    """What signing needs.

    Attributes:
        missing: What has to be done first.
        named: What the person confirms, one by one.
        states: States that the signed result may have; empty if there is nothing to sign.
        needs_reason: Whether a reason is asked for.
        digest: Identity of what would be signed.
        needs_password: False where the person is sent to the laboratory's log-in page instead.
    """

    missing: list[Missing]
    named: list[Named]
    states: list[str]
    needs_reason: bool
    digest: str | None
    needs_password: bool


@dataclass(frozen=True, slots=True)
class SlidePage:
    """Everything that the page of a slide shows."""

    slide: DeskSlide
    person: DeskPerson
    may: May
    lease: Lease
    result: DeskVersion | None
    waiting: DeskVersion | None
    is_withheld: bool
    lines: list[LineChoice]
    gallery: list[str]
    cells: list[DeskCell]
    sprites: list[Sprite]
    comments: list[DeskComment]
    differential: DeskDifferential | None
    signing: Signing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change: stored, conflict or refused; `text` says why."""

    key: str
    cell_id: int
    outcome: str
    text: str | None


@dataclass(frozen=True, slots=True)
class LabelsStored:
    """The answer to changes of labels."""

    outcomes: list[Outcome]
    cells: list[DeskCell]
    result: DeskVersion | None
    waiting: DeskVersion | None
    is_withheld: bool
    differential: DeskDifferential | None
    signing: Signing
    lease: Lease


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """The version that has just been signed."""

    version: int
    state: str


@dataclass(frozen=True, slots=True)
class Signed(SlidePage):
    """The page of a slide after a signature."""

    signed: SignedVersion


@dataclass(frozen=True, slots=True)
class HistoryLabel:
    """A label of a cell as it was given, also one that no longer counts."""

    by: str
    label: str | None
    at: datetime
    is_blind: bool
    is_adjudication: bool
    is_retraction: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class ExampleCell:
    """Where the picture of a confirmed cell is."""

    url: str


@dataclass(frozen=True, slots=True)
class ExampleCells:
    """The site's own confirmed cells of a class."""

    line: str
    cells: list[ExampleCell]


@dataclass(frozen=True, slots=True)
class DeskError:
    """Why a request was refused: a code for the page, the text for the person, and who has the slide if it is held."""

    code: str
    text: str
    next: str | None = None
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The answer to every request that was refused."""

    error: DeskError


@dataclass(frozen=True, slots=True)
class CellDetail:
    """What the large view of a cell shows besides the gallery's facts."""

    cell_id: int
    probabilities: list[tuple[str, float]]
    width_px: int
    height_px: int
    history: list[HistoryLabel]
    examples: list[ExampleCells]
