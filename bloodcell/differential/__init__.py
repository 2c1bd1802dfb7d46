"""Stage 3: a slide's calls add up to its differential, with exact limits, flags and the analyser's agreement."""
