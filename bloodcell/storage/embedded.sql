-- name: settings
-- What was set for a database, as name=value.
SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
WHERE datname = :name AND setrole = 0
