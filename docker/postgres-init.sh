#!/bin/sh
# Run once by the Postgres image on its empty volume: a database and a login for Airflow, and two for bloodcell (one that
# migrates, one that the stages work with).
set -eu
psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" <<'SQL'
\set airflow `cat /run/secrets/airflow_password`
\set admin `cat /run/secrets/bloodcell_admin_password`
\set service `cat /run/secrets/bloodcell_password`
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE DATABASE airflow OWNER airflow;
CREATE ROLE bloodcell_admin LOGIN CREATEROLE PASSWORD :'admin';
CREATE DATABASE bloodcell OWNER bloodcell_admin;
CREATE ROLE bloodcell_app NOLOGIN;
GRANT bloodcell_app TO bloodcell_admin WITH ADMIN OPTION;
CREATE ROLE bloodcell LOGIN PASSWORD :'service' IN ROLE bloodcell_app;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
SQL
