"""Comments and signatures at the desk, and what an erasure and a downgrade do to what people wrote there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from bloodcell.errors import SigningRefusedError
from bloodcell.removal import erase
from bloodcell.results.stored_result import read_result
from bloodcell.review.sessions import Session
from bloodcell.review.writing import RightMissingError, SessionEndedError, WriteRefusedError
from bloodcell.storage.connections import connect
from bloodcell.storage.migrations import _config
from tests.laboratory import at_once
from tests.review.desk import PASSWORD, RunningDesk, Slide, new_desk, new_keys

DOUBTFUL = {"neutrophil": 60, "unclassified": 2, "BL": 1, "NC": 1}


def digest(desk: RunningDesk, slide: Slide) -> str:
    """Returns the digest of what would be signed now."""
    with desk.client("vera") as vera:
        return str(vera.open(slide)["signing"]["digest"])


def sign_final(desk: RunningDesk, session: Session, slide: Slide) -> int:
    """Signs what a slide shows now, through the functions of the database; returns the version."""
    return desk.functions.sign(
        session, slide.slide_id, slide.barcode, digest=digest(desk, slide), state="final", reason=None, ticked=()
    )


def versions(desk: RunningDesk, slide: Slide) -> list[tuple[int, str, str | None]]:
    """Returns the versions of a slide's result: number, state, signed by."""
    found = desk.rows(
        "SELECT number, state, signed_by FROM bloodcell.result WHERE slide_id = :s ORDER BY number", s=slide.slide_id
    )
    return [(int(number), str(state), by) for number, state, by in found]


def test_a_slide_is_signed_with_the_password_again_in_the_persons_name(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    with running_desk.client("anna") as anna:
        signed = anna.ask_sign(slide)
        assert signed.status_code == 200, signed.text
        assert signed.json()["signed"] == {"version": 2, "state": "final"}
        assert signed.json()["signing"]["states"] == []
    assert versions(running_desk, slide) == [(1, "machine", None), (2, "final", "anna")]
    assert read_result(running_desk.laboratory.database, slide.barcode).versions[-1].signed_by == "anna"


def test_what_is_missing_is_named_and_signing_refused_until_it_is_done(running_desk: RunningDesk) -> None:
    slide = running_desk.slide(DOUBTFUL)
    with running_desk.client("anna") as anna:
        page = anna.open(slide)
        assert {each["what"]: each["n"] for each in page["signing"]["missing"]} == {
            "unclassified": 2, "blast": 1, "undecided": 1,
        }  # fmt: skip
        refused = anna.ask_sign(slide)
        assert refused.status_code == 409
        assert "unclassified cells without a label: 2" in refused.json()["error"]["text"]
        assert "blasts of the analyser without a label: 1" in refused.json()["error"]["text"]
        for name, label in (("unclassified", "ig"), ("BL", "BL"), ("NC", "ART")):
            assert anna.ask_sign(slide).status_code == 409
            anna.label(slide, dict.fromkeys(slide.cells[name], label))
        assert anna.open(slide)["signing"]["missing"] == []
        assert anna.ask_sign(slide).status_code == 200
    assert versions(running_desk, slide)[-1] == (versions(running_desk, slide)[-1][0], "final", "anna")


def test_a_contested_cell_refuses_the_signature_until_it_is_settled(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    cell = slide.all_cells[0]
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben, running_desk.client("dora") as dora:
        anna.label(slide, {cell: "ig"})
        ben.open(slide)
        ben.label(slide, {cell: "monocyte"})
        assert "contested cells: 1" in anna.ask_sign(slide).json()["error"]["text"]
        seen = dora.open(slide)["cells"][0]["seen"]
        settled = {"key": new_keys(1)[0], "cell_id": cell, "label": "ig", "seen": dora.seen[cell] or seen}
        assert dora.ok("POST", "/api/adjudications", json={"changes": [settled]})["outcomes"][0]["outcome"] == "stored"
        assert anna.ask_sign(slide).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"password": "wrong"}, 403, "wrong_password"),
        ({"password": ""}, 403, "wrong_password"),
        ({"digest": "0" * 64}, 409, "changed"),
        ({"ticked": []}, 409, "refused"),
        ({"state": "amended", "reason": "x"}, 409, "refused"),
        ({"state": "corrected"}, 409, "refused"),
        ({"state": "machine"}, 422, "invalid"),
        ({"digest": "g" * 64}, 422, "invalid"),
        ({"digest": None}, 422, "invalid"),
        ({"reason": "x" * 1001}, 422, "invalid"),
        ({"reason": "nul \x00"}, 422, "invalid"),
        ({"reason": "turned \u202e round"}, 409, "refused"),
        ({"password": "x" * 1001}, 422, "invalid"),
        ({"more": 1}, 422, "invalid"),
    ],
)
def test_a_signature_that_is_not_complete_is_refused_and_makes_no_version(
    running_desk: RunningDesk, changed: dict[str, object], status: int, code: str
) -> None:
    slide = running_desk.slide({"neutrophil": 20})  # withheld for too few leucocytes, so there is something to tick
    with running_desk.client("anna") as anna:
        refused = anna.ask_sign(slide, **changed)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), refused.text
    assert versions(running_desk, slide) == [(1, "withheld", None)]


