"""`bloodcell nights`, `slides`, `result`, `sign` and `rules`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from bloodcell.cli import app
from bloodcell.differential.laboratory_rules import DEFAULT_RULES, read_rules
from bloodcell.errors import ConfigurationError, SchemaError, UnknownRecordError
from bloodcell.report import night_summary, write_night_page
from bloodcell.settings import Settings
from bloodcell.storage.database import Database
from tests.laboratory import SIGNER, Laboratory
from tests.storage.conftest import as_superuser


@pytest.fixture
def laboratory(database: Database, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> Laboratory:
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", database_url)
    monkeypatch.setenv("BLOODCELL_DATA_DIR", str(tmp_path / "data"))
    laboratory = Laboratory(database)
    laboratory.model()
    return laboratory


def add(
    laboratory: Laboratory, barcode: str, called: list[str], codes: Sequence[str | None] | None = None
) -> list[int]:
    cells = laboratory.cells(laboratory.slide(barcode), codes or [None] * len(called))
    laboratory.call(cells, called)
    laboratory.count()
    return cells


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def night(laboratory: Laboratory) -> Laboratory:
    """Four slides: healthy and signed, healthy, with a high class, and with unlabelled blasts."""
    healthy = ["neutrophil"] * 70 + ["lymphocyte"] * 35 + ["monocyte"] * 8
    add(laboratory, "signed", healthy)
    add(laboratory, "healthy", healthy)
    add(laboratory, "high", ["lymphocyte"] * 110)
    add(laboratory, "blasts", ["lymphocyte"] * 110, ["LY"] * 100 + ["BL"] * 10)
    laboratory.sign("signed", 1)
    return laboratory


def test_slides_are_listed_by_urgency(night: Laboratory) -> None:
    listed = json.loads(invoke("slides", "--json"))
    assert [slide["barcode"] for slide in listed] == ["blasts", "high", "healthy", "signed"]
    assert listed[0]["withheld_for"] == ["blasts"]
    assert listed[1]["flags"] == {"lymphocyte": "high", "neutrophil": "low", "monocyte": "low"}
    assert listed[3]["signed_by"] == "signer"
    text = invoke("slides")
    assert "4 slides, 1 withheld" in text
    assert [slide["barcode"] for slide in json.loads(invoke("slides", "--state", "final", "--json"))] == ["signed"]
    assert len(json.loads(invoke("slides", "--most", "2", "--json"))) == 2
    assert CliRunner().invoke(app, ["slides", "--night", "2020-01-01"]).exit_code == 3
    narrow = CliRunner().invoke(app, ["slides"], env={"COLUMNS": "60"}).stdout
    assert all(re.search(rf"^{slide['barcode']} ", narrow, re.MULTILINE) for slide in listed)


def test_nights_say_how_many_slides_are_withheld_and_signed(night: Laboratory) -> None:
    (listed,) = json.loads(invoke("nights", "--json"))
    figures = [listed[f"n_slides{kind}"] for kind in ("", "_reported", "_withheld", "_signed")]
    assert figures == [4, 4, 1, 1]
    assert "2026-03-14" in invoke("nights")


def test_without_a_night_there_is_nothing_to_list(database: Database, monkeypatch: pytest.MonkeyPatch,
                                                  database_url: str) -> None:  # fmt: skip
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", database_url)
    done = CliRunner().invoke(app, ["nights"])
    assert (done.exit_code, "No night has been read yet" in done.stdout) == (3, True)


def test_a_result_is_shown_with_all_its_versions(night: Laboratory) -> None:
    text = invoke("result", "signed")
    assert "Version 2 of 2" in text and "final, signed by signer" in text
    assert "first count" in text
    document = json.loads(invoke("result", "signed", "--json"))
    assert [version["state"] for version in document["versions"]] == ["machine", "final"]
    assert json.loads(invoke("result", "signed", "--version", "1", "--json"))["version"]["number"] == 1
    made = document["versions"][0]["made_at"]
    assert json.loads(invoke("result", "signed", "--as-of", made, "--json"))["version"]["number"] == 1
    assert "WITHHELD" in invoke("result", "blasts")


def test_a_version_that_does_not_exist_is_an_error(night: Laboratory) -> None:
    with pytest.raises(UnknownRecordError, match="has no version 3; its versions are 1 to 2"):
        invoke("result", "signed", "--version", "3")
    with pytest.raises(UnknownRecordError, match="had no result on 2019-12-31"):
        invoke("result", "signed", "--as-of", "2019-12-31")
    both = CliRunner().invoke(app, ["result", "signed", "--version", "1", "--as-of", "2026-01-01"])
    assert both.exit_code == 2


def test_signing_says_which_version_is_signed_now(
    night: Laboratory, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"its signature would name no person.*BLOODCELL_SIGNING_URL"):
        invoke("sign", "healthy", "--version", "1")
    monkeypatch.setenv("BLOODCELL_SIGNING_URL", sa.make_url(database_url).set(username=SIGNER).render_as_string(False))
    signed = json.loads(invoke("sign", "healthy", "--version", "1", "--json"))
    assert signed == {"slide": "healthy", "signed_version": 1, "version": 2, "state": "final"}
    both = CliRunner().invoke(app, ["sign", "healthy", "--version", "2", "--amended", "a", "--corrected", "b"])
    assert both.exit_code == 2
    assert CliRunner().invoke(app, ["sign", "healthy"]).exit_code == 2


def test_the_rules_that_are_shown_can_be_checked_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = invoke("rules", "show")
    assert shown == DEFAULT_RULES.read_text()
    path = tmp_path / "rules.toml"
    path.write_text(shown.replace("high = 75.0", "high = 70.0"))
    checked = invoke("rules", "check", str(path))
    assert "is valid" in checked
    assert re.search(r"Neutrophils +from 11 years +40–70 +davis", checked)
    assert re.search(r"BL blast +26446-5", checked)
    document = json.loads(invoke("rules", "check", str(path), "--json"))
    assert document["digest"] == read_rules(path).digest != read_rules(None).digest
    monkeypatch.setenv("BLOODCELL_RULES_FILE", str(path))
    assert json.loads(invoke("rules", "show", "--json"))["digest"] == document["digest"]
    path.write_text("version = 1")
    with pytest.raises(ConfigurationError, match="is not valid"):
        invoke("rules", "check", str(path))


def test_a_slide_that_differs_from_what_was_signed_is_listed_with_the_newest_reasons(night: Laboratory) -> None:
    cell = night.rows("SELECT min(cell_id) FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) "
                      "WHERE barcode = 'signed'")[0][0]  # fmt: skip
    night.label([int(str(cell))], ["BL"])
    night.count()
    listed = {slide["barcode"]: slide for slide in json.loads(invoke("slides", "--json"))}
    assert list(listed)[:2] == ["blasts", "signed"]
    signed = listed["signed"]
    assert (signed["status"], signed["state"], signed["version"], signed["newest_version"]) == (
        "differs from what was signed", "final", 2, 3,
    )  # fmt: skip
    assert (signed["withheld_for"], signed["n_blasts"], signed["signed_by"]) == (["blasts"], 1, "signer")


def test_the_report_of_any_version_can_be_written(night: Laboratory, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with night.database.begin() as connection:
        connection.exec_driver_sql("UPDATE bloodcell.image SET removed_at = now()")
    invoke("report", "signed", "--html", str(page), "--version", "1")
    assert "machine result, nobody has reviewed it" in page.read_text()
    both = CliRunner().invoke(app, ["report", "signed", "--html", str(page), "--version", "1", "--model", "c0"])
    assert both.exit_code == 2


@pytest.fixture(params=["bloodcell_reader", "bloodcell_reviewer"])
def personal(request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A person's login that may read views only, which the commands use."""
    with as_superuser(database_url).connect() as connection:
        connection.execute(sa.text(f"CREATE ROLE some_person LOGIN IN ROLE {request.param}"))
        monkeypatch.setenv(
            "BLOODCELL_DATABASE_URL", sa.make_url(database_url).set(username="some_person").render_as_string(False)
        )
        yield database_url
        connection.execute(sa.text("DROP ROLE some_person"))


