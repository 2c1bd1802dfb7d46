"""What holds the results of a night: sentinels, control material and moving figures; and rounds of external assessment.

A laboratory keeps it in one TOML file (BLOODCELL_QUALITY_FILE).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from bloodcell.toml_file import TomlFile

DEFAULT_QUALITY: Final = Path(__file__).with_name("default_quality.toml")

WestgardRule = Literal["1_3s", "2_2s", "4_1s", "10_x"]
ControlClass = Literal["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig"]

_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_FalseAlarm = Annotated[float, Field(gt=0, le=5, allow_inf_nan=False)]
_FIXED: Final = 3
"""Characters with which a pattern of barcodes has to begin, so that it cannot fit every patient's slide."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
        return value


class SentinelRules(_Part):
    """When a worker's models compute something else than before.

    Attributes:
        enabled: Whether sentinels are called at all.
        cells: Stored cells that are called.
        probability_difference_above: Largest difference of a probability, in 0..1.
        novelty_difference_percent_above: Largest difference of the novelty, in percent of it.
    """

    enabled: bool = True
    cells: int = Field(ge=1, le=200)
    probability_difference_above: float = Field(gt=0, le=1, allow_inf_nan=False)
    novelty_difference_percent_above: _Percent


class ControlSlideRules(_Part):
    """When a slide of control material fails.

    Attributes:
        false_alarm_percent: How often one on target fails, in percent.
        leucocytes_at_least: One with fewer leucocytes fails.
        unclassified_percent_above: One with more unclassified cells fails, in percent of these and the leucocytes.
    """

    false_alarm_percent: _FalseAlarm
    leucocytes_at_least: int = Field(ge=1)
    unclassified_percent_above: _Percent


class FigureRules(_Part):
    """How the moving figures of an analyser are judged.

    Attributes:
        enabled: Whether they are judged at all.
        baseline_nights: Nights from which what is expected is learnt.
        slides_at_least: Slides of a night and analyser without which nothing is judged.
        leucocytes_at_least: Leucocytes without which a slide has no shares.
        hold_for: Westgard's rules that hold the night.
        warn_for: Westgard's rules that are shown, and hold nothing.
        share_false_alarm_percent: How often a share of a quiet night fails, in percent.
        share_shift_points_above: Smallest difference from what is expected that can fail, in percentage points of the
            slides.
    """

    enabled: bool = True
    baseline_nights: int = Field(ge=10, le=100)
    slides_at_least: int = Field(ge=5)
    leucocytes_at_least: int = Field(ge=1)
    hold_for: tuple[WestgardRule, ...]
    warn_for: tuple[WestgardRule, ...]
    share_false_alarm_percent: _FalseAlarm
    share_shift_points_above: _Percent


class _Material(_Part):
    """Slides that are no patient's.

    Attributes:
        name: The laboratory's name of them.
        barcode: Pattern of their barcodes, with * for any characters.
    """

    name: _Text
    barcode: _Text

    @model_validator(mode="after")
    def _begins_with_something(self) -> Self:
        if any(character in "*?[" for character in self.barcode[:_FIXED]) or len(self.barcode) < _FIXED:
            raise ValueError(
                f"barcode: {self.barcode!r} would fit patients' slides: it has to begin with {_FIXED} characters that "
                "are no wildcards"
            )
        return self

    def fits(self, barcode: str) -> bool:
        """Returns whether a slide with this barcode is meant."""
        return fnmatchcase(barcode, self.barcode)


class Control(_Material):
    """A lot of control material.

    Attributes:
        required: Whether a night without it fails.
        analysers: With `required`: each of these has to have one; none: one a night is enough.
        allowed_points: Difference from the target that is allowed besides chance, in percentage points.
        percent: Class -> target, in percent of the leucocytes.
    """

    required: bool = False
    analysers: tuple[_Text, ...] = ()
    allowed_points: _Percent = 0.0
    percent: dict[ControlClass, _Percent] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (total := sum(self.percent.values())) > 100.5:
            raise ValueError(f"percent: the targets add up to {total:g} percent")
        return self


class EqaRound(_Material):
    """A round of external quality assessment (EQA): an organiser's cells, which people read blind.

    Attributes:
        due: Until when they can be read, with the offset from UTC.
    """

    due: AwareDatetime


class QualityRules(_Part):
    """A quality file.

    Attributes:
        version: The laboratory's own name of this version.
        sentinels: When a worker's models compute something else than before.
        control_slides: How control slides are judged.
        figures: How moving figures are judged.
        controls: Lots of control material.
        rounds: Rounds of external quality assessment.
    """

    version: _Text
    sentinels: SentinelRules
    control_slides: ControlSlideRules
    figures: FigureRules
    controls: tuple[Control, ...] = Field((), alias="control")
    rounds: tuple[EqaRound, ...] = Field((), alias="round")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [each.name for each in self._materials]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two controls or rounds are called {doubled[0]!r}")
        return self

    @property
    def _materials(self) -> tuple[Control | EqaRound, ...]:
        return (*self.controls, *self.rounds)

    def material_of(self, barcode: str) -> Control | EqaRound | None:
        """Returns the control or the round that a slide with this barcode belongs to; None: it is a patient's."""
        return next((each for each in self._materials if each.fits(barcode)), None)

    def control_of(self, barcode: str) -> Control | None:
        """Returns the control that a slide with this barcode is of; None: it is a patient's, or of a round."""
        found = self.material_of(barcode)
        return found if isinstance(found, Control) else None


_KIND: Final = TomlFile(
    name="quality file",
    content=QualityRules,
    setting="BLOODCELL_QUALITY_FILE",
    next_step="bloodcell quality show prints a complete file, bloodcell quality rules FILE checks one.",
)


def read_quality_rules(path: Path | None) -> QualityRules:
    """Returns the rules in a file; None: those that come with bloodcell.

    Raises:
        ConfigurationError: The file cannot be read or is not valid; the message names every problem.
    """
    return _default() if path is None else _KIND.read(path)


@lru_cache(maxsize=1)
def _default() -> QualityRules:
    return _KIND.read(DEFAULT_QUALITY)
