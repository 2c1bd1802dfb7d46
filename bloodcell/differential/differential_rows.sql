-- name: lock_slides
SELECT FROM bloodcell.slide WHERE slide_id = ANY (:slides) ORDER BY slide_id FOR NO KEY UPDATE

-- name: outdated_reports
-- Reports that are written again although their counts are the same, because the time of writing decides which report
-- counts: the slide has been called again since, or the report was written before there was a champion.
SELECT r.slide_id, r.model_id FROM bloodcell.slide_report r
WHERE r.slide_id = ANY (:slides) AND (
    EXISTS (SELECT 1 FROM bloodcell.cell c JOIN bloodcell.cell_call k USING (cell_id, night)
            WHERE c.slide_id = r.slide_id AND k.model_id = r.model_id AND k.called_at > r.written_at)
    OR EXISTS (SELECT 1 FROM bloodcell.report_before_champion e
               WHERE e.slide_id = r.slide_id AND e.model_id = r.model_id))
