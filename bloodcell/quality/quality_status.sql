-- name: failed
-- What holds results; a worker's check that holds no slide any more is over.
SELECT f.check_id, f.kind, f.subject, f.night, f.analyser, f.reason, f.checked_at, coalesce(h.n_slides, 0) AS n_slides
FROM bloodcell.failed_check f
LEFT JOIN (SELECT check_id, count(DISTINCT slide_id) AS n_slides FROM bloodcell.quality_hold GROUP BY check_id) h USING (check_id)
WHERE f.kind <> 'sentinel' OR h.n_slides > 0
ORDER BY f.check_id DESC

-- name: overrides
SELECT check_id, kind, subject, night, analyser, reason, overridden_by, overridden_at, override_reason
FROM bloodcell.quality_history WHERE overridden_by IS NOT NULL
ORDER BY overridden_at DESC LIMIT 20

-- name: figures
-- The newest check of each figure and night, of the last nights that had figures.
SELECT analyser, subject, night, value, center, lower, upper, passed, overridden_by,
       coalesce(figures -> 'warned', '[]') AS warned
FROM (
    SELECT DISTINCT ON (q.analyser, q.subject, q.night) q.*
    FROM bloodcell.quality_history q
    WHERE q.kind = 'figure' AND q.value IS NOT NULL AND q.night >= (
        SELECT min(n.night) FROM (SELECT DISTINCT h.night FROM bloodcell.quality_history h WHERE h.kind = 'figure'
                                  ORDER BY h.night DESC LIMIT :nights) n)
    ORDER BY q.analyser, q.subject, q.night, q.check_id DESC
) newest
ORDER BY analyser NULLS FIRST, subject, night
