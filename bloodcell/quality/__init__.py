"""Quality control: what holds the results of a night until a named person overrides it.

night_control    checks a night, before its slides are counted
control_slides   slides of control material beside their target
moving_figures   colour, sharpness and calls of an analyser's night beside its first nights
control_charts   limits and rules of control charts
quality_check    one check, and how it is recorded
quality_status   what is held now, what was overridden, and the figures of the last nights
quality_display  shows them on the terminal
external_rounds  rounds of external quality assessment: targets come in, scores go out
restarting       starts a new baseline, or resets the references

The workers check their sentinels (`classify.sentinels`), and a person overrides a check as a person signs
(`results.overriding`). A failed check holds the results of its night, analyser or worker: they are withheld, cannot be
signed, and are not sent. Only crops are seen: whether an analyser finds the cells of a slide stays its own test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.quality.night_control import NightControl, control_night, control_nights
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "NightControl": "bloodcell.quality.night_control",
            "control_night": "bloodcell.quality.night_control",
            "control_nights": "bloodcell.quality.night_control",
        },
    )

__all__ = ["NightControl", "control_night", "control_nights"]