@pytest.mark.parametrize("name", ["vera", "adam"])
def test_a_person_without_the_role_signs_nothing(running_desk: RunningDesk, name: str) -> None:
    slide = running_desk.slide()
    with running_desk.client(name) as person:
        assert person.ask_sign(slide).status_code == 403
    session = running_desk.session(name)
    running_desk.sessions.prove(session)
    with pytest.raises(RightMissingError):
        sign_final(running_desk, session, slide)
    assert versions(running_desk, slide) == [(1, "machine", None)]


def test_the_database_wants_the_proof_of_the_password_and_takes_it_for_one_signature(running_desk: RunningDesk) -> None:
    one, other, anna = running_desk.slide(), running_desk.slide(), running_desk.session("anna")

    def sign(slide: Slide) -> int:
        return sign_final(running_desk, anna, slide)

    with pytest.raises(SigningRefusedError, match="password again"):
        sign(one)
    running_desk.sessions.prove(anna)
    running_desk.sessions.prove(anna)
    assert sign(one) == 2
    with pytest.raises(SigningRefusedError, match="password again"):
        sign(other)
    running_desk.sessions.prove(anna)
    running_desk.rows(
        "UPDATE bloodcell.desk_session SET proved_at = proved_at - interval '3 min' WHERE proved_at IS NOT NULL"
    )
    with pytest.raises(SigningRefusedError, match="password again"):
        sign(other)
    running_desk.sessions.end(anna)
    with pytest.raises(SessionEndedError):
        sign(other)


def test_a_label_that_somebody_adds_meanwhile_refuses_the_signature(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        looked_at = anna.open(slide)["signing"]["digest"]
        ben.open(slide)
        ben.label(slide, {slide.all_cells[0]: "monocyte"})
        refused = anna.ask_sign(slide, digest=looked_at)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "changed")
        assert anna.ask_sign(slide).status_code == 200


def test_nobody_signs_a_slide_on_which_somebody_else_is_working(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        ben.hold(slide)
        refused = anna.ask_sign(slide)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "held")
        assert refused.json()["error"]["holder"] == "ben"
        anna.hold(slide, take_over=True)
        assert anna.ask_sign(slide).status_code == 200


def test_two_people_who_sign_at_once_make_one_signature(running_desk: RunningDesk) -> None:
    slide, statuses = running_desk.slide(), []
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        signing = anna.open(slide)["signing"]
        people = [anna, ben]
        asked = {"digest": signing["digest"], "state": "final", "reason": None, "ticked": [], "password": PASSWORD}

        def sign() -> None:
            person = people.pop()
            statuses.append(person.http.post(f"/api/slides/{slide.slide_id}/sign", json=asked).status_code)

        assert at_once(2, sign) == []
    assert sorted(statuses) == [200, 409]
    assert [state for _, state, _ in versions(running_desk, slide)] == ["machine", "final"]


