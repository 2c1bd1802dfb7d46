-- name: unfinished_nights
-- Nights with a slide whose newest version counts fewer cells than the slide has now. A slide that a former champion reported
-- is done: old nights are not classified again by a new champion.
SELECT DISTINCT night FROM bloodcell.cell WHERE slide_id IN (
    SELECT c.slide_id FROM bloodcell.cell c JOIN bloodcell.standing_slide USING (slide_id) GROUP BY c.slide_id
    HAVING count(*) > coalesce(
        (SELECT r.n_cells FROM bloodcell.newest_version v JOIN bloodcell.slide_report r USING (report_id)
         WHERE v.slide_id = c.slide_id LIMIT 1), 0)
) ORDER BY night

-- name: newest_ingests
-- A retry ingests a night again; only what it found last counts.
SELECT DISTINCT ON (night) night, state, error, detail -> 'failed' AS failed_slides FROM bloodcell.run
WHERE airflow_run = :airflow_run AND stage = 'ingest' AND night IS NOT NULL ORDER BY night, started_at DESC
