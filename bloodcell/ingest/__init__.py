"""A night's folder becomes slides, cells and stored images; every file of it is accounted for exactly once.

    ingesting             the stage: folder by folder, files are examined in parallel and written in batches
    examine               one file becomes a stored image, or the reason why it cannot
    slide_record          slide.json
    ledger                a slide's rows
    control_marks         which slides are of control material or of an external round
    withdrawn_deliveries  recognises files of a slide that was withdrawn
    cell_rows             its cells, each once
    ledger_rows           one row for every file
    file_outcomes         the outcomes of a file, and what the operator does about each

A night can be ingested again at any time: known files are not read again, and the rows stay the same.
"""

from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.ingest.ingesting import IngestSummary, ingest_night

__all__ = ["IngestSummary", "ingest_night", "pending_nights"]
