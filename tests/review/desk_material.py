"""Slides for the front end, in memory, from real images: the JSON that the pages of the desk are made from."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from PIL import Image
from scipy.stats import beta

from bloodcell.cells.classes import (
    CELL_CLASSES,
    CLASS_NAMES,
    CLASS_OF_CODE,
    CODES_OUT_OF_SCOPE,
    CONTESTED,
    LEUCOCYTE_CLASSES,
    OTHER_LEUCOCYTES,
    REPORT_ORDER,
    UNCLASSIFIED,
    UNDECIDED_CODES,
)

Json = dict[str, Any]
IMAGES: Final = Path(__file__).resolve().parents[3] / "shared/pbc"
KEYS: Final = {"BL": "b", "VLY": "v", "SMU": "m", "ART": "a"}
SINGULAR: Final = {"ig": "Immature granulocyte"}
TILE_PX: Final = 96
COLUMNS: Final = 20
CELLS_IN_A_SPRITE: Final = 200
USUAL: Final = (
    ("neutrophil", 54),
    ("lymphocyte", 26),
    ("monocyte", 8),
    ("eosinophil", 4),
    ("ig", 3),
    ("basophil", 2),
    ("erythroblast", 2),
    ("platelet", 5),
)
RANGES: Final = {
    "neutrophil": (40.0, 75.0),
    "lymphocyte": (20.0, 45.0),
    "monocyte": (2.0, 10.0),
    "eosinophil": (0.0, 6.0),
    "basophil": (0.0, 1.0),
    "ig": (0.0, 1.0),
}


@cache
def image_paths(cell_class: str) -> tuple[Path, ...]:
    """Returns some real images of a class."""
    return tuple(sorted((IMAGES / cell_class).glob("*.jpg"))[:60])


def lines() -> list[Json]:
    """Returns the vocabulary as the contract has it."""
    classes = [
        {"line": name, "name": SINGULAR.get(name, name.capitalize()), "key": str(at), "kind": "class"}
        for at, name in enumerate(REPORT_ORDER, 1)
    ]
    return classes + [
        {"line": code, "name": f"{code} {name}", "key": KEYS.get(code), "kind": _kind(code)}
        for code, name in CODES_OUT_OF_SCOPE.items()
    ]


def _kind(code: str) -> str:
    if code in UNDECIDED_CODES:
        return "undecided"
    return "other_leucocyte" if code in OTHER_LEUCOCYTES else "not_leucocyte"


def gallery() -> list[str]:
    """Returns the order of the sections."""
    others = [code for code in CODES_OUT_OF_SCOPE if code not in {"BL", *UNDECIDED_CODES}]
    return ["BL", CONTESTED, UNCLASSIFIED, *UNDECIDED_CODES, *others, *REPORT_ORDER]


@dataclass(slots=True)
class Slide:
    """A slide in memory."""

    slide_id: int
    facts: Json
    cells: list[Json]
    paths: list[Path]
    comments: list[Json] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    holder: str | None = None
    versions: list[Json] = field(default_factory=list)
    named: list[Json] = field(default_factory=list)
    signed_digest: str = ""
    waiting: Json | None = None

    def cell(self, cell_id: int) -> Json:
        return next(cell for cell in self.cells if cell["cell_id"] == cell_id)

    def cell_json(self, cell: Json, person: str) -> Json:
        """Returns a cell as a person's page has it, which is told which labels are theirs."""
        labels = [{**one, "is_own": one["by"].lower() == person.lower()} for one in cell["labels"]]
        return {**cell, "labels": labels}

    def label(self, by: str, cell_id: int, label: str | None, key: str = "") -> None:
        """Adds a label, and judges the cell again."""
        cell = self.cell(cell_id)
        self.history.append(
            {"id": len(self.history) + 1, "by": by, "cell_id": cell_id, "label": label, "key": key, "at": now()}
        )
        cell["seen"] = len(self.history)
        cell["labels"] = [one for one in cell["labels"] if one["by"] != by]
        if label is not None:
            cell["labels"].append({"by": by, "label": label, "at": now(), "is_blind": False})
        judge(cell)

    def differential(self) -> Json | None:
        """Returns the differential as it counts now; None before the first count."""
        if not self.versions:
            return None
        counted = [cell["line"] for cell in self.cells]
        leucocytes = [*LEUCOCYTE_CLASSES, *(code for code in OTHER_LEUCOCYTES if code in counted)]
        total = sum(counted.count(line) for line in leucocytes)
        unclassified = sum(line in {UNCLASSIFIED, *UNDECIDED_CODES} for line in counted)
        n_nrbc = counted.count("erythroblast")
        others = [line for line in lines() if line["kind"] == "not_leucocyte" and line["line"] in counted]
        return {
            "n_cells": len(self.cells),
            "n_leucocytes": total,
            "is_sufficient": total >= 100,
            "lines": [self._line(line, counted, total, unclassified) for line in leucocytes],
            "nrbc": {
                "n": n_nrbc,
                "per_100_wbc": 100 * n_nrbc / total if total else None,
                "lower": _exact(n_nrbc, total)[0],
                "upper": _exact(n_nrbc, total)[1],
                "flag": "high" if n_nrbc > total / 100 else None,
            },
            "unclassified": {
                "n": unclassified,
                "percentage": 100 * unclassified / (total + unclassified) if total + unclassified else None,
            },
            "n_contested": counted.count(CONTESTED),
            "others": [
                {"line": line["line"], "name": line["name"], "n": counted.count(line["line"])} for line in others
            ],
            "n_platelets": counted.count("platelet"),
            "wbc_10e9_per_l": None,
        }

    def _line(self, line: str, counted: list[str], total: int, unclassified: int) -> Json:
        n = counted.count(line)
        lower, upper = _exact(n, total)
        low, high = RANGES.get(line, (None, None))
        flag = None
        if low is not None and high is not None and lower is not None and upper is not None:
            share = 100 * n / total
            flag = (
                "high"
                if lower > high
                else "low"
                if upper < low
                else "possibly_high"
                if share > high
                else "possibly_low"
                if share < low
                else None
            )
        here = [cell for cell in self.cells if cell["line"] == line]
        return {
            "line": line,
            "name": CLASS_NAMES.get(line) or f"{line} {CODES_OUT_OF_SCOPE[line]}",
            "n": n,
            "percentage": 100 * n / total if total else None,
            "lower": lower,
            "upper": upper,
            "bound_lower": 100 * n / (total + unclassified) if total + unclassified else None,
            "bound_upper": 100 * (n + unclassified) / (total + unclassified) if total + unclassified else None,
            "absolute": None,
            "range": None if low is None else [low, high],
            "flag": flag,
            "n_labelled": sum(bool(cell["labels"]) for cell in here),
            "n_unverified": sum(cell["needs"] == "unverified" for cell in here),
        }

    def signing(self) -> Json:
        """Returns what signing needs."""
        words = {
            "unclassified": "Unclassified cells without a label",
            "blast": "Cells with a blast code without a label",
            "contested": "Contested cells",
            "undecided": "Undecided cells",
        }
        missing = [
            {"what": what, "n": n, "text": f"{text}: {n}"}
            for what, text in words.items()
            if (n := sum(cell["needs"] == what for cell in self.cells))
        ]
        if not self.versions:
            missing = [{"what": "result", "n": 1, "text": "The slide has no result yet."}]
        is_signed = any(version["signed_by"] for version in self.versions)
        digest = hashlib.sha256(
            repr([(cell["cell_id"], cell["line"], cell["seen"]) for cell in self.cells]).encode()
        ).hexdigest()
        states = ["amended", "corrected"] if is_signed else ["final"]
        return {
            "missing": missing,
            "named": self.named,
            "states": [] if digest == self.signed_digest or not self.versions else states,
            "needs_reason": is_signed,
            "digest": digest if self.versions else None,
            "needs_password": True,
        }

    def json(self, person: str) -> Json:
        """Returns the JSON of the slide's page."""
        return {
            "slide": self.facts,
            "person": {"name": person, "roles": ["reader"]},
            "may": {"label": True, "sign": True},
            "lease": self.lease(person),
            "result": self.versions[-1] if self.versions else None,
            "waiting": self.waiting,
            "is_withheld": self.is_withheld,
            "lines": lines(),
            "gallery": gallery(),
            "cells": [self.cell_json(cell, person) for cell in self.cells],
            "sprites": self.sprites(),
            "comments": self.comments,
            "differential": self.differential(),
            "signing": self.signing(),
        }

    @property
    def is_withheld(self) -> bool:
        """Whether the newest version is withheld, which may not be the one in force."""
        newest = self.waiting or (self.versions[-1] if self.versions else {"state": None})
        return bool(newest["state"] == "withheld")

    def lease(self, person: str) -> Json:
        return {"holder": self.holder, "is_mine": self.holder == person, "until": now() if self.holder else None}

    def sprites(self) -> list[Json]:
        n_sprites = range(0, len(self.cells), CELLS_IN_A_SPRITE)
        return [
            {
                "url": f"/slides/{self.slide_id}/sprites/{at}.jpg",
                "columns": COLUMNS,
                "tile_px": TILE_PX,
                "n": min(CELLS_IN_A_SPRITE, len(self.cells) - first),
            }
            for at, first in enumerate(n_sprites)
        ]


