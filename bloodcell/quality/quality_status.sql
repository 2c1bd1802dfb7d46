-- name: failed
SELECT f.check_id, f.kind, f.subject, f.night, f.analyser, f.reason, f.checked_at,
       (SELECT count(DISTINCT h.slide_id) FROM bloodcell.quality_hold h WHERE h.check_id = f.check_id) AS n_slides
FROM bloodcell.failed_check f ORDER BY f.check_id DESC

-- name: overrides
SELECT check_id, kind, subject, night, analyser, reason, overridden_by, overridden_at, override_reason
FROM bloodcell.quality_history WHERE overridden_by IS NOT NULL
ORDER BY overridden_at DESC LIMIT 20

-- name: figures
-- The newest check of each figure and night.
SELECT analyser, subject, night, value, center, lower, upper, passed, overridden_by, figures FROM (
    SELECT DISTINCT ON (q.analyser, q.subject, q.night) q.*,
           dense_rank() OVER (PARTITION BY q.analyser, q.subject ORDER BY q.night DESC) AS age
    FROM bloodcell.quality_history q
    WHERE q.kind = 'figure' AND q.value IS NOT NULL AND q.is_newest
    ORDER BY q.analyser, q.subject, q.night, q.check_id DESC
) newest
WHERE age <= :nights
ORDER BY analyser NULLS FIRST, subject, night