def test_a_signed_slide_is_amended_with_a_reason(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        anna.ask_sign(slide).raise_for_status()
        assert ben.ask_sign(slide, state="amended", reason="again").status_code == 409, "there is nothing to sign"
        ben.label(slide, {slide.all_cells[0]: "monocyte"})
        assert ben.ask_sign(slide, state="amended", reason=" ").status_code == 409
        assert ben.ask_sign(slide, state="final").status_code == 409
        page = ben.ask_sign(slide, state="amended", reason="one monocyte").raise_for_status().json()
        assert (page["result"]["state"], page["result"]["signed_by"], page["waiting"]) == ("amended", "ben", None)
    assert [state for _, state, _ in versions(running_desk, slide)] == ["machine", "final", "machine", "amended"]


def test_a_label_taken_back_gives_the_digest_of_before(running_desk: RunningDesk) -> None:
    slide = running_desk.slide(DOUBTFUL)
    before = digest(running_desk, slide)
    with running_desk.client("anna") as anna:
        anna.open(slide)
        cells = [slide.all_cells[0], slide.cells["unclassified"][0], slide.cells["BL"][0]]
        anna.label(slide, dict.fromkeys(cells, "ig"))
        assert digest(running_desk, slide) != before
        anna.label(slide, dict.fromkeys(cells))
        assert digest(running_desk, slide) == before
        page = anna.open(slide)
    assert {each["what"]: each["n"] for each in page["signing"]["missing"]} == {
        "unclassified": 2,
        "blast": 1,
        "undecided": 1,
    }
    assert versions(running_desk, slide) == [(1, "withheld", None)], "a correction makes no version of its own"


def test_a_blast_of_one_reader_needs_a_second_one_where_the_laboratory_says_so(
    database_url: str, tmp_path: Path
) -> None:
    from bloodcell.differential.laboratory_rules import DEFAULT_RULES

    rules = tmp_path / "rules.toml"
    rules.write_text(
        DEFAULT_RULES.read_text().replace("[second_reader]\nblasts = false", "[second_reader]\nblasts = true", 1)
        .replace('version = "bloodcell defaults, 2026-11"', 'version = "second readers"')
    )  # fmt: skip
    with new_desk(tmp_path / "data", database_url, rules_file=rules) as desk:
        slide = desk.slide({"neutrophil": 60, "VLY": 1})
        cell, variant = slide.all_cells[0], slide.cells["VLY"][0]
        with desk.client("anna") as anna, desk.client("clara") as clara, desk.client("dora") as dora:
            anna.open(slide)
            anna.label(slide, {cell: "BL", variant: "VLY"})
            page = anna.open(slide)
            assert [each["what"] for each in page["signing"]["missing"]] == ["second_reader"]
            assert [c["cell_id"] for c in page["cells"] if c["needs"] == "second_reader"] == [cell]
            assert anna.ask_sign(slide).status_code == 409
            # the cell is read by its picture alone
            blind = clara.http.get("/second").raise_for_status().text
            assert '<span class="n">1</span>' in blind
            number = int(blind.split('"cell_id": ')[1].split(",")[0])
            assert number != cell
            clara.http.get(f"/second/cells/{number}/image").raise_for_status()
            (key,) = new_keys(1)
            reading = {"mode": "second", "changes": [{"key": key, "cell_id": number, "label": "BL"}]}
            for _ in range(2):  # the answer to the first was lost
                (outcome,) = clara.ok("POST", "/api/blind", json=reading)["outcomes"]
                assert outcome["outcome"] == "stored", outcome
            assert desk.labels(slide)[-1] == (cell, "clara", "BL")
            assert '"n_wanted": 0' in dora.http.get("/second").text
            assert anna.ask_sign(slide).status_code == 200
        assert anna.name == "anna"


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "a\u202eb", "zero\u200bwidth", "nul \x00 byte", "x" * 4001])
def test_a_comment_that_nobody_could_read_is_refused(running_desk: RunningDesk, text: str) -> None:
    slide = running_desk.slide({"neutrophil": 1})
    with running_desk.client("anna") as anna:
        refused = anna.ask_comment(slide, text)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid")
        assert "constraint" not in refused.text, "what the person reads is no message of Postgres"
        assert anna.open(slide)["comments"] == []