def test_a_login_that_reads_only_views_sees_nights_slides_results_and_reports(
    night: Laboratory, personal: str, tmp_path: Path
) -> None:
    assert json.loads(invoke("nights", "--json"))[0]["n_slides"] == 4
    assert "blasts" in invoke("slides")
    document = json.loads(invoke("result", "signed", "--json"))
    assert (document["version"]["signed_by"], document["n_leucocytes"]) == (SIGNER, 113)
    assert "Version 1 of 2" in invoke("result", "signed", "--as-of", document["versions"][0]["made_at"])
    assert json.loads(invoke("differential", "high", "--model", "c0", "--json"))["n_leucocytes"] == 110
    page = tmp_path / "page.html"
    with as_superuser(personal).begin() as connection:
        connection.exec_driver_sql("UPDATE bloodcell.image SET removed_at = now()")
    invoke("report", "blasts", "--html", str(page))
    assert "BL_" in page.read_text()
    with pytest.raises(UnknownRecordError, match="No slide has the barcode"):
        invoke("result", "nothing")


def test_a_login_without_a_role_of_bloodcell_is_told_which_one_it_needs(night: Laboratory, personal: str) -> None:
    with as_superuser(personal).begin() as connection:
        connection.execute(sa.text("REVOKE bloodcell_reader, bloodcell_reviewer FROM some_person"))
    with pytest.raises(ConfigurationError, match="have it granted bloodcell_reader or bloodcell_reviewer"):
        invoke("nights")


