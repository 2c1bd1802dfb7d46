-- name: dictionary
SELECT v.relname AS mart, a.attname AS name, format_type(a.atttypid, NULL) AS type,
       coalesce(col_description(v.oid, a.attnum), '') AS comment
FROM pg_class v JOIN pg_attribute a ON a.attrelid = v.oid
WHERE v.relnamespace = CAST('bloodcell' AS regnamespace) AND v.relname = ANY (CAST(:marts AS name[])) AND a.attnum > 0
ORDER BY array_position(CAST(:marts AS name[]), v.relname), a.attnum
