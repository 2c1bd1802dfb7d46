"""What the page of a slide says of its result: state, versions, labels, and the facts that it rests on."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from bloodcell.storage.connections import REVIEWER_ROLE, connect
from bloodcell.storage.store import Store
from tests.laboratory import Laboratory
from tests.report.slide_pages import counted_slide, facts, gallery, notices, rows, status, words, written
from tests.storage.conftest import as_superuser


def sign_as(laboratory: Laboratory, login: str, barcode: str, version: int, state: str, reason: str | None) -> None:
    """Signs with the login of a person, who has no right but the reviewer's."""
    url = laboratory.database.engine.url.render_as_string(hide_password=False)
    with as_superuser(url).connect() as connection:
        if not connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :login"), {"login": login}):
            connection.execute(sa.text(f"CREATE ROLE {login} LOGIN IN ROLE {REVIEWER_ROLE}"))
    personal = sa.make_url(url).set(username=login).render_as_string(hide_password=False)
    statement = sa.text("SELECT bloodcell.sign_result(:barcode, :version, :state, :reason)")
    with connect(personal).begin() as connection:
        connection.execute(statement, {"barcode": barcode, "version": version, "state": state, "reason": reason})


def test_labels_are_shown_and_cells_are_sorted_under_what_they_count_as(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    cells = counted_slide(
        laboratory,
        store,
        [("BL", "lymphocyte", 3), ("LY", "lymphocyte", 60), ("SNE", "neutrophil", 3), (None, "unclassified", 1)],
    )
    laboratory.label(cells[:1], ["BL"], by="anna")
    laboratory.label(cells[1:2], ["lymphocyte"], by="anna")
    laboratory.label(cells[3:5], ["BL", "SMU"], by="ben")
    laboratory.label(cells[5:6], ["VLY"], by="anna")
    laboratory.label(cells[5:6], ["PLY"], by="ben")
    laboratory.count()
    page = written(laboratory, store, tmp_path)
    shown = gallery(page)
    assert list(shown) == [
        "BL blast 3, 1 of them for review",
        "Contested 1 for review",
        "Unclassified 1 for review",
        "Neutrophils 3",
        "Lymphocytes 58",
        "SMU smudge cell 1",
    ]
    unverified, by_anna, by_ben = shown["BL blast 3, 1 of them for review"]
    assert unverified.startswith("counts as BL blast analyser BL model lymphocyte 90 %")
    assert by_anna.startswith("counts as BL blast labelled BL (anna) model lymphocyte 90 % monocyte 10 % analyser BL")
    assert by_ben.startswith("counts as BL blast labelled BL (ben) model lymphocyte 90 % monocyte 10 % analyser LY")
    assert shown["Contested 1 for review"][0].startswith("counts as Contested labelled VLY (anna), PLY (ben) model")
    assert shown["Lymphocytes 58"][-1].startswith("counts as Lymphocytes labelled lymphocyte (anna) model 90 %")
    assert shown["SMU smudge cell 1"][0].startswith("counts as SMU smudge cell labelled SMU (ben) model lymphocyte")
    assert shown["Neutrophils 3"][0].startswith("counts as Neutrophils 90 % platelet 10 % analyser SNE")
    counted = {row[0]: row[1] for row in rows(page, "Differential")}
    assert (counted["BL blast 1 of them unverified"], counted["Lymphocytes"], counted["All leucocytes"]) == (
        *("3", "58"),
        "64",
    )
    assert "People disagree on 1 cell, which nobody has settled yet." in notices(page)
    assert "1 contested" in words(page)
    assert "SMU smudge cell: 1, not counted" in words(page)


def test_a_withheld_slide_says_so_with_the_reasons_and_greys_its_percentages(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    counted_slide(
        laboratory,
        store,
        [("BL", "lymphocyte", 2), ("LY", "lymphocyte", 20), ("SNE", "neutrophil", 20), (None, "unclassified", 8)],
        wbc_10e9_per_l=6.5,
        wbc_is_corrected=True,
    )
    page = written(laboratory, store, tmp_path)
    assert status(page) == "Withheld"
    state, not_a_diagnosis, *others = notices(page)
    assert re.fullmatch(
        r"Version 1 of 1, \S+ \S+ UTC: WITHHELD, percentages are not to be used before a person has looked: "
        r"too few leucocytes, too many unclassified cells, blasts\.",
        state,
    )
    assert not_a_diagnosis.endswith("A qualified person must review the slide before any of this is used.")
    assert "For review: blasts, unclassified cells, unverified other leucocytes." in others
    assert '<p class="notice withheld">' in page
    assert '<table class="withheld">' in page
    assert rows(page, "Differential")[0][:3] == ["Neutrophils", "20", "47.6"]
    assert words(page).count("%, withheld") == 1
    # percentage and absolute count of seven lines
    assert page.count('<td class="number share quiet">') == 7
    assert len(re.findall(r'<td class="number quiet">\d+\.\d\d</td>', page)) == 7


def test_the_percentages_of_a_slide_that_is_not_withheld_are_not_greyed(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    counted_slide(
        laboratory,
        store,
        [("LY", "lymphocyte", 30), ("SNE", "neutrophil", 75)],
        wbc_10e9_per_l=6.5,
        wbc_is_corrected=True,
    )
    page = written(laboratory, store, tmp_path)
    assert status(page) == "Machine"
    assert re.fullmatch(r"Version 1 of 1, \S+ \S+ UTC: machine result, nobody has reviewed it\.", notices(page)[0])
    assert page.count('<td class="number share">') == 6
    assert "share quiet" not in page
    assert '<table class="withheld">' not in page
    assert "withheld" not in words(page.partition("<body>")[2])


def test_age_sex_and_the_leucocyte_count_are_shown_with_absolute_counts(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    counted_slide(
        laboratory,
        store,
        [("SNE", "neutrophil", 60), ("LY", "lymphocyte", 40), ("ERB", "erythroblast", 10)],
        age_months=30,
        sex="female",
        wbc_10e9_per_l=11.0,
        wbc_is_corrected=False,
    )
    page = written(laboratory, store, tmp_path)
    shown = facts(page)
    assert (shown["Age"], shown["Sex"], shown["WBC (10⁹/l)"]) == ("2 years 6 months", "female", "11.00")
    lines = {row[0]: row[5:8] for row in rows(page, "Differential")}
    # 11 x 100 / 110 = 10; the ranges are those of a child
    assert lines["Neutrophils"] == ["6.00", "30–77", ""]
    assert lines["Lymphocytes"] == ["4.00", "14–50", ""]
    assert lines["Basophils"] == ["0.00", "0–1", ""]
    assert lines["All leucocytes"][0] == "10.00"
    assert "WBC corrected from 11.00 to 10.00" in words(page)
    assert "of adults" not in words(page)
    assert not [notice for notice in notices(page) if "age is unknown" in notice]


def test_without_an_age_and_a_leucocyte_count_the_ranges_of_adults_are_named_and_nothing_is_absolute(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    counted_slide(laboratory, store, [("SNE", "neutrophil", 80), ("ERB", "erythroblast", 8)])
    page = written(laboratory, store, tmp_path)
    assert not {"Age", "Sex", "WBC (10⁹/l)"} & facts(page).keys()
    assert "10⁹/l" not in page
    assert "The age is unknown: flags are by the ranges of adults." in notices(page)
    assert "reference range of adults" in words(page)
    assert "corrected WBC = WBC × 0.909" in words(page)


def test_the_versions_are_listed_with_who_signed_each_and_why(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    cells = counted_slide(laboratory, store, [("LY", "lymphocyte", 40), ("SNE", "neutrophil", 80)])
    sign_as(laboratory, "dr_anna", "S-1", 1, "final", None)
    laboratory.label(cells[:2], ["VLY", "VLY"])
    laboratory.count()
    sign_as(laboratory, "dr_ben", "S-1", 3, "corrected", "two <b>variant</b> lymphocytes")
    page = written(laboratory, store, tmp_path)
    assert status(page) == "Corrected"
    assert re.fullmatch(r"Version 4 of 4, .* UTC: corrected, signed again by dr_ben\.", notices(page)[0])
    assert [[row[0], *row[2:5]] for row in rows(page, "Versions")] == [
        ["1", "machine", "run", "first count"],
        ["2", "final", "dr_anna", "version 1 was signed by dr_anna"],
        ["3", "machine, waits for a signature", "run", "cells that labels of people decide: 2 instead of 0"],
        [
            *("4 (shown)", "corrected", "dr_ben"),
            "version 3 was signed by dr_ben: two <b>variant</b> lymphocytes",
        ],
    ]
    digests = [row[5] for row in rows(page, "Versions")]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    assert all(re.fullmatch(r"[0-9a-f]{16}", digest) for digest in digests)
    assert "A qualified person must review" not in page
    assert not [notice for notice in notices(page) if notice.startswith("Differs")]


def test_what_differs_from_a_signed_result_waits_and_leaves_the_signed_numbers(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    cells = counted_slide(
        laboratory, store, [("LY", "lymphocyte", 40), ("SNE", "neutrophil", 80), ("ERB", "erythroblast", 2)]
    )
    laboratory.sign("S-1", 1)
    laboratory.label(cells[:2], ["BL", "BL"])
    laboratory.count()
    page = written(laboratory, store, tmp_path)
    assert status(page) == "Final, differs now"
    said = notices(page)
    assert re.fullmatch(
        r"Differs from what was signed: version 3 of \S+ \S+ UTC waits for a signature "
        r"\(cells that labels of people decide: 2 instead of 0\)\. Next: bloodcell result S-1 --version 3",
        said[2],
    )
    assert said[3:5] == [
        "Version 3 is withheld: blasts, nucleated red cells.",
        "Before it was signed, this result was for review: nucleated red cells.",
    ]
    counted = {row[0]: row[1] for row in rows(page, "Differential")}
    assert counted["Lymphocytes"] == "40"
    assert not [name for name in counted if name.startswith("BL")]
    assert [row[2] for row in rows(page, "Versions")] == ["machine", "final", "withheld, waits for a signature"]
    assert next(iter(gallery(page))) == "BL blast 2"
    assert [each for each in said if each.startswith("Labels or calls are newer than the counts above")]


def test_labels_that_are_not_counted_yet_are_announced_above_the_pictures(
    laboratory: Laboratory, store: Store, tmp_path: Path
) -> None:
    cells = counted_slide(laboratory, store, [("LY", "lymphocyte", 40), ("SNE", "neutrophil", 80)])
    newer = "Labels or calls are newer than the counts above"
    assert newer not in written(laboratory, store, tmp_path)
    laboratory.label(cells[:1], ["BL"])
    assert newer in written(laboratory, store, tmp_path)
    laboratory.count()
    assert newer not in written(laboratory, store, tmp_path)
