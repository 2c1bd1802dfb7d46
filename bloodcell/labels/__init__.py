"""The labels that people give cells: read from files and sorted folders, checked, matched to cells, appended.

    csv_rows, class_folders -> label_rows -> matching -> importing

`label_inbox` imports what arrives in a folder, `exporting` writes the labels to a file, and `sampling` the cells of the
random sample that wait for a blind reading. `label_outcomes` says why a file or a row is refused.

Labels are append-only: a correction is a new label by the same person. A cell that people label differently is
contested until somebody adjudicates. An import can be repeated, killed at any point, or run twice at the same time, and
leaves the same rows.
"""

from bloodcell.labels.exporting import LabelExport, export_labels
from bloodcell.labels.importing import LabelImport, import_labels
from bloodcell.labels.label_inbox import InboxFile, InboxResult, import_inbox
from bloodcell.labels.sampling import SampleForReading, write_sample

__all__ = [
    "InboxFile",
    "InboxResult",
    "LabelExport",
    "LabelImport",
    "SampleForReading",
    "export_labels",
    "import_inbox",
    "import_labels",
    "write_sample",
]
