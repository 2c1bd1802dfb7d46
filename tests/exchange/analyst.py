"""An analyst with a login that reads the marts and a schema of its own, and dbt, as it is installed for the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bloodcell.storage.connections import connect
from tests.conftest import ROOT

PROJECT = ROOT / "sql" / "dbt"
DBT = ROOT / ".venv" / "dbt" / "bin" / "dbt"
SCHEMA = "analysis"
LOGIN = "analyst"
# tests at once share a server, and so its logins
_MAKE_LOGIN = f"""
    DO $$ BEGIN
        CREATE ROLE {LOGIN} LOGIN IN ROLE bloodcell_reader;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END $$;
    CREATE SCHEMA {SCHEMA} AUTHORIZATION {LOGIN};
"""


@dataclass(frozen=True)
class Analyst:
    """A login with `bloodcell_reader` and a schema, and a copy of the dbt project."""

    url: sa.URL
    project: Path

    @classmethod
    def hired(cls, database_url: str, folder: Path) -> Analyst:
        """Makes login and schema, and copies the project."""
        with connect(database_url).begin() as connection:
            connection.exec_driver_sql(_MAKE_LOGIN)
        project = folder / "dbt"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
        return cls(sa.make_url(database_url).set(username=LOGIN), project)

    def dbt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs dbt in the copy of the project, without a way to the internet."""
        if not DBT.is_file():
            pytest.skip("needs dbt, which `make .venv/dbt/installed` installs")
        host = self.url.query.get("host") or self.url.host
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.project),
            "PGHOST": str(host),
            "PGPORT": str(self.url.port or 5432),
            "PGDATABASE": str(self.url.database),
            "PGUSER": LOGIN,
            "https_proxy": "http://127.0.0.1:9",  # nobody listens there
        }
        return subprocess.run(
            [str(DBT), "--no-use-colors", *arguments],
            cwd=self.project,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def outcomes(self) -> dict[str, str]:
        """Returns the outcome of each model and test of the last run."""
        results: Sequence[Mapping[str, Any]] = json.loads((self.project / "target" / "run_results.json").read_text())[
            "results"
        ]
        return {str(each["unique_id"]).split(".")[2]: str(each["status"]) for each in results}

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Reads rows as the analyst."""
        with connect(self.url.render_as_string(hide_password=False)).connect() as connection:
            return [dict(row._mapping) for row in connection.execute(sa.text(statement))]

    def execute(self, *statements: str) -> None:
        """Executes statements as the analyst."""
        with connect(self.url.render_as_string(hide_password=False)).begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
