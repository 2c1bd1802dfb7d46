-- name: databases
-- Bytes of this database, and of Airflow's where it is on the same server.
SELECT datname, pg_database_size(oid) AS n_bytes FROM pg_database
WHERE datname IN (current_database(), :airflow) AND has_database_privilege(oid, 'CONNECT')

-- name: n_images
-- The planner's estimate, which costs nothing; -1 if the table was never analysed.
SELECT reltuples::bigint FROM pg_class WHERE oid = 'bloodcell.image'::regclass

-- name: images
SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS n_bytes FROM bloodcell.image WHERE removed_at IS NULL

-- name: sampled_images
-- The mean of a hundredth of the table's pages, and the share of these images that are kept: the sum over ten million
-- images takes seconds.
SELECT coalesce(avg(size_bytes) FILTER (WHERE removed_at IS NULL), 0)::float,
       coalesce(avg((removed_at IS NULL)::int), 1)::float
FROM bloodcell.image TABLESAMPLE SYSTEM (1)

-- name: n_pending_erasures
SELECT count(*) FROM bloodcell.erasure_history WHERE n_pending > 0
