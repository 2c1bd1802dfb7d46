-- name: slides
-- The patients' slides with cells of a night, each with its analyser.
SELECT s.slide_id, s.barcode, s.analyser, c.slide_id IS NOT NULL AS is_control
FROM bloodcell.standing_slide s LEFT JOIN bloodcell.control_slide c USING (slide_id)
WHERE s.night = :night OR EXISTS (SELECT FROM bloodcell.cell n WHERE n.slide_id = s.slide_id AND n.night = :night)
ORDER BY s.slide_id

-- name: models
-- The champion, and those that were: a slide that only one of them called is reported under it.
SELECT p.model_id FROM bloodcell.promotion p GROUP BY p.model_id ORDER BY max(p.promotion_id) DESC

-- name: calls
-- What models called the cells of these slides, without what the analyser coded outside the eight classes.
SELECT c.slide_id, k.model_id, k.called_class, count(*) AS n,
       count(*) FILTER (WHERE k.unclassified_reason = 'novel') AS n_novel
FROM bloodcell.cell c
JOIN bloodcell.cell_call k USING (cell_id, night)
WHERE c.slide_id = ANY (:slides) AND k.model_id = ANY (:models)
  AND NOT bloodcell.is_out_of_scope(c.analyser_code, c.analyser_class)
GROUP BY c.slide_id, k.model_id, k.called_class

-- name: looks
-- How the images of these slides look: the medians of the figures that were compared with what a model knows.
SELECT DISTINCT ON (c.slide_id) c.slide_id, k.figures
FROM bloodcell.look_check k JOIN bloodcell.cell c USING (cell_id)
WHERE c.slide_id = ANY (:slides) AND k.distance IS NOT NULL
ORDER BY c.slide_id, k.check_id DESC

-- name: history
-- What each figure of an analyser was in the nights before, the newest check of each, since its newest baseline began. The
-- slides' shares only of the nights that can belong to the baseline.
SELECT subject, night, passed, CASE WHEN place <= 3 * :baseline_nights THEN figures ELSE figures - 'slides' END AS figures
FROM (
SELECT DISTINCT ON (q.subject, q.night) q.subject, q.night, q.passed, q.figures,
       dense_rank() OVER (PARTITION BY q.subject ORDER BY q.night) AS place
FROM bloodcell.quality_check q
WHERE q.kind = 'figure' AND q.night < :night AND q.analyser IS NOT DISTINCT FROM :analyser
  AND (q.model_id IS NULL OR q.model_id = :model_id)
  AND q.night >= coalesce((SELECT r.from_night FROM bloodcell.quality_restart r
                           WHERE r.what = 'figures' AND r.analyser IS NOT DISTINCT FROM :analyser
                             AND r.from_night <= :night
                           ORDER BY r.from_night DESC LIMIT 1), CAST('-infinity' AS date))
ORDER BY q.subject, q.night, q.check_id DESC
) newest
ORDER BY subject, night

-- name: nights
SELECT DISTINCT c.night FROM bloodcell.cell c JOIN bloodcell.standing_slide s USING (slide_id)
WHERE s.barcode = ANY (:slides) ORDER BY c.night

-- name: failed
-- Checks that hold results of a night; those of workers by the run that called its cells, if it still holds any.
SELECT f.reason FROM bloodcell.failed_check f
WHERE f.kind <> 'sentinel' AND f.night = :night
   OR f.kind = 'sentinel' AND (f.night IS NULL OR f.night = :night) AND EXISTS (
       SELECT FROM bloodcell.cell_call k
       WHERE k.night = :night AND k.run_id = f.called_by AND k.model_id = f.model_id)
ORDER BY f.check_id
