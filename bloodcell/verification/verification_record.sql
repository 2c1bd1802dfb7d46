-- name: last
SELECT v.ended_at, coalesce(v.n_objects, 0), coalesce(v.n_damaged, 0), coalesce(v.n_left, 0),
       extract(epoch FROM now() - coalesce(v.ended_at, first.seen_at)) / 86400
FROM (SELECT min(first_seen_at) AS seen_at FROM bloodcell."drop") first
LEFT JOIN LATERAL (
    SELECT * FROM bloodcell.store_verification WHERE state = 'succeeded' ORDER BY ended_at DESC LIMIT 1
) v ON true;
