"""The LOINC codes of the lines of a differential, as the rules file gives them.

LOINC has a term for each kind of cell and each method of counting. One method is chosen for the whole file, because a
message that mixes manual and automated terms says that two counts were made.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

LoincMethod = Literal["methodless", "automated", "manual"]
LoincLine = Literal[
    "panel", "neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig", "erythroblast",
    "BL", "VLY", "PLY", "PC", "LGLY", "HC", "SEC", "PMO", "IBO", "IEO",
]  # fmt: skip
LOINC_LINES: Final[tuple[LoincLine, ...]] = get_args(LoincLine)
"""The panel, the six leucocyte classes, erythroblasts per 100 leucocytes, and the codes of other leucocytes."""

_FORM: Final = re.compile(r"([0-9]{1,7})-([0-9])")


def check_digit(number: str) -> int:
    """Returns the check digit of a LOINC number, which is given without it.

    Source: LOINC Users' Guide, section 12 C, https://loinc.org/kb/users-guide/calculating-mod-10-check-digits/.
    """
    digits = [int(digit) for digit in reversed(number)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[::2])
    return -(sum(doubled) + sum(digits[1::2])) % 10


def _checked(code: str) -> str:
    form = _FORM.fullmatch(code)
    if form is None:
        raise ValueError("expected a LOINC code, such as 26511-6")
    number, digit = form.groups()
    if int(digit) != check_digit(number):
        raise ValueError(
            f"the check digit is wrong: {number} would have {check_digit(number)}. Look for a mistyped digit"
        )
    return code


_Code = Annotated[str, AfterValidator(_checked)]


class LineCodes(BaseModel):
    """The terms of one line of the differential, by the method of counting.

    Attributes:
        methodless: The term that leaves the method open.
        automated: "by Automated count": an analyser counted, and no person looked at the cells.
        manual: "by Manual count": a person counted at the microscope.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    methodless: _Code | None = None
    automated: _Code | None = None
    manual: _Code | None = None


class LoincTable(BaseModel):
    """The LOINC codes of a laboratory.

    Attributes:
        method: The method whose terms are reported.
        codes: Line -> its terms. A line without terms is reported without a LOINC code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: LoincMethod
    codes: dict[LoincLine, LineCodes]

    @model_validator(mode="after")
    def _no_code_is_used_twice(self) -> Self:
        lines: dict[str, str] = {}
        for line, terms in self.codes.items():
            for method, code in terms:
                place = f"codes.{line}.{method}"
                if code and lines.setdefault(code, place) != place:
                    raise ValueError(f"{code} is given twice: {lines[code]} and {place}")
        return self

    def code_of(self, line: str) -> str | None:
        """Returns the code under which a line is reported; None: it has none.

        A line without a term of the chosen method has its methodless term, which holds for every method.

        Args:
            line: One of `LOINC_LINES`; any other line has no code.
        """
        for known, terms in self.codes.items():
            if known == line:
                chosen: str | None = getattr(terms, self.method)
                return chosen or terms.methodless
        return None
