"""A laboratory's rules file: what is accepted, what is refused, and which ranges hold for whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell.cells.classes import LEUCOCYTE_CLASSES
from bloodcell.differential.laboratory_rules import (
    DEFAULT_RULES,
    OLDEST_MONTHS,
    LaboratoryRules,
    Sex,
    age_text,
    digest_of_rules,
    read_rules,
    rules_of,
)
from bloodcell.errors import ConfigurationError

TEXT = DEFAULT_RULES.read_text()


def file(folder: Path, *changes: tuple[str, str]) -> Path:
    """A rules file with some changes to the default, each of which has to be possible."""
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    path = folder / "rules.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("age_months", [None, 1, 23, 24, 131, 132, 40 * 12, OLDEST_MONTHS - 1])
@pytest.mark.parametrize("sex", [None, "female", "male"])
def test_every_class_has_one_range_with_a_source_at_every_age(age_months: int | None, sex: Sex | None) -> None:
    rules = read_rules(None)
    ranges = rules.ranges_for(age_months, sex)
    assert set(ranges) == set(LEUCOCYTE_CLASSES)
    for expected in ranges.values():
        assert 0 <= expected.low <= expected.high <= 100
        assert len(rules.source_of(expected)) > 20


def test_without_an_age_the_ranges_are_those_of_adults() -> None:
    rules = read_rules(None)
    assert rules.ranges_for(None, None) == rules.ranges_for(50 * 12, None)
    assert rules.ranges_for(None, None)["neutrophil"].text == "40–75"


# Davis's Lab & Diagnostic Tests: birth, 1 to 23 months, 2 to 10 years, 11 years and older
@pytest.mark.parametrize(
    ("age_months", "neutrophils", "lymphocytes", "monocytes", "eosinophils", "basophils", "immature"),
    [
        (0, "24–58", "26–56", "7–13", "0–8", "0–2.5", "0–0.3"),
        (1, "21–67", "20–64", "4–11", "0–3.3", "0–1", "0–0.3"),
        (23, "21–67", "20–64", "4–11", "0–3.3", "0–1", "0–0.3"),
        (24, "30–77", "14–50", "4–9", "0–5.8", "0–1", "0–0.3"),
        (131, "30–77", "14–50", "4–9", "0–5.8", "0–1", "0–0.3"),
        (132, "40–75", "12–44", "4–9", "0–5.5", "0–1", "0–0.9"),
    ],
)
def test_ranges_of_children_are_as_published(
    age_months: int,
    neutrophils: str,
    lymphocytes: str,
    monocytes: str,
    eosinophils: str,
    basophils: str,
    immature: str,
) -> None:
    ranges = read_rules(None).ranges_for(age_months, None)
    shown = [ranges[name].text for name in ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "ig")]
    assert shown == [neutrophils, lymphocytes, monocytes, eosinophils, basophils, immature]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("low = 24.0", "low = 60.0", r"range\.0: low 60 is above high 58"),
        ("high = 58.0", "high = 158.0", r"range\.0: high 158 is more than 100 percent"),
        ('class = "neutrophil"', 'class = "neutro"', r"range\.0\.class: .*received 'neutro'"),
        (
            "age_months_to = 1\n",
            "age_months_to = 3\n",
            "two ranges of neutrophil overlap: birth to under 3 months",
        ),
        ("age_months_to = 1\n", "age_months_to = 0\n", r"range\.0\.age_months_to"),
        ("age_months_from = 132", "age_months_from = 2000", r"age_months_from"),
        ("version =", "versions =", "version: Field required; versions: Extra inputs are not permitted"),
        ("leucocytes_below = 50", "leucocytes_below = 101", r"leucocytes_below \(101\) is above sufficient_leucocytes"),
        ("percent_at_least = 3.0", "percent_at_least = nan", "percent_at_least"),
        ("percent_at_least = 3.0", "percent_at_least = -1.0", "percent_at_least"),
        ("blasts = true", 'blasts = "yes"', "blasts"),
        ("[withhold]", "[withhold", "at line"),
        ("enabled = true", "", r"review\.blasts\.enabled: Field required"),
        ("[loinc]\nmethod", "[other]\nmethod", r"loinc\.method: Field required"),
        (
            '"26511-6"',
            '"26511-7"',
            r"loinc\.codes\.neutrophil\.methodless: the check digit is wrong: 26511 would have 6",
        ),
        ('"26511-6"', '"26151-6"', r"the check digit is wrong: .*received '26151-6'"),
        ('"26511-6"', '"265116"', r"expected a LOINC code, such as 26511-6 .received '265116'"),
        ('"26511-6"', '"LA6576-8"', "expected a LOINC code"),
        ('"26511-6"', '"12345678-4"', "expected a LOINC code"),
        ('"26511-6"', '"\u0662\u0666511-6"', "expected a LOINC code"),
        ('"26511-6"', "26511", r"neutrophil\.methodless"),
        (
            '"26511-6"',
            '"26478-8"',
            r"loinc: 26478-8 is given twice: codes\.neutrophil\.methodless and codes\.lymphocyte",
        ),
        (
            '"770-8"',
            '"26511-6"',
            r"26511-6 is given twice: codes\.neutrophil\.methodless and codes\.neutrophil\.automated",
        ),
        ("neutrophil = {", "neutrophils = {", r"loinc\.codes\.neutrophils\S*: .*received 'neutrophils'"),
        ("neutrophil = {", "platelet = {", r"loinc\.codes\.platelet"),
        ('automated = "770-8"', 'by_hand = "770-8"', r"loinc\.codes\.neutrophil\.by_hand"),
        ('method = "methodless"', 'method = "microscope"', r"loinc\.method: .*received 'microscope'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, before: str, after: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"is not valid: .*{says}.*bloodcell rules show"):
        read_rules(file(tmp_path, (before, after)))


def test_ranges_of_two_sexes_do_not_overlap(tmp_path: Path) -> None:
    of_women = 'class = "ig"\nsex = "female"\nage_months_from = 132'
    path = file(tmp_path, ('class = "ig"\nage_months_from = 132', of_women))
    path.write_text(path.read_text() + '\n[[range]]\nclass = "ig"\nsex = "male"\nage_months_from = 132\nlow = 0.0\n'
                    'high = 0.7\nsource = "ours"\n')  # fmt: skip
    rules = read_rules(path)
    found = {sex: rules.ranges_for(400, sex)["ig"].high for sex in ("female", "male")}
    assert found == {"female": 0.9, "male": 0.7}
    assert "ig" not in rules.ranges_for(400, None)
    assert rules.source_of(rules.ranges_for(400, "male")["ig"]) == "ours"


def test_a_missing_or_too_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read .*Correct BLOODCELL_RULES_FILE"):
        read_rules(tmp_path / "none.toml")
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigurationError, match="expected at most 262,144 bytes"):
        read_rules(path)


def test_the_digest_is_of_what_the_file_says(tmp_path: Path) -> None:
    rules = read_rules(None)
    assert read_rules(file(tmp_path, ("# Rules of a laboratory", "# Ours"))).digest == rules.digest
    assert read_rules(file(tmp_path, ("high = 58.0", "high = 59.0"))).digest != rules.digest
    assert read_rules(file(tmp_path, ('method = "methodless"', 'method = "manual"'))).digest != rules.digest
    assert digest_of_rules(rules.document) == rules.digest
    assert LaboratoryRules.model_validate(rules.document, strict=False) == rules


def test_ages_are_shown_in_months_below_two_years() -> None:
    assert [age_text(n) for n in (0, 1, 23, 24, 30, 480)] == [
        "birth", "1 month", "23 months", "2 years", "2 years 6 months", "40 years",
    ]  # fmt: skip


def test_rules_that_another_release_kept_can_still_be_shown() -> None:
    own = read_rules(None)
    assert rules_of(own.document) == own
    stored = own.document
    del stored["review"]["immature_granulocytes"]["cells_at_least"], stored["review"]["delta"]
    stored["review"]["comets"] = {"enabled": True}
    stored["range"][0] |= {"low": 25.0, "unit": "percent"}
    shown = rules_of(stored)
    assert shown.ranges_for(0, None)["neutrophil"].low == 25
    assert shown.source_of(shown.ranges[0]) == own.source_of(own.ranges[0])
    assert rules_of({"version": "almost empty"}).version == "almost empty"


def test_loinc_codes_that_another_release_kept_are_shown_as_they_were() -> None:
    own = read_rules(None)
    stored = own.document
    del stored["loinc"]["codes"]["PLY"]
    stored["loinc"]["codes"]["lymphocyte"] = {"methodless": None, "manual": "737-7", "by_image": "1-8"}
    stored["loinc"]["codes"]["OTH"] = {"methodless": "26471-3"}
    shown = rules_of(stored).loinc
    assert shown.code_of("PLY") is None
    assert shown.code_of("lymphocyte") is None
    assert shown.code_of("neutrophil") == "26511-6"
    del stored["loinc"]
    assert rules_of(stored).loinc == own.loinc
