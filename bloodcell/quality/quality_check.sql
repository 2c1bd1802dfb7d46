-- name: newest
SELECT passed, judged, figures FROM bloodcell.quality_check
WHERE (kind, subject, night) = (:kind, :subject, :night) AND called_by IS NULL
  AND analyser IS NOT DISTINCT FROM :analyser AND model_id IS NOT DISTINCT FROM :model_id
ORDER BY check_id DESC LIMIT 1