def _exact(n: int, total: int) -> tuple[float | None, float | None]:
    if not total:
        return None, None
    lower = 100 * float(beta.ppf(0.025, n, total - n + 1)) if n else 0.0
    return lower, 100 * float(beta.ppf(0.975, n + 1, total - n)) if n < total else 100.0


def now() -> str:
    """Returns the time as ISO text."""
    return datetime.now(UTC).isoformat()


def judge(cell: Json) -> None:
    """Works out again what a cell counts as, and what it needs."""
    said = {CLASS_OF_CODE.get(one["label"], one["label"]) for one in cell["labels"]}
    is_coded = bool(cell["analyser_code"]) and not cell["analyser_class"]
    if len(said) > 1:
        cell["line"], cell["needs"] = CONTESTED, "contested"
    elif said:
        cell["line"], cell["needs"] = said.pop(), None
    elif is_coded:
        cell["line"] = cell["analyser_code"]
        cell["needs"] = (
            "blast" if cell["line"] == "BL" else "undecided" if cell["line"] in UNDECIDED_CODES else "unverified"
        )
    else:
        cell["line"] = cell["called_class"]
        cell["needs"] = "unclassified" if cell["line"] == UNCLASSIFIED else None


def make_slide(
    slide_id: int,
    n_cells: int,
    *,
    barcode: str,
    n_unclassified: int = 4,
    n_blasts: int = 2,
    n_smudges: int = 2,
    seed: int = 0,
) -> Slide:
    """Returns a slide of real cells, the doubtful first in each class."""
    chance = random.Random(seed or slide_id)
    names, weights = zip(*USUAL, strict=True)
    true = chance.choices(names, weights, k=n_cells)
    paths = [chance.choice(image_paths(name)) for name in true]
    cells = [_cell(at, name, path, chance) for at, (name, path) in enumerate(zip(true, paths, strict=True), 1)]
    for cell in cells[:n_unclassified]:
        cell |= {
            "called_class": UNCLASSIFIED,
            "reason": chance.choice(["novel", "low_confidence"]),
            "choices": [["monocyte", 0.44], ["lymphocyte", 0.39]],
        }
    for code, n, first in (("BL", n_blasts, n_unclassified), ("SMU", n_smudges, n_unclassified + n_blasts)):
        for cell in cells[first : first + n]:
            cell |= {"analyser_code": code, "analyser_class": None}
    for cell in cells:
        judge(cell)
    cells.sort(key=lambda cell: cell["choices"][0][1])
    facts = {
        "slide_id": slide_id,
        "barcode": barcode,
        "night": "2026-11-28",
        "order_id": f"O-{slide_id:05}",
        "analyser": "DM96-1",
        "patient_key": "p7f3",
        "age": "46 years",
        "sex": "female",
        "acquired_at": "2026-11-28T22:41:00+00:00",
        "um_per_px": 0.1,
    }
    slide = Slide(slide_id, facts, cells, paths)
    state = "withheld" if n_blasts and n_cells else "machine"
    slide.versions.append({"version": 1, "state": state, "made_at": now(), "signed_by": None, "why": "first count"})
    if n_blasts and n_cells:
        slide.named.append({"name": "blasts", "text": "Cells with a blast code from the analyser", "withholds": True})
    slide.named.append({"name": "nrbc", "text": "NRBC of 1 per 100 WBC or more", "withholds": False})
    return slide


