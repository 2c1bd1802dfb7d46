"""What a check of the installation found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from bloodcell.presentation.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

Status = Literal["ok", "warn", "fail"]

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked.
        status: "ok", "warn" (it works, but not as it should) or "fail".
        detail: What was found.
        next_step: What to do; empty if there is nothing to do.
    """

    check: str
    status: Status
    detail: str
    next_step: str = ""


def findings_table(findings: Sequence[Finding]) -> Table:
    """Returns the findings as a table for a terminal."""
    from rich.markup import escape

    table = plain_table("", "check", "found", wrapped=["found"])
    for finding in findings:
        step = f"\n[bold]→ {escape(finding.next_step)}[/]" if finding.next_step else ""
        style = _STYLES[finding.status]
        table.add_row(f"[{style}]{finding.status}[/]", finding.check, f"{escape(finding.detail)}{step}")
    return table


def findings_json(findings: Sequence[Finding]) -> dict[str, object]:
    """Returns the findings as a JSON document."""
    return {
        "ok": all(finding.status != "fail" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
