-- name: comments
-- The comments of all tables and columns; a table's own comment has no column name.
SELECT c.relname, a.attname, col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'bloodcell'::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT relname, NULL, obj_description(oid, 'pg_class')
FROM pg_class WHERE relnamespace = 'bloodcell'::regnamespace AND relkind IN ('r', 'p')
-- name: lock_holders
-- Other sessions whose transactions hold a lock in bloodcell's schema: process, login, and when it began, in UTC.
SELECT DISTINCT a.pid, a.usename, coalesce(a.xact_start, a.backend_start) AT TIME ZONE 'UTC'
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a USING (pid)
WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND c.relnamespace = 'bloodcell'::regnamespace AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
ORDER BY 3, 1

-- name: functions_of_views
-- Functions of ours that return the rows of a view, and would keep it from being dropped.
SELECT CAST(CAST(p.oid AS regprocedure) AS text) FROM pg_proc p
JOIN pg_class v ON v.reltype = p.prorettype AND v.relkind = 'v'
WHERE p.pronamespace = CAST(:schema AS regnamespace) AND v.relnamespace = CAST(:schema AS regnamespace)
  AND pg_get_userbyid(p.proowner) = 'bloodcell_owner'
