"""Stage 4: what people read: a page for each slide and a summary of each night."""
