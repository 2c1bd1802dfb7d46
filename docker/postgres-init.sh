#!/bin/sh
# Makes a database and a login for Airflow, and a database and two logins for bloodcell: one migrates, the stages use the
# other. The Postgres image runs it once on its empty volume; for a Postgres of your own, a person runs it. Passwords are
# files in $SECRETS.
set -eu
SECRETS=${SECRETS:-/run/secrets}
export SECRETS
for name in airflow_password bloodcell_admin_password bloodcell_password; do
    [ -s "$SECRETS/$name" ] || { echo "$SECRETS/$name is missing or empty; SECRETS has to name the folder." >&2; exit 1; }
done
psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set airflow `cat "$SECRETS/airflow_password"`
\set admin `cat "$SECRETS/bloodcell_admin_password"`
\set service `cat "$SECRETS/bloodcell_password"`
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE bloodcell_admin LOGIN CREATEROLE PASSWORD :'admin';
CREATE DATABASE bloodcell OWNER bloodcell_admin;
CREATE ROLE bloodcell_app NOLOGIN;
GRANT bloodcell_app TO bloodcell_admin WITH ADMIN OPTION;
CREATE ROLE bloodcell LOGIN PASSWORD :'service' IN ROLE bloodcell_app;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
-- since Postgres 16; reserved_connections says how many
SELECT 'GRANT pg_use_reserved_connections TO airflow, bloodcell_admin, bloodcell_app'
WHERE to_regrole('pg_use_reserved_connections') IS NOT NULL \gexec
SQL
