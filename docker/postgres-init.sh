#!/bin/sh
# Makes a database and a login for Airflow, and a database and four logins for bloodcell: one migrates, the stages use
# the second, the review desk the third, and Grafana reads the views with the fourth. The Postgres image runs it once on
# its empty volume; for a Postgres of your own, a person runs it. What is there already is kept, so after an upgrade it
# adds what the new release needs. Passwords are files in $SECRETS.
set -eu
SECRETS=${SECRETS:-/run/secrets}
export SECRETS
for name in airflow_password bloodcell_admin_password bloodcell_password bloodcell_desk_password \
        grafana_database_password; do
    [ -s "$SECRETS/$name" ] || { echo "$SECRETS/$name is missing or empty; SECRETS has to name the folder." >&2; exit 1; }
done
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set airflow `cat "$SECRETS/airflow_password"`
\set admin `cat "$SECRETS/bloodcell_admin_password"`
\set service `cat "$SECRETS/bloodcell_password"`
\set desk `cat "$SECRETS/bloodcell_desk_password"`
\set grafana `cat "$SECRETS/grafana_database_password"`
SELECT format('CREATE ROLE %I %s', name, attributes)
FROM (VALUES
    (1, 'airflow', format('LOGIN PASSWORD %L', :'airflow')),
    (2, 'bloodcell_admin', format('LOGIN CREATEROLE PASSWORD %L', :'admin')),
    (3, 'bloodcell_app', 'NOLOGIN'),
    (4, 'bloodcell_desk', 'NOLOGIN'),
    (5, 'bloodcell_reader', 'NOLOGIN'),
    (6, 'bloodcell', format('LOGIN PASSWORD %L', :'service')),
    (7, 'bloodcell_desk_login', format('LOGIN PASSWORD %L', :'desk')),
    (8, 'bloodcell_grafana', format('LOGIN CONNECTION LIMIT 5 PASSWORD %L', :'grafana'))
) AS wanted (place, name, attributes)
WHERE to_regrole(name) IS NULL ORDER BY place \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, owner)
FROM (VALUES ('airflow', 'airflow'), ('bloodcell', 'bloodcell_admin')) AS wanted (name, owner)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
SET client_min_messages = warning;  -- before Postgres 16, a notice says that a grant is there already
GRANT bloodcell_app, bloodcell_desk, bloodcell_reader TO bloodcell_admin WITH ADMIN OPTION;
GRANT bloodcell_app TO bloodcell;
GRANT bloodcell_app, bloodcell_desk TO bloodcell_desk_login;
GRANT bloodcell_reader TO bloodcell_grafana;
-- a panel that takes longer than a minute is wrong; the limits of other readers: sql/views/70_logins.sql
ALTER ROLE bloodcell_grafana SET statement_timeout = '1min';
ALTER ROLE bloodcell_grafana SET lock_timeout = '10s';
ALTER ROLE bloodcell_grafana SET idle_in_transaction_session_timeout = '5min';
ALTER ROLE bloodcell_grafana SET max_parallel_workers_per_gather = 0;
ALTER ROLE bloodcell_grafana SET default_transaction_read_only = on;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
-- since Postgres 16; reserved_connections says how many
SELECT 'GRANT pg_use_reserved_connections TO airflow, bloodcell_admin, bloodcell_app'
WHERE to_regrole('pg_use_reserved_connections') IS NOT NULL \gexec
SQL
