#!/bin/sh
# Makes a database and a login for Airflow, and a database and three logins for bloodcell: one migrates, the stages use
# the second, the review desk the third. The Postgres image runs it once on its empty volume; for a Postgres of your own,
# a person runs it. What is there already is kept, so after an upgrade it adds what the new release needs. Passwords are
# files in $SECRETS.
set -eu
SECRETS=${SECRETS:-/run/secrets}
export SECRETS
for name in airflow_password bloodcell_admin_password bloodcell_password bloodcell_desk_password; do
    [ -s "$SECRETS/$name" ] || { echo "$SECRETS/$name is missing or empty; SECRETS has to name the folder." >&2; exit 1; }
done
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set airflow `cat "$SECRETS/airflow_password"`
\set admin `cat "$SECRETS/bloodcell_admin_password"`
\set service `cat "$SECRETS/bloodcell_password"`
\set desk `cat "$SECRETS/bloodcell_desk_password"`
SELECT format('CREATE ROLE %I %s', name, attributes)
FROM (VALUES
    (1, 'airflow', format('LOGIN PASSWORD %L', :'airflow')),
    (2, 'bloodcell_admin', format('LOGIN CREATEROLE PASSWORD %L', :'admin')),
    (3, 'bloodcell_app', 'NOLOGIN'),
    (4, 'bloodcell_desk', 'NOLOGIN'),
    (5, 'bloodcell', format('LOGIN PASSWORD %L', :'service')),
    (6, 'bloodcell_desk_login', format('LOGIN PASSWORD %L', :'desk'))
) AS wanted (place, name, attributes)
WHERE to_regrole(name) IS NULL ORDER BY place \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, owner)
FROM (VALUES ('airflow', 'airflow'), ('bloodcell', 'bloodcell_admin')) AS wanted (name, owner)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
SET client_min_messages = warning;  -- before Postgres 16, a notice says that a grant is there already
GRANT bloodcell_app, bloodcell_desk TO bloodcell_admin WITH ADMIN OPTION;
GRANT bloodcell_app TO bloodcell;
GRANT bloodcell_app, bloodcell_desk TO bloodcell_desk_login;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
-- since Postgres 16; reserved_connections says how many
SELECT 'GRANT pg_use_reserved_connections TO airflow, bloodcell_admin, bloodcell_app'
WHERE to_regrole('pg_use_reserved_connections') IS NOT NULL \gexec
SQL
