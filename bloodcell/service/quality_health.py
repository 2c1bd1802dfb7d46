"""What the quality control holds, and whether it has what it compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.presentation.numbers import counted
from bloodcell.quality.quality_status import read_quality
from bloodcell.quality_rules import read_quality_rules
from bloodcell.service.findings import Finding

if TYPE_CHECKING:
    from bloodcell.settings import Settings
    from bloodcell.storage.database import Database


def quality_finding(settings: Settings, database: Database) -> Finding:
    """Returns what is held now, or what is checked.

    Raises:
        ConfigurationError: The quality file is not valid.
        DatabaseUnavailableError: Postgres is unavailable.
    """
    rules, status = read_quality_rules(settings.quality_file), read_quality(database, nights=1)
    if status.failed:
        n_slides = sum(each.n_slides for each in status.failed)
        detail = (
            f"{counted(len(status.failed), 'failed check')} of the quality control, {counted(n_slides, 'held slide')}"
        )
        return Finding("quality", "warn", detail, "Next: bloodcell quality status says why")
    controls = counted(len(rules.controls), "control") if rules.controls else "no control slides"
    return Finding("quality", "ok", f"Nothing is held; rules {rules.version!r} with {controls}")
