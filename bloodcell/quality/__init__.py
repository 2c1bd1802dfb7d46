"""Quality control: what holds the results of a night until a named person overrides it.

    sentinels       stored cells that each worker calls again (`classify.sentinels`)
    control slides  material whose differential is known
    moving figures  each analyser's nights beside its first nights

A failed check holds the results of its night, analyser or worker: they are withheld, cannot be signed, and are not
sent. Only crops are seen: whether an analyser finds the cells of a slide stays the analyser's own test.
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
