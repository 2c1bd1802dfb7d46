-- name: due_slides
-- If a night or barcodes are given, all of their slides are due. Otherwise a slide is due when a model that called it has
-- no count over all its cells, when its newest count is outdated or was made by a release without rules, or when it was
-- counted before its model became champion and has no result. To see whether a model called a slide, one cell is enough:
-- without its call the model has not called the slide completely.
SELECT s.slide_id, s.barcode FROM bloodcell.standing_slide s
WHERE (CAST(:night AS date) IS NULL
       OR EXISTS (SELECT 1 FROM bloodcell.cell c WHERE c.slide_id = s.slide_id AND c.night = :night))
  AND (cardinality(CAST(:slides AS text[])) = 0 OR s.barcode = ANY (:slides))
  AND (CAST(:night AS date) IS NOT NULL OR cardinality(CAST(:slides AS text[])) > 0
       OR EXISTS (
           SELECT 1 FROM bloodcell.cell_call k
           WHERE (k.cell_id, k.night) = (
               SELECT c.cell_id, c.night FROM bloodcell.cell c WHERE c.slide_id = s.slide_id LIMIT 1)
             AND NOT EXISTS (
                 SELECT 1 FROM bloodcell.slide_report r
                 WHERE r.slide_id = s.slide_id AND r.model_id = k.model_id AND r.n_cells = (
                     SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)))
       OR s.slide_id IN (SELECT o.slide_id FROM bloodcell.outdated_count o)
       OR EXISTS (
           SELECT 1 FROM bloodcell.newest_count n JOIN bloodcell.slide_report r USING (report_id)
           WHERE n.slide_id = s.slide_id AND r.rules_digest IS NULL
             AND r.n_cells = (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id))
       OR NOT EXISTS (SELECT 1 FROM bloodcell.result v WHERE v.slide_id = s.slide_id)
          AND EXISTS (SELECT 1 FROM bloodcell.slide_report r JOIN bloodcell.promotion USING (model_id)
                      WHERE r.slide_id = s.slide_id))
ORDER BY s.barcode

-- name: outdated_slides
-- Slides whose newest count is outdated, and those of the last thirty days that nobody has signed and that were counted with
-- other rules. Older ones and signed ones keep the rules that they were counted with until something else makes them due.
SELECT slide_id, barcode FROM bloodcell.standing_slide JOIN bloodcell.outdated_count USING (slide_id)
UNION
SELECT s.slide_id, s.barcode
FROM bloodcell.standing_slide s
JOIN bloodcell.newest_version v USING (slide_id)
JOIN bloodcell.slide_report r USING (report_id)
WHERE s.night >= current_date - 30 AND v.signed_by IS NULL AND r.rules_digest IS DISTINCT FROM :rules_digest
  AND NOT EXISTS (SELECT 1 FROM bloodcell.result e WHERE e.slide_id = s.slide_id AND e.signed_by IS NOT NULL)
  AND r.n_cells = (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)
ORDER BY barcode

-- name: newest_rules
SELECT l.version FROM bloodcell.laboratory_rules l
WHERE l.rules_digest = (SELECT r.rules_digest FROM bloodcell.slide_report r ORDER BY r.report_id DESC LIMIT 1)
