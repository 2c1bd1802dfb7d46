"""The demonstrations, which run on the real system.

    tour             a drawn night is classified, and its differentials are shown
    retraining_tour  the night is labelled, and a model is retrained on the labels and promoted

Both use a data folder of their own and leave a laboratory's data alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.demo.retraining_tour import run_retraining_demo
    from bloodcell.demo.tour import DemoError, run_demo
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "DemoError": "bloodcell.demo.tour",
            "run_demo": "bloodcell.demo.tour",
            "run_retraining_demo": "bloodcell.demo.retraining_tour",
        },
    )

__all__ = ["DemoError", "run_demo", "run_retraining_demo"]
