"""Makes the versions of slides' results, judges what may be used, and reads and signs them.

due_results     finds the slides that are due, counts them, and makes their versions
versions        makes a version where a count differs from what the newest version reports
judging         what is withheld, and which review rules name a slide
stored_result   reads a version back: the one in force, a certain one, or that of a moment
slide_list      nights and slides with their states, the most urgent first
personal_login  what only a person may do is done with the person's own login
signing         a person signs a version
overriding      a person overrides a failed check of the quality control
signed_before   results that were signed before the quality control of their night failed
result_display  shows a version on a terminal and as a JSON document
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bloodcell.lazy_names import lazy_names

if TYPE_CHECKING:
    from bloodcell.results.due_results import write_due_results
    from bloodcell.results.signing import sign_result
    from bloodcell.results.stored_result import SlideResult, read_result
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "SlideResult": "bloodcell.results.stored_result",
            "read_result": "bloodcell.results.stored_result",
            "sign_result": "bloodcell.results.signing",
            "write_due_results": "bloodcell.results.due_results",
        },
    )

__all__ = ["SlideResult", "read_result", "sign_result", "write_due_results"]
