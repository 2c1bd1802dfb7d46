"""The rules of a laboratory: what is withheld, what a person should review, the reference ranges and the LOINC codes.

A laboratory keeps them in one TOML file. Each result records their digest, and the database keeps every version that a
result was made with, so that no number depends on a file that has changed since.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bloodcell.differential.loinc import LOINC_LINES, LineCodes, LoincTable
from bloodcell.toml_file import TomlFile

DEFAULT_RULES: Final = Path(__file__).with_name("default_rules.toml")
OWN_RULES: Final = "bloodcell defaults"
"""How the version of the rules that come with bloodcell begins."""
OLDEST_MONTHS: Final = 130 * 12
"""Largest age that is accepted. The oldest person on record reached 122 years."""

Sex = Literal["female", "male"]
RangeClass = Literal["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig", "erythroblast"]

_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, max_length=1000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class WithholdingRules(_Part):
    """When the percentages of a slide are not to be used before a person has looked.

    Attributes:
        leucocytes_below: Fewer leucocytes than this.
        unclassified_percent_above: More unclassified cells than this, of the leucocytes and the unclassified cells.
        unclassified_cells_above: More unclassified cells than this.
        blasts: Whether a cell that the analyser or a person coded as a blast is a reason.
    """

    leucocytes_below: int = Field(ge=1)
    unclassified_percent_above: _Percent
    unclassified_cells_above: int = Field(ge=0)
    blasts: bool


class _ReviewRule(_Part):
    enabled: bool
    source: _Text


class BlastsRule(_ReviewRule):
    """A cell that the analyser or a person coded as a blast."""


class UnclassifiedRule(_ReviewRule):
    """Unclassified cells in percent of these and the leucocytes."""

    percent_at_least: _Percent


class OtherLeucocytesRule(_ReviewRule):
    """Leucocytes that no model can name, such as variant lymphocytes, that nobody has labelled yet."""

    cells_at_least: int = Field(ge=1)


class NucleatedRedCellsRule(_ReviewRule):
    """Erythroblasts per 100 leucocytes."""

    per_100_wbc_at_least: float = Field(gt=0, le=10_000, allow_inf_nan=False)


class ImmatureGranulocytesRule(_ReviewRule):
    """Immature granulocytes in percent of the leucocytes, and in cells: both have to be reached."""

    percent_at_least: _Percent
    cells_at_least: int = Field(ge=1)


class AnalyserDisagreementRule(_ReviewRule):
    """Cells that the model calls as the analyser did: the whole 95 % interval lies below this percentage."""

    agreement_percent_below: _Percent


class DeltaRule(_ReviewRule):
    """A class has changed by more than this since the patient's last signed result, beyond both intervals."""

    percentage_points_above: _Percent
    within_days: int = Field(ge=1, le=36_500)


class ReviewRules(_Part):
    """The rules that name slides which a person should look at."""

    blasts: BlastsRule
    unclassified: UnclassifiedRule
    other_leucocytes: OtherLeucocytesRule
    nrbc: NucleatedRedCellsRule
    immature_granulocytes: ImmatureGranulocytesRule
    analyser_disagreement: AnalyserDisagreementRule
    delta: DeltaRule


class SecondReaderRules(_Part):
    """Cells that a second person has to label before the slide can be signed.

    Attributes:
        blasts: Whether these are cells that a person has labelled as a blast.
        out_of_scope: Whether these are all cells that a person has labelled with a code outside the eight classes.
    """

    blasts: bool = False
    out_of_scope: bool = False


class AbsoluteCountRules(_Part):
    """How the analyser's leucocyte count becomes absolute counts."""

    correct_from_nrbc_per_100_wbc: float = Field(ge=0, le=1000, allow_inf_nan=False)


class ReferenceRange(_Part):
    """The values expected at an age, both ends included.

    Attributes:
        cell_class: A leucocyte class, or erythroblast.
        sex: Whom it holds for; None: both.
        age_months_from: Youngest age, included.
        age_months_to: Oldest age, not included; None: no end.
        low: Lower end, in percent of the leucocytes; for erythroblasts per 100 leucocytes.
        high: Upper end, in the same unit.
        source: Where it was published, or a key of the file's `sources`.
    """

    cell_class: RangeClass = Field(alias="class")
    sex: Sex | None = None
    age_months_from: int = Field(ge=0, lt=OLDEST_MONTHS)
    age_months_to: int | None = Field(None, ge=1, le=OLDEST_MONTHS)
    low: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)
    source: _Text

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.cell_class != "erythroblast" and self.high > 100:
            raise ValueError(f"high {self.high:g} is more than 100 percent of the leucocytes")
        if self.age_months_to is not None and self.age_months_to <= self.age_months_from:
            raise ValueError(f"age_months_to {self.age_months_to} is not after age_months_from {self.age_months_from}")
        return self

    @property
    def text(self) -> str:
        """The range as people read it."""
        return "none" if self.high == 0 else f"{self.low:g}–{self.high:g}"

    @property
    def ages(self) -> str:
        """Whom the range holds for, as people read it."""
        whom = f"{self.sex}, " if self.sex else ""
        if self.age_months_to is None:
            return f"{whom}from {age_text(self.age_months_from)}"
        return f"{whom}{age_text(self.age_months_from)} to under {age_text(self.age_months_to)}"

    def covers(self, age_months: int, sex: Sex | None) -> bool:
        """Whether the range holds for a person of this age and sex."""
        is_of_age = self.age_months_from <= age_months < (self.age_months_to or OLDEST_MONTHS + 1)
        return is_of_age and self.sex in (None, sex)

    def overlaps(self, other: ReferenceRange) -> bool:
        """Whether both ranges hold for somebody."""
        first, second = sorted((self, other), key=lambda each: each.age_months_from)
        return (
            self.cell_class == other.cell_class
            and (self.sex is None or other.sex is None or self.sex == other.sex)
            and second.age_months_from < (first.age_months_to or OLDEST_MONTHS + 1)
        )


