-- name: lacking
-- The cells of some slides, each with the models that have not called it, in the order of the models; with redo, all.
-- A cell whose image is no longer kept cannot be called.
SELECT c.cell_id, c.night, c.sha256, CASE WHEN :redo THEN CAST(:models AS text[]) ELSE (
    SELECT coalesce(array_agg(m ORDER BY position), '{}')
    FROM unnest(CAST(:models AS text[])) WITH ORDINALITY AS wanted (m, position)
    WHERE NOT EXISTS (SELECT 1 FROM bloodcell.cell_call k
                      WHERE k.cell_id = c.cell_id AND k.night = c.night AND k.model_id = m)) END AS lacking
FROM bloodcell.cell c WHERE c.slide_id = ANY (:slides)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.image i WHERE i.sha256 = c.sha256 AND i.removed_at IS NOT NULL)
