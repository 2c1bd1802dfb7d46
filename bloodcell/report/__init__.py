"""Stage 4: what people read of it, a page a slide and a summary a night."""
