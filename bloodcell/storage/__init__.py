"""Postgres: tables, migrations, the embedded server, connections, and the record of every run."""
