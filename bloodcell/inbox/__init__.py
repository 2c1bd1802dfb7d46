"""The folders that bloodcell reads: night folders of the analysers, walked and settled before anything is read."""
