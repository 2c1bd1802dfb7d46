"""The vocabulary that every room shares: cell classes, analyser codes, calls, intervals, model variants."""