class LaboratoryRules(_Part):
    """A rules file.

    Attributes:
        version: The laboratory's own name of this version.
        sufficient_leucocytes: Leucocytes below which a count is insufficient.
        withhold: When percentages are withheld.
        review: Rules that name slides for review.
        second_reader: Cells that a second person has to label; none, if a file does not say it.
        absolute_counts: How absolute counts are computed.
        ranges: The reference ranges; no two of them hold for one person.
        loinc: The LOINC codes of the lines.
        sources: Key -> source, for ranges that name a key.
    """

    version: _Text
    sufficient_leucocytes: int = Field(ge=1)
    withhold: WithholdingRules
    review: ReviewRules
    second_reader: SecondReaderRules = SecondReaderRules()
    absolute_counts: AbsoluteCountRules
    ranges: tuple[ReferenceRange, ...] = Field(alias="range")
    loinc: LoincTable
    sources: dict[str, _Text] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _ranges_are_a_tuple(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("range"), list):
            return {**value, "range": tuple(value["range"])}
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for one, other in combinations(self.ranges, 2):
            if one.overlaps(other):
                raise ValueError(f"two ranges of {one.cell_class} overlap: {one.ages}, and {other.ages}")
        if self.withhold.leucocytes_below > self.sufficient_leucocytes:
            raise ValueError(
                f"withhold.leucocytes_below ({self.withhold.leucocytes_below}) is above sufficient_leucocytes "
                f"({self.sufficient_leucocytes})"
            )
        return self

    @property
    def document(self) -> dict[str, Any]:
        """Everything that the file says, as JSON."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """sha256 of `document` with sorted keys and no blanks: comments and layout of the file do not matter.

        The LOINC codes are part of it. They move no number, but they say what a number was reported as.
        """
        return digest_of_rules(self.document)

    def ranges_for(self, age_months: int | None, sex: Sex | None) -> dict[str, ReferenceRange]:
        """Returns class -> range for a person.

        Args:
            age_months: Age in whole months; None: unknown, and the ranges of adults hold.
            sex: "female" or "male"; None: unknown, and only ranges for both hold.
        """
        age = OLDEST_MONTHS - 1 if age_months is None else age_months
        return {each.cell_class: each for each in self.ranges if each.covers(age, sex)}

    def source_of(self, expected: ReferenceRange) -> str:
        """Returns where a range was published."""
        return self.sources.get(expected.source, expected.source)


_KIND: Final = TomlFile(
    name="rules file",
    content=LaboratoryRules,
    setting="BLOODCELL_RULES_FILE",
    next_step="bloodcell rules show prints a complete file, bloodcell rules check FILE checks one.",
)


def age_text(months: int) -> str:
    """Returns an age as people read it: months below two years, else years."""
    if months == 0:
        return "birth"
    if months < 24:
        return f"{months} month{'' if months == 1 else 's'}"
    years, rest = divmod(months, 12)
    return f"{years} years" + (f" {rest} months" if rest else "")


def digest_of_rules(document: dict[str, Any]) -> str:
    """Returns the identity of rules, as `LaboratoryRules.document` gives them."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def rules_of(document: dict[str, Any]) -> LaboratoryRules:
    """Returns rules that a result was made with, to show them; another release may have written them.

    What that release did not know is filled with bloodcell's own rules, and what this one does not know is left out.
    That changes no result: flags and reasons stay as they were written.

    Args:
        document: `LaboratoryRules.document` of then.
    """
    own = _default_rules().document
    return LaboratoryRules.model_validate(
        {**_filled(own, document), "sources": document.get("sources", {})}, strict=False
    )


def _filled(own: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    filled = {}
    for name, value in own.items():
        found = stored.get(name, value)
        if name == "codes":  # a line without codes stays without
            found = {
                line: {method: terms[method] for method in terms.keys() & LineCodes.model_fields.keys()}
                for line, terms in found.items()
                if line in LOINC_LINES
            }
        elif isinstance(value, dict) and isinstance(found, dict):
            found = _filled(value, found)
        elif name == "range":
            known = {field.alias or key for key, field in ReferenceRange.model_fields.items()}
            found = [{key: each[key] for key in each.keys() & known} for each in found]
        filled[name] = found
    return filled


def read_rules(path: Path | None) -> LaboratoryRules:
    """Returns the rules in a file; None: those that come with bloodcell.

    Raises:
        ConfigurationError: The file cannot be read or is not valid; the message names every problem.
    """
    return _default_rules() if path is None else _KIND.read(path)


@lru_cache(maxsize=1)
def _default_rules() -> LaboratoryRules:
    return _KIND.read(DEFAULT_RULES)
