-- name: comments
-- The comments of all tables and columns; a table's own comment has no column name.
SELECT c.relname, a.attname, col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'bloodcell'::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT relname, NULL, obj_description(oid, 'pg_class')
FROM pg_class WHERE relnamespace = 'bloodcell'::regnamespace AND relkind IN ('r', 'p')
