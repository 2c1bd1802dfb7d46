"""Writes the reference pages from the code, so that they cannot differ from it; MkDocs calls `hook` at each build.

commands      the command line, from the Typer application
settings      every setting, from the fields of Settings
views         every view and column, from the comments in a migrated database
queries       every query of sql/queries, from the comment at its head
errors        the tree of errors
api           the public names of each room, for mkdocstrings to describe
documents     documents of the repository that are also pages of the site
markdown      pages, tables and escaping

Run by hand: `screenshots` takes the pictures of the review desk, with a night of `drawn_desk`.
"""
