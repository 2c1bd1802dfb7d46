"""Expands the macros and variables of a dashboard's SQL as Grafana's data source for Postgres does.

Source: Grafana, pkg/tsdb/grafana-postgresql-datasource/macros.go, and the SQL data sources' `interpolateVariable`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

Value = str | Sequence[str]


def expanded(sql: str, first: datetime, last: datetime, variables: Mapping[str, Value]) -> str:
    """Returns the SQL that Postgres gets.

    Args:
        sql: As the dashboard has it.
        first: Beginning of the time that is shown.
        last: Its end.
        variables: Of the dashboard; several values are written as literals, a single one as it is.

    Raises:
        ValueError: A macro or a variable that is not known.
    """
    for name, value in variables.items():
        written = value.replace("'", "''") if isinstance(value, str) else ",".join(_literal(each) for each in value)
        sql = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", written.replace("\\", r"\\"), sql)
    macros = {
        "__timeFilter": f"{{}} BETWEEN {_moment(first)} AND {_moment(last)}",
        "__timeFrom": _moment(first),
        "__timeTo": _moment(last),
    }
    for name, argument in re.findall(r"\$(\w+)\(([^)]*)\)", sql):
        if name not in macros:
            raise ValueError(f"Expected one of {sorted(macros)}. Received: ${name}")
        sql = sql.replace(f"${name}({argument})", macros[name].format(argument.strip()), 1)
    if "$" in sql:
        raise ValueError(f"A variable is not known: {sql[sql.index('$') :][:20]}")
    return sql


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _moment(moment: datetime) -> str:
    return _literal(moment.astimezone(UTC).isoformat().replace("+00:00", "Z"))
