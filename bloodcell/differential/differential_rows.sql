-- name: lock_slides
-- The reports of a withdrawn slide stay as they were. A view cannot be locked, so this is the rule of standing_slide.
SELECT slide_id FROM bloodcell.slide WHERE slide_id = ANY (:slides) AND withdrawn_at IS NULL
ORDER BY slide_id FOR NO KEY UPDATE

-- name: outdated_reports
-- Reports that are written again although their counts are the same, because the time of writing decides which report
-- counts: the slide has been called again since, or the report was written before there was a champion.
SELECT r.slide_id, r.model_id FROM bloodcell.slide_report r
WHERE r.slide_id = ANY (:slides) AND (
    EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.cell_call k USING (cell_id, night)
            WHERE c.slide_id = r.slide_id AND k.model_id = r.model_id AND k.called_at > r.written_at)
    OR EXISTS (SELECT 1 FROM bloodcell.report_before_champion e
               WHERE e.slide_id = r.slide_id AND e.model_id = r.model_id))

-- name: called_slides
-- Counts of the slides that a model has called completely, by model and class; one statement, so all are of one moment.
WITH n_cells AS (
    SELECT slide_id, count(*) AS n_cells FROM bloodcell.cell WHERE slide_id = ANY (:slides) GROUP BY slide_id
), by_class AS (
    SELECT c.slide_id, k.model_id, k.called_class, count(*) AS n,
           count(*) FILTER (WHERE c.analyser_class IS NOT NULL AND k.called_class <> 'unclassified') AS n_compared,
           count(*) FILTER (WHERE c.analyser_class = k.called_class) AS n_agree,
           sum(count(*)) OVER (PARTITION BY c.slide_id, k.model_id) AS n_called
    FROM bloodcell.cell c JOIN bloodcell.cell_call k USING (cell_id, night)
    WHERE c.slide_id = ANY (:slides) AND (CAST(:model_id AS text) IS NULL OR k.model_id = :model_id)
    GROUP BY c.slide_id, k.model_id, k.called_class
)
SELECT b.slide_id, b.model_id, b.called_class, b.n, b.n_compared, b.n_agree
FROM by_class b JOIN n_cells n ON n.slide_id = b.slide_id AND n.n_cells = b.n_called
ORDER BY b.slide_id, b.model_id
