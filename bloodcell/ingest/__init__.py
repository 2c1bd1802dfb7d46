"""A night's folder becomes slides, cells and stored images; every file of it is accounted for exactly once.

walk -> examine -> ledger        nights says which folders are due, outcomes what may become of a file
"""

from bloodcell.inbox.pending_nights import pending_nights
from bloodcell.ingest.ingesting import IngestSummary, ingest_night

__all__ = ["IngestSummary", "ingest_night", "pending_nights"]
