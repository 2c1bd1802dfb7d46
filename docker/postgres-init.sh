#!/bin/sh
# Run once by the Postgres image on its empty volume, or by a person on a server of the site's own: a database and a login
# for Airflow, and two for bloodcell (one that migrates, one that the stages work with). Passwords are files of $SECRETS.
set -eu
SECRETS=${SECRETS:-/run/secrets}
export SECRETS
for name in airflow_password bloodcell_admin_password bloodcell_password; do
    [ -s "$SECRETS/$name" ] || { echo "There is no password in $SECRETS/$name: SECRETS names the folder." >&2; exit 1; }
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
SQL
