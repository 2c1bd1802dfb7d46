-- name: due_slides
-- If a night or barcodes are given, all of their slides are due. Otherwise a slide is due when a model that called it has
-- no count over all its cells, when its cells have other labels or its slide.json other facts than its newest count, when it
-- was counted by a release without rules, or when it was counted before its model became champion and has no result. To see
-- whether a model called a slide, one cell is enough: without its call the model has not called the slide completely.
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
       OR s.slide_id IN (
           SELECT c.slide_id FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) GROUP BY c.slide_id
           HAVING count(*) <> (SELECT max(r.n_labels) FROM bloodcell.slide_report r WHERE r.slide_id = c.slide_id))
       OR EXISTS (
           SELECT 1 FROM bloodcell.newest_count n JOIN bloodcell.slide_report r USING (report_id)
           JOIN bloodcell.slide f ON f.slide_id = r.slide_id
           WHERE n.slide_id = s.slide_id AND (
               r.rules_digest IS NULL AND r.n_cells = (SELECT count(*) FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)
               OR r.rules_digest IS NOT NULL
                  AND (r.age_months, r.sex, r.wbc_received, r.wbc_is_corrected)
                      IS DISTINCT FROM (f.age_months, f.sex, f.wbc_10e9_per_l, f.wbc_is_corrected)))
       OR NOT EXISTS (SELECT 1 FROM bloodcell.result v WHERE v.slide_id = s.slide_id)
          AND EXISTS (SELECT 1 FROM bloodcell.slide_report r JOIN bloodcell.promotion USING (model_id)
                      WHERE r.slide_id = s.slide_id))
ORDER BY s.barcode

-- name: labelled_slides
-- Counted slides whose cells have other labels than the newest count, or whose slide.json gives other facts. Labels are
-- never changed, so their number tells.
SELECT s.slide_id, s.barcode FROM bloodcell.slide s
WHERE s.withdrawn_at IS NULL AND (s.slide_id IN (
    SELECT c.slide_id FROM bloodcell.label l JOIN bloodcell.cell c USING (cell_id) GROUP BY c.slide_id
    HAVING count(*) <> (SELECT max(r.n_labels) FROM bloodcell.slide_report r WHERE r.slide_id = c.slide_id))
OR (s.age_months, s.sex, s.wbc_10e9_per_l) IS DISTINCT FROM (NULL, NULL, NULL) AND EXISTS (
    SELECT 1 FROM bloodcell.newest_count n JOIN bloodcell.slide_report r USING (report_id)
    WHERE n.slide_id = s.slide_id AND r.rules_digest IS NOT NULL
      AND (r.age_months, r.sex, r.wbc_received, r.wbc_is_corrected)
          IS DISTINCT FROM (s.age_months, s.sex, s.wbc_10e9_per_l, s.wbc_is_corrected)))
ORDER BY s.barcode

-- name: newest_rules
SELECT l.version FROM bloodcell.laboratory_rules l
WHERE l.rules_digest = (SELECT r.rules_digest FROM bloodcell.slide_report r ORDER BY r.report_id DESC LIMIT 1)
