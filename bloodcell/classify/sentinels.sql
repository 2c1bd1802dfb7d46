-- name: references
-- The sentinels, and what each model computed for them when it first saw them, since the references were last begun anew.
SELECT s.sha256, r.model_id, r.probabilities, r.novelty, r.host
FROM bloodcell.sentinel s
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (f.model_id) f.model_id, f.probabilities, f.novelty, f.host
    FROM bloodcell.sentinel_reference f
    WHERE f.sha256 = s.sha256 AND f.model_id = ANY (:models)
      AND f.made_at > coalesce((SELECT max(q.restarted_at) FROM bloodcell.quality_restart q WHERE q.what = 'sentinels'),
                               CAST('-infinity' AS timestamptz))
    ORDER BY f.model_id, f.reference_id DESC
) r ON true
ORDER BY s.sha256

-- name: choose
-- As many cells of each called class, the rare classes first: which of them, their digests decide.
INSERT INTO bloodcell.sentinel (sha256, run_id)
SELECT sha256, :run_id FROM (
    SELECT c.sha256, row_number() OVER (PARTITION BY k.called_class ORDER BY c.sha256) AS place, k.called_class
    FROM bloodcell.cell c
    JOIN bloodcell.cell_call k USING (cell_id, night)
    JOIN bloodcell.image i USING (sha256)
    JOIN bloodcell.standing_slide USING (slide_id)
    WHERE c.night = :night AND k.model_id = (SELECT m.model_id FROM bloodcell.champion m) AND i.removed_at IS NULL
) candidate
WHERE NOT EXISTS (SELECT FROM bloodcell.sentinel s WHERE s.sha256 = candidate.sha256)
GROUP BY sha256 ORDER BY min(place), min(called_class), sha256
LIMIT greatest(:n - (SELECT count(*) FROM bloodcell.sentinel), 0)
ON CONFLICT DO NOTHING
