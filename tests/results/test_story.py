"""One slide through a story of twelve steps, in which every number of every version follows from the views alone.

The recount below is a program of its own: it reads views as a reader does, and shares no code with bloodcell.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.results.stored_result import read_result
from bloodcell.storage import tables
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from tests.laboratory import CHALLENGER, CHAMPION, Laboratory

LEUCOCYTES = {"neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig"}
OTHERS = {"BL", "VLY", "PLY", "PC", "LGLY", "HC", "SEC", "PMO", "IBO", "IEO"}
OPEN = {"unclassified", "contested", "NC", "OTH"}
IN_SCOPE = {"SNE", "BNE", "EO", "BA", "LY", "MO", "PMY", "MY", "MMY", "ERB", "PLT"}


@pytest.fixture
def reader(database: Database, database_url: str) -> Iterator[sa.Connection]:
    with connect(database_url, role="bloodcell_reader").connect() as connection:
        connection.execute(sa.text("SET search_path = bloodcell"))
        connection.commit()
        yield connection


def ask(reader: sa.Connection, statement: str, **values: object) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in reader.execute(sa.text(statement), values)]


def sha256(lines: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def decided(labels: list[dict[str, Any]]) -> str | None:
    """Returns what the labels of a cell say, by the rules in the documentation."""
    settled = [label for label in labels if label["is_adjudication"]]
    since = max(((label["labelled_at"], label["label_id"]) for label in settled), default=None)
    newest: dict[str, dict[str, Any]] = {}
    for label in sorted(labels, key=lambda each: (each["labelled_at"], each["label_id"])):
        if since is None or (label["labelled_at"], label["label_id"]) >= since:
            newest[label["labelled_by"]] = label
    said = {label["class"] or label["sub_label"] for label in newest.values()}
    return None if not said else said.pop() if len(said) == 1 else "contested"


def recount(reader: sa.Connection, version: dict[str, Any]) -> None:
    """Counts a version again from calls and labels as they were when it was counted, and checks every number."""
    at = version["counted_at"]
    calls = ask(
        reader,
        "SELECT * FROM call_history WHERE barcode = 'S-1' AND model_id = :model AND called_at <= :at "
        "AND (replaced_at > :at OR replaced_at IS NULL)",
        model=version["model_id"], at=at,
    )  # fmt: skip
    labels: dict[int, list[dict[str, Any]]] = {}
    for label in ask(reader, "SELECT * FROM cell_label WHERE barcode = 'S-1' AND recorded_at <= :at", at=at):
        labels.setdefault(label["cell_id"], []).append(label)
    lines, call_lines, label_lines, has_blast = Counter[str](), [], [], False
    for call in calls:
        code, by_label = call["analyser_code"], decided(labels.get(call["cell_id"], []))
        call_lines.append(f"{call['sha256']} {call['called_class']} {code or '-'}")
        if by_label:
            of_cell = labels[call["cell_id"]]
            what = f"contested {','.join(sorted({each['label'] for each in of_cell}))}"
            label_lines.append(f"{call['sha256']} {what if by_label == 'contested' else by_label}")
        if by_label == "contested":
            has_blast |= any(label["sub_label"] == "BL" for label in labels[call["cell_id"]])
        lines[by_label or (code if code and code not in IN_SCOPE else call["called_class"])] += 1

    stored = ask(reader, "SELECT * FROM result_line WHERE barcode = 'S-1' AND version = :n", n=version["version"])
    assert {line["class"]: line["n_cells"] for line in stored if line["n_cells"]} == dict(lines)
    n_leucocytes = sum(n for name, n in lines.items() if name in LEUCOCYTES | OTHERS)
    n_open = sum(n for name, n in lines.items() if name in OPEN)
    assert (version["n_cells"], version["n_leucocytes"], version["n_unclassified"]) == (
        len(calls), n_leucocytes, n_open,
    )  # fmt: skip
    for line in stored:
        if line["class"] in LEUCOCYTES | OTHERS:
            n, total = line["n_cells"], n_leucocytes + n_open
            assert line["percentage"] == pytest.approx(100 * n / n_leucocytes)
            assert line["bound_lower"] == pytest.approx(100 * n / total)
            assert line["bound_upper"] == pytest.approx(100 * (n + n_open) / total)
            assert line["absolute_10e9_per_l"] == pytest.approx(7.5 * n / n_leucocytes)
    assert version["nrbc_per_100_wbc"] == pytest.approx(100 * lines["erythroblast"] / n_leucocytes)
    withheld = (["few_leucocytes"] if n_leucocytes < 50 else []) + (["unclassified"] if n_open > 0.1 * total else [])
    assert version["withheld_for"] == withheld + (["blasts"] if lines["BL"] or has_blast else [])
    assert version["digest"] == sha256(
        [
            f"model {version['model_id']}",
            f"calls {sha256(sorted(call_lines))}",
            f"labels {sha256(sorted(label_lines))}",
            f"rules {version['rules_digest']}",
            "age_months 480",
            "sex female",
            "wbc_10e9_per_l 7.500000",
            "wbc_is_corrected no",
        ]
    )


def test_every_version_of_a_long_story_follows_from_the_views(
    laboratory_of_a_story: Laboratory, reader: sa.Connection
) -> None:
    lab = laboratory_of_a_story
    slide = lab.slide("S-1", age_months=480, sex="female", wbc_10e9_per_l=7.5, wbc_is_corrected=False)
    moments: list[datetime] = []

    def step(*, count: bool = True) -> None:
        if count:
            lab.count(slide)
        moments.append(ask(reader, "SELECT clock_timestamp() AS now")[0]["now"])
        reader.rollback()

    # 1 the night
    codes = ["SNE"] * 60 + ["LY"] * 30 + ["MO"] * 6 + ["ERB"] * 2 + ["NC", "SMU"] + [None] * 4
    called = ["neutrophil"] * 60 + ["lymphocyte"] * 30 + ["monocyte"] * 6 + ["erythroblast"] * 2
    cells = lab.cells(slide, codes)
    lab.call(cells, [*called, "lymphocyte", "lymphocyte", *["unclassified"] * 4])
    step()
    # 2 late cells, one of them a blast by the analyser
    late = lab.cells(slide, ["LY", "BL"])
    lab.call(late, ["lymphocyte", "lymphocyte"])
    step()
    # 3 labels
    lab.label([late[1], *cells[100:104]], ["BL", "neutrophil", "neutrophil", "SMU", "ig"], at="2026-03-15 09:00+00")
    lab.label([cells[98]], ["ART"])
    step()
    # 4 contested
    lab.label([late[1]], ["VLY"], by="ben", at="2026-03-15 10:00+00")
    step()
    # 5 adjudicated
    lab.label([late[1]], ["BL"], by="cleo", adjudication=True, at="2026-03-15 11:00+00")
    step()
    # 6 signed
    assert lab.sign("S-1", 5) == 6
    step(count=False)
    # 7 a redo that calls everything anew
    lab.call_again("monocyte")
    step()
    # 8 a new champion
    lab.model(CHALLENGER, "vgg16")
    lab.call([*cells, *late], ["neutrophil"] * 106, CHALLENGER)
    step()
    # 9 amended
    assert lab.sign("S-1", 8, "amended", "counted by the new model") == 9
    step(count=False)
    # 10 a person corrects one more cell, and 11 signs again
    lab.label([cells[0]], ["ig"], by="ben", at="2026-03-16 09:00+00")
    step()
    assert lab.sign("S-1", 10, "corrected", "cell 1 is a myelocyte") == 11
    step(count=False)
    # 12 withdrawn
    with lab.database.begin() as connection:
        connection.execute(
            tables.slide_withdrawal.insert().values(
                slide_id=slide, action="withdraw", reason="wrong rack", requested_by="anna", run_id=lab.run_id
            )
        )
    step(count=False)

    versions = ask(reader, "SELECT * FROM result_version WHERE barcode = 'S-1' ORDER BY version")
    assert [(v["state"], " ".join(v["causes"])) for v in versions] == [
        ("machine", "first"),
        ("withheld", "cells"),
        ("withheld", "labels"),
        ("withheld", "labels"),  # one of two people says blast
        ("withheld", "labels"),
        ("final", "signature"),
        ("withheld", "calls"),
        ("withheld", "model"),
        ("amended", "signature"),
        ("withheld", "labels"),
        ("corrected", "signature"),
    ]
    for version in versions:
        recount(reader, version)
    assert {v["model_id"] for v in versions[:7]} == {CHAMPION}
    assert {v["model_id"] for v in versions[7:]} == {CHALLENGER}
    assert all(v["why"] for v in versions)

    # what counted after each step, which the views answer, too
    counted = "SELECT version FROM result_version WHERE barcode = 'S-1' AND in_force_from <= :at AND " \
              "(in_force_until > :at OR in_force_until IS NULL)"  # fmt: skip
    in_force = [1, 2, 3, 4, 5, 6, 6, 6, 9, 9, 11]
    for at, expected in zip(moments, in_force, strict=False):
        found = read_result(lab.database, "S-1", as_of=at).version
        assert found is not None and found.number == expected
        assert ask(reader, counted, at=at) == [{"version": expected}]
    rules = ask(reader, "SELECT DISTINCT rules_digest FROM result_version")
    assert len(rules) == 1
    json.dumps(versions, default=str)  # every value can be passed on


@pytest.fixture
def laboratory_of_a_story(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory
