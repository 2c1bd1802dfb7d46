"""What people say of cells comes in: label files and folders sorted by class, checked, matched to cells, appended.

csv_rows, folder -> rows -> matching -> importing        inbox takes in what lies in a folder; status and exporting look

Labels are append-only: a correction is a new label by the same person. Two people who disagree contest a cell until
somebody adjudicates. All of it can be done twice, killed anywhere, or done by two at once, and leaves the same rows.
"""

from bloodcell.labels.exporting import LabelExport, export_labels
from bloodcell.labels.importing import LabelImport, import_labels
from bloodcell.labels.label_inbox import InboxFile, InboxResult, import_inbox
from bloodcell.labels.label_status import LabelStatus, label_status

__all__ = [
    "InboxFile",
    "InboxResult",
    "LabelExport",
    "LabelImport",
    "LabelStatus",
    "export_labels",
    "import_inbox",
    "import_labels",
    "label_status",
]
