"""A person signs with their own login: what is refused, and that two who sign at once do not both succeed."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence

import pytest
import sqlalchemy as sa

from bloodcell.errors import ConfigurationError, SigningRefusedError
from bloodcell.results.due_results import write_due_results
from bloodcell.results.signing import sign_result
from bloodcell.results.stored_result import read_result
from bloodcell.settings import Settings
from bloodcell.storage.connections import connect
from bloodcell.storage.database import Database
from bloodcell.storage.embedded import embedded_database
from bloodcell.storage.migrations import upgrade
from tests.laboratory import Laboratory, at_once
from tests.storage.conftest import as_superuser, refused

PEOPLE = ("anna_signs", "ben_signs")


@pytest.fixture
def laboratory(database: Database) -> Laboratory:
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


@pytest.fixture
def people(database_url: str, settings: Settings) -> Iterator[dict[str, Settings]]:
    """Settings of two people, and of a login that only reads; each has a login of their own."""
    logins = {**dict.fromkeys(PEOPLE, "bloodcell_reviewer"), "carl_reads": "bloodcell_reader"}
    with as_superuser(database_url).connect() as connection:
        for login, role in logins.items():
            connection.execute(sa.text(f"CREATE ROLE {login} LOGIN IN ROLE {role}"))
        yield {
            login: settings.model_copy(
                update={
                    "database_url": sa.make_url(database_url).set(username=login).render_as_string(hide_password=False)
                }
            )
            for login in logins
        }
        for login in logins:
            connection.execute(sa.text(f"DROP ROLE {login}"))


def slide_of(laboratory: Laboratory, codes: Sequence[str | None], called: list[str]) -> list[int]:
    slide = laboratory.slide("S-1")
    cells = laboratory.cells(slide, codes)
    laboratory.call(cells, called)
    laboratory.count(slide)
    return cells


def test_the_signature_names_the_login_that_postgres_authenticated(
    laboratory: Laboratory, people: dict[str, Settings]
) -> None:
    slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    assert sign_result(people["anna_signs"], "S-1", 1) == 2
    version = read_result(laboratory.database, "S-1").version
    assert version is not None
    assert (version.state, version.signed_by, version.number) == ("final", "anna_signs", 2)
    digests = laboratory.rows("SELECT count(DISTINCT digest), min(recorded_by) FROM bloodcell.result WHERE number = 2")
    assert digests == [(1, "anna_signs")]


def test_signing_is_refused_with_everything_that_is_missing(
    laboratory: Laboratory, people: dict[str, Settings]
) -> None:
    anna = people["anna_signs"]
    cells = slide_of(
        laboratory,
        ["SNE"] * 120 + ["BL", "BL", None, None],
        ["neutrophil"] * 120 + ["lymphocyte", "lymphocyte", "unclassified", "unclassified"],
    )
    with pytest.raises(SigningRefusedError) as refusal:
        sign_result(anna, "S-1", 1)
    assert "unclassified cells without a label: 2; blasts of the analyser without a label: 2" in str(refusal.value)
    laboratory.label(cells[120:], ["BL", "VLY", "lymphocyte", "lymphocyte"])
    with pytest.raises(SigningRefusedError, match=r"labels not counted yet: 4.*bloodcell labels inbox counts"):
        sign_result(anna, "S-1", 1)
    laboratory.label(cells[120:121], ["VLY"], by="ben")
    laboratory.count()
    with pytest.raises(SigningRefusedError, match="contested cells: 1"):
        sign_result(anna, "S-1", 2)
    laboratory.label(cells[120:121], ["BL"], by="cleo", adjudication=True, at="2026-03-16 09:00+00")
    laboratory.count()
    assert sign_result(anna, "S-1", 3) == 4
    signed = read_result(laboratory.database, "S-1")
    assert signed.version is not None
    assert (signed.version.withheld_for, signed.differential.other_leucocytes[0].share.n) == (("blasts",), 1)


def test_a_cell_that_the_analyser_could_not_name_needs_a_label(
    laboratory: Laboratory, people: dict[str, Settings]
) -> None:
    cells = slide_of(laboratory, ["SNE"] * 120 + ["NC"], ["neutrophil"] * 121)
    with pytest.raises(SigningRefusedError, match="could not name, without a label: 1"):
        sign_result(people["anna_signs"], "S-1", 1)
    laboratory.label(cells[120:], ["ART"])
    laboratory.count()
    assert sign_result(people["anna_signs"], "S-1", 2) == 3


def test_late_cells_have_to_be_counted_before_signing(laboratory: Laboratory, people: dict[str, Settings]) -> None:
    slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    laboratory.cells(1, ["LY"] * 3)
    with pytest.raises(SigningRefusedError, match="cells not counted yet: 3"):
        sign_result(people["anna_signs"], "S-1", 1)


def test_a_version_that_is_no_longer_the_newest_is_refused(laboratory: Laboratory, people: dict[str, Settings]) -> None:
    cells = slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    laboratory.label(cells[:1], ["ig"])
    laboratory.count()
    with pytest.raises(SigningRefusedError, match=r"Version 1 of slide S-1 is not the newest: that is version 2"):
        sign_result(people["anna_signs"], "S-1", 1)


def test_of_two_people_who_sign_at_once_one_is_told_that_the_other_was_first(
    laboratory: Laboratory, people: dict[str, Settings]
) -> None:
    slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    waiting = list(PEOPLE)
    errors = at_once(2, lambda: sign_result(people[waiting.pop()], "S-1", 1))
    assert [type(error) for error in errors] == [SigningRefusedError]
    assert "is not the newest: that is version 2 (final)" in str(errors[0])
    assert laboratory.rows("SELECT count(*) FROM bloodcell.result WHERE signed_by IS NOT NULL") == [(1,)]


def test_a_count_while_someone_signs_waits_and_is_shown_as_a_difference(
    laboratory: Laboratory, people: dict[str, Settings]
) -> None:
    cells = slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    laboratory.call_again("monocyte")
    errors = at_once(2, lambda: laboratory.count() if cells.pop() % 2 else sign_result(people["anna_signs"], "S-1", 1))
    states = [row[0] for row in laboratory.rows("SELECT state FROM bloodcell.result ORDER BY number")]
    # either the signature came first, and the new version waits; or the version came first, and the signer saw another
    assert (states, [type(error) for error in errors]) in (
        (["machine", "final", "machine"], []),
        (["machine", "machine"], [SigningRefusedError]),
    )


def test_a_second_signature_needs_a_state_and_a_reason(laboratory: Laboratory, people: dict[str, Settings]) -> None:
    anna, ben = (people[name] for name in PEOPLE)
    cells = slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    with pytest.raises(SigningRefusedError, match="its first signed result is final"):
        sign_result(anna, "S-1", 1, state="amended", reason="why not")
    sign_result(anna, "S-1", 1)
    with pytest.raises(SigningRefusedError, match="Version 2 of slide S-1 was signed by anna_signs"):
        sign_result(ben, "S-1", 2, state="corrected", reason="again")
    laboratory.label(cells[:1], ["ig"])
    laboratory.count()
    for state, reason in (("final", None), ("corrected", None), ("amended", "  ")):
        with pytest.raises(SigningRefusedError, match="say whether the result is amended or corrected, and why"):
            sign_result(ben, "S-1", 3, state=state, reason=reason)  # type: ignore[arg-type]
    assert sign_result(ben, "S-1", 3, state="corrected", reason="a myelocyte") == 4


def test_a_slide_that_differs_from_what_was_signed_of_the_patient_meanwhile_is_counted_again_first(
    laboratory: Laboratory, people: dict[str, Settings], settings: Settings
) -> None:
    anna = people["anna_signs"]
    slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    other = laboratory.slide("S-2")
    laboratory.call(laboratory.cells(other, ["LY"] * 120), ["lymphocyte"] * 120)
    same = laboratory.slide("S-3")
    laboratory.call(laboratory.cells(same, ["LY"] * 120), ["lymphocyte"] * 120)
    laboratory.count(other, same)
    sign_result(anna, "S-2", 1)
    with pytest.raises(SigningRefusedError, match=r"differs much from version 2 of slide S-2.*classify --slide S-1"):
        sign_result(anna, "S-1", 1)
    assert sign_result(anna, "S-3", 1) == 2
    assert write_due_results(settings, slides=["S-1", "S-2", "S-3"]) == ["S-1", "S-2", "S-3"]
    versions = read_result(laboratory.database, "S-1").versions
    assert [version.why for version in versions] == ["first count", "another result of the patient was signed"]
    assert (versions[1].review_for, versions[1].digest) == (("delta",), versions[0].digest)
    assert write_due_results(settings, slides=["S-1"]) == ["S-1"]
    assert sign_result(anna, "S-1", 2) == 3
    states = "SELECT barcode, version, state FROM bloodcell.result_version ORDER BY 1, 2"
    assert laboratory.rows(states) == [
        ("S-1", 1, "machine"), ("S-1", 2, "machine"), ("S-1", 3, "final"),
        ("S-2", 1, "machine"), ("S-2", 2, "final"), ("S-3", 1, "machine"), ("S-3", 2, "final"),
    ]  # fmt: skip


def test_who_is_no_reviewer_cannot_sign(laboratory: Laboratory, people: dict[str, Settings]) -> None:
    slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
    with pytest.raises(ConfigurationError, match=r"may not sign.*a member of bloodcell_reviewer"):
        sign_result(people["carl_reads"], "S-1", 1)
    with refused(), laboratory.database.begin() as connection:
        connection.execute(sa.text("SELECT bloodcell.sign_result('S-1', 1, 'final', NULL)"))
    forged = (
        "INSERT INTO bloodcell.result "
        "(slide_id, number, state, report_id, causes, withheld_for, review_for, signed_by) "
        "SELECT slide_id, 2, 'final', report_id, '{signature}', '{}', '{}', 'anna_signs' FROM bloodcell.result"
    )
    with refused(), laboratory.database.begin() as connection:
        connection.execute(sa.text(forged))


@pytest.mark.parametrize("barcode", ["none", "uncounted", "withdrawn"])
def test_what_has_no_result_cannot_be_signed(laboratory: Laboratory, people: dict[str, Settings], barcode: str) -> None:
    laboratory.slide("uncounted")
    gone = laboratory.slide("withdrawn")
    laboratory.call(laboratory.cells(gone, ["SNE"] * 120), ["neutrophil"] * 120)
    laboratory.count()
    with laboratory.database.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO bloodcell.slide_withdrawal (slide_id, action, reason, requested_by, run_id) "
                "VALUES (:slide, 'withdraw', 'wrong rack', 'anna', :run)"
            ),
            {"slide": gone, "run": laboratory.run_id},
        )
    with pytest.raises(SigningRefusedError, match=r"no result yet|No slide that stands"):
        sign_result(people["anna_signs"], barcode, 1)


def test_with_the_embedded_postgres_its_user_signs(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings(data_dir=tmp_path_factory.mktemp("own"))
    server = embedded_database(settings)
    try:
        upgrade(server.url())
        laboratory = Laboratory(Database(connect(server.url(), role="bloodcell_app"), patience_s=0))
        laboratory.model()
        slide_of(laboratory, ["SNE"] * 120, ["neutrophil"] * 120)
        assert sign_result(settings, "S-1", 1) == 2
        signed = laboratory.rows("SELECT signed_by FROM bloodcell.result WHERE number = 2")
        assert signed == [(pwd.getpwuid(os.geteuid()).pw_name,)]
    finally:
        server.stop()
