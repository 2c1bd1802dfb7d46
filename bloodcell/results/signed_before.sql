-- name: n_signed
-- Of the slides that each failed check holds, those whose result in force is signed.
SELECT h.check_id, count(DISTINCT h.slide_id) AS n_signed
FROM bloodcell.quality_hold h JOIN bloodcell.result_in_force v USING (slide_id)
WHERE v.signed_by IS NOT NULL GROUP BY h.check_id

-- name: holds
-- What holds a version of a slide, whatever became of it before.
SELECT DISTINCT f.check_id, f.reason FROM bloodcell.failed_check f JOIN bloodcell.quality_hold h USING (check_id)
WHERE h.slide_id = :slide_id
  AND (h.model_id IS NULL OR EXISTS (
      SELECT FROM bloodcell.result_version v WHERE v.slide_id = h.slide_id AND v.model_id = h.model_id))
ORDER BY f.check_id
