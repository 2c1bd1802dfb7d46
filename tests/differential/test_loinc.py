"""LOINC codes of the lines of a differential: their check digits, and which one is reported."""

from __future__ import annotations

import pytest

from bloodcell.cells.classes import LEUCOCYTE_CLASSES, OTHER_LEUCOCYTES
from bloodcell.differential.laboratory_rules import DEFAULT_RULES, LaboratoryRules, read_rules
from bloodcell.differential.loinc import LOINC_LINES, LoincMethod, check_digit


def loinc(**changes: object) -> LaboratoryRules:
    """The rules that come with bloodcell, with changes to their LOINC table."""
    document = read_rules(None).document
    document["loinc"] |= changes
    return LaboratoryRules.model_validate(document, strict=False)


# 12345 is the example of LOINC's Users' Guide, the others were read at loinc.org: one digit, even and odd lengths, 0
@pytest.mark.parametrize(
    ("number", "digit"), [("12345", 5), ("709", 6), ("26446", 5), ("30180", 4), ("24318", 8), ("58413", 6), ("702", 1),
                          ("4", 2), ("0", 0)]
)  # fmt: skip
def test_check_digits_are_those_of_the_users_guide(number: str, digit: int) -> None:
    assert check_digit(number) == digit


def test_every_reported_line_has_a_code() -> None:
    assert set(LOINC_LINES) == {"panel", *LEUCOCYTE_CLASSES, "erythroblast", *OTHER_LEUCOCYTES}
    table = read_rules(None).loinc
    codes = [table.code_of(line) for line in LOINC_LINES]
    assert None not in codes
    assert len(set(codes)) == len(codes)


def test_the_discouraged_manual_panel_is_not_used() -> None:
    assert read_rules(None).loinc.code_of("panel") == "69738-3"
    assert '"24318-8"' not in DEFAULT_RULES.read_text()


@pytest.mark.parametrize(
    ("method", "neutrophils", "blasts", "panel"),
    [
        ("methodless", "26511-6", "26446-5", "69738-3"),
        ("automated", "770-8", "26446-5", "57023-4"),  # no automated term of blasts is known: the methodless one holds
        ("manual", "23761-0", "709-6", "69738-3"),
    ],
)
def test_one_method_is_chosen_for_all_lines(method: LoincMethod, neutrophils: str, blasts: str, panel: str) -> None:
    table = loinc(method=method).loinc
    assert [table.code_of(line) for line in ("neutrophil", "BL", "panel")] == [neutrophils, blasts, panel]


def test_a_line_without_terms_has_no_code() -> None:
    table = loinc(codes={"neutrophil": {"manual": "23761-0"}}).loinc
    assert table.code_of("neutrophil") is None
    assert table.code_of("SMU") is None
    assert table.code_of("panel") is None