def _cell(at: int, name: str, path: Path, chance: random.Random) -> Json:
    confidence = round(
        chance.choice([chance.uniform(0.55, 0.9), chance.uniform(0.9, 0.999), chance.uniform(0.97, 0.999)]), 3
    )
    other = chance.choice([one for one in CELL_CLASSES if one != name])
    code = next((code for code, of_class in CLASS_OF_CODE.items() if of_class == name), None)
    return {
        "cell_id": at,
        "line": name,
        "sprite": (at - 1) // CELLS_IN_A_SPRITE,
        "tile": (at - 1) % CELLS_IN_A_SPRITE,
        "file_name": path.name,
        "analyser_code": code,
        "analyser_class": name,
        "called_class": name,
        "reason": None,
        "choices": [[name, confidence], [other, round((1 - confidence) * 0.8, 3)]],
        "novelty": round(chance.uniform(0.6, 1.6), 2),
        "labels": [],
        "seen": None,
        "needs": None,
        "n_comments": 0,
        "has_image": True,
    }


@cache
def sprite(paths: tuple[Path, ...]) -> bytes:
    """Returns one picture with a tile for each cell."""
    rows = -(-len(paths) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE_PX, rows * TILE_PX), "white")
    for at, path in enumerate(paths):
        sheet.paste(thumbnail(path), (at % COLUMNS * TILE_PX, at // COLUMNS * TILE_PX))
    written = io.BytesIO()
    sheet.save(written, "JPEG", quality=85)
    return written.getvalue()


@cache
def thumbnail(path: Path) -> Image.Image:
    """Returns an image as a tile."""
    with Image.open(path) as image:
        image.draft("RGB", (TILE_PX, TILE_PX))
        return image.convert("RGB").resize((TILE_PX, TILE_PX))


def moments(n: int) -> list[str]:
    """Returns times of the last minutes, oldest first."""
    return [(datetime.now(UTC) - timedelta(minutes=n - at)).isoformat() for at in range(n)]
