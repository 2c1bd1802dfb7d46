#!/bin/sh
# Makes docker/secrets, one file per secret, and keeps existing files. Back the folder up where you back up passwords.
set -eu
cd "$(dirname "$0")"
umask 022
mkdir -p -m 0700 secrets  # users of containers read the files, but no other user of this machine can enter the folder
keep() { [ -s "secrets/$1" ] || printf '%s' "$2" > "secrets/$1"; }
random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

for name in postgres_password airflow_password bloodcell_admin_password bloodcell_password bloodcell_desk_password \
        redis_password admin_password watcher_password grafana_password grafana_database_password api_secret_key; do
    keep "$name" "$(random)"
done
keep jwt_secret "$(random)$(random)"
keep fernet_key "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"

keep s3_credentials "# for a store on S3
[default]
# aws_access_key_id = ...
# aws_secret_access_key = ...
"

url() { printf 'postgresql+psycopg2://%s:%s@postgres:5432/%s' "$1" "$(cat "secrets/$2")" "$3"; }
keep airflow_database_url "$(url airflow airflow_password airflow)"
keep bloodcell_database_url "$(url bloodcell bloodcell_password bloodcell)"
keep bloodcell_admin_url "$(url bloodcell_admin bloodcell_admin_password bloodcell)"
keep bloodcell_desk_url "$(url bloodcell_desk_login bloodcell_desk_password bloodcell)"
keep redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
echo "$(ls secrets | wc -l) secrets in $(pwd)/secrets"