def test_a_comment_is_stored_once_and_a_key_of_something_else_is_refused(running_desk: RunningDesk) -> None:
    slide, other = running_desk.slide({"neutrophil": 2}), running_desk.slide({"neutrophil": 1})
    (key,) = new_keys(1)
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        for _ in range(2):
            comments = (
                anna.ask_comment(slide, " two\nlines ", slide.all_cells[0], key).raise_for_status().json()["comments"]
            )
            assert [(c["cell_id"], c["by"], c["text"]) for c in comments] == [
                (slide.all_cells[0], "anna", "two\nlines")
            ]
        assert ben.ask_comment(slide, "mine", slide.all_cells[0], key).status_code == 422
        assert anna.ask_comment(slide, "elsewhere", None, key).status_code == 422
        assert anna.ask_comment(other, "elsewhere", None, key).status_code == 422
        assert anna.ask_comment(other, "of another slide", slide.all_cells[0]).status_code == 422
        assert anna.ask_comment(2**40, "of no slide").status_code == 422
        assert [c["n_comments"] for c in anna.open(slide)["cells"] if c["cell_id"] == slide.all_cells[0]] == [1]


def test_a_withdrawn_slide_takes_no_comment(running_desk: RunningDesk) -> None:
    slide, anna = running_desk.slide({"neutrophil": 1}), running_desk.session("anna")
    running_desk.withdraw(slide)
    with pytest.raises(WriteRefusedError):
        running_desk.functions.comment(anna, slide.slide_id, None, "late", new_keys(1)[0])


def test_an_erasure_removes_what_people_wrote_of_the_slide_and_its_thumbnails(running_desk: RunningDesk) -> None:
    slide, kept = running_desk.slide(patient_key="P-4711"), running_desk.slide(patient_key="P-4712")
    with running_desk.client("anna") as anna:
        for each in (slide, kept):
            sprite = anna.open(each)["sprites"][0]["url"]
            anna.http.get(sprite).raise_for_status()
            anna.hold(each)
            anna.ask_comment(each, f"of {each.barcode}", each.all_cells[0]).raise_for_status()
            anna.label(each, {each.all_cells[0]: "ig"})
            anna.ask_sign(each).raise_for_status()
        anna.ask_comment(kept, f"as {slide.barcode} of P-4711").raise_for_status()
        thumbnails = running_desk.settings.data_dir / "desk" / "sprites"
        assert len(list(thumbnails.glob("*.jpg"))) >= 2
        erase(running_desk.settings, "patient", "P-4711", reason="consent withdrawn")
        for table in ("slide_comment", "slide_opening", "slide_lease", "result"):
            left = running_desk.rows(f"SELECT count(*) FROM bloodcell.{table} WHERE slide_id = :s", s=slide.slide_id)
            assert left == [(0,)], table
        assert anna.http.get(f"/api/slides/{slide.slide_id}").status_code == 404
        texts = [comment["text"] for comment in anna.open(kept)["comments"]]
        assert texts[0] == f"of {kept.barcode}"
        assert slide.barcode not in texts[1]
        assert "P-4711" not in texts[1]
    left_over = [path.name for path in thumbnails.glob("*.jpg")]
    assert left_over == [], "no thumbnail of an erased cell remains; the others are made again"


def test_a_downgrade_is_refused_once_somebody_has_worked_at_the_desk(running_desk: RunningDesk) -> None:
    running_desk.session("anna")
    config = _config()
    with connect(running_desk.database_url).connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(sa.exc.DBAPIError, match="People have worked at the review desk"):
            command.downgrade(config, "0011")
        connection.rollback()
    assert running_desk.session("anna").person.name == "anna"


def test_the_store_may_be_gone_while_a_slide_is_reviewed(running_desk: RunningDesk) -> None:
    slide = running_desk.slide()
    store = Path(running_desk.settings.store)
    away = store.rename(store.with_name("away"))
    try:
        with running_desk.client("anna") as anna:
            page = anna.open(slide)
            gone = anna.http.get(f"/slides/{slide.slide_id}/cells/{slide.all_cells[0]}/image")
            assert gone.status_code == 404
            grey = anna.http.get(page["sprites"][0]["url"]).raise_for_status()
            assert "immutable" not in grey.headers["cache-control"], "the browser asks again when the store is back"
            shutil.move(away, store)
            coloured = anna.http.get(page["sprites"][0]["url"]).raise_for_status()
            assert "immutable" in coloured.headers["cache-control"]
            assert coloured.content != grey.content
            anna.http.get(f"/slides/{slide.slide_id}/cells/{slide.all_cells[0]}/image").raise_for_status()
    finally:
        if away.exists():
            shutil.move(away, store)
