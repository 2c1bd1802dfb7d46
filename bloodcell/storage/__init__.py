"""Postgres and the content-addressed store: tables, migrations, the embedded server, connections, and runs.

How a statement is written:

- A statement that works on a set of rows (a join, an aggregate, a subquery) is in a `.sql` file beside the module that
  executes it, and `statements.load_statements` reads it. What people query is a view in `sql/views`.
- Rows that are read or written by their key are SQLAlchemy expressions on `tables`.
- One line that reads a view by name, or calls a function of the database, may stay in Python.

A rule that decides what is reported exists once: as a view or a function in `sql/views`, or as a function in Python.
"""