def test_a_person_is_told_that_the_views_are_those_of_another_release(night: Laboratory, personal: str) -> None:
    with as_superuser(personal).begin() as connection:
        connection.execute(sa.text("COMMENT ON SCHEMA bloodcell IS 'bloodcell; views of another release'"))
    with pytest.raises(SchemaError, match="views of the database are those of another release"):
        invoke("result", "signed")


def test_slides_of_earlier_months_are_listed_on_request(night: Laboratory) -> None:
    lab = Laboratory(night.database, night.night - timedelta(days=31))
    add(lab, "earlier", ["neutrophil"] * 120)
    done = CliRunner().invoke(app, ["slides", "--json"], catch_exceptions=False)
    assert "earlier" not in {slide["barcode"] for slide in json.loads(done.stdout)}
    assert "Slides of nights since 2026-02-12; --since lists earlier ones." in done.stderr
    for arguments in (["--since", "2026-02-01"], ["--night", "2026-02-11"]):
        assert "earlier" in {slide["barcode"] for slide in json.loads(invoke("slides", "--json", *arguments))}
    both = CliRunner().invoke(app, ["slides", "--since", "2026-02-01", "--night", "2026-02-11"])
    assert both.exit_code == 2


def test_nights_count_withheld_versions_that_wait_after_a_signature(night: Laboratory) -> None:
    cell = night.rows("SELECT min(cell_id) FROM bloodcell.cell JOIN bloodcell.slide USING (slide_id) "
                      "WHERE barcode = 'signed'")[0][0]  # fmt: skip
    night.label([int(str(cell))], ["BL"])
    night.count()
    (listed,) = json.loads(invoke("nights", "--json"))
    figures = [
        listed[f"n_slides_{kind}"] for kind in ("reported", "withheld", "signed", "differing", "differing_withheld")
    ]
    assert figures == [4, 1, 1, 1, 1]
    assert invoke("nights").splitlines()[1].split() == ["2026-03-14", "4", "4", "2", "1", "1", "0", "0"]
    night.label([int(str(cell))], ["neutrophil"], at="2026-03-16 09:00+00")
    night.count()
    columns = "n_slides_differing, n_slides_differing_withheld"
    assert night.rows(f"SELECT {columns} FROM bloodcell.night_summary") == [(1, 0)]


def test_the_page_of_the_night_shows_a_new_signature(
    night: Laboratory, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    settings = Settings()
    page = write_night_page(settings, night_summary(night.database, night.night), {})
    monkeypatch.setenv("BLOODCELL_SIGNING_URL", sa.make_url(database_url).set(username=SIGNER).render_as_string(False))
    before = page.read_text().count("<td>final")
    invoke("sign", "healthy", "--version", "1")
    assert page.read_text().count("<td>final") == before + 1


def test_a_signature_counts_although_the_login_may_not_write_the_page(
    night: Laboratory, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    page = write_night_page(Settings(), night_summary(night.database, night.night), {})
    personal = sa.make_url(database_url).set(username=SIGNER).render_as_string(False)
    monkeypatch.setenv("BLOODCELL_DATABASE_URL", personal)
    before = page.read_text()
    done = CliRunner().invoke(app, ["sign", "healthy", "--version", "1"], catch_exceptions=False)
    assert (done.exit_code, "version 2 is final" in done.stdout) == (0, True)
    assert "brought up to date by the next import of labels" in done.stderr
    assert page.read_text() == before
