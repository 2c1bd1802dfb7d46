-- name: failed
-- What holds results; a worker's check that holds no slide any more is over.
SELECT f.check_id, f.kind, f.subject, f.night, f.analyser, f.reason, f.checked_at, coalesce(h.n_slides, 0) AS n_slides,
       coalesce(h.n_signed, 0) AS n_signed
FROM bloodcell.failed_check f
LEFT JOIN (
    SELECT q.check_id, count(DISTINCT q.slide_id) AS n_slides, count(DISTINCT v.slide_id) AS n_signed
    FROM bloodcell.quality_hold q
    LEFT JOIN bloodcell.result_in_force v ON v.slide_id = q.slide_id AND v.signed_by IS NOT NULL
    GROUP BY q.check_id
) h USING (check_id)
WHERE f.kind <> 'sentinel' OR h.n_slides > 0
ORDER BY f.check_id DESC

-- name: holds
-- What holds a version of a slide, whatever became of it before.
SELECT DISTINCT f.check_id, f.reason FROM bloodcell.failed_check f JOIN bloodcell.quality_hold h USING (check_id)
WHERE h.slide_id = :slide_id
  AND (h.model_id IS NULL OR EXISTS (
      SELECT FROM bloodcell.result_version v WHERE v.slide_id = h.slide_id AND v.model_id = h.model_id))
ORDER BY f.check_id

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
