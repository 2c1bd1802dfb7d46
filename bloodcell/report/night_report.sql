-- name: files
SELECT outcome, count(*) AS n FROM bloodcell.drop_file WHERE night = :night
GROUP BY outcome ORDER BY n DESC, outcome

-- name: quarantined
SELECT reason, count(*) AS n FROM bloodcell.drop_file WHERE night = :night AND outcome = 'quarantined'
GROUP BY reason ORDER BY n DESC, reason

-- name: without_cells
-- Slides of which this night brought something, but no cell. A slide that has cells of another night is reported as before,
-- unless what this night brought may be another slide's.
SELECT barcode,
       coalesce(string_agg(format('%s %s', n, reason), ', ' ORDER BY n DESC, reason) FILTER (WHERE reason IS NOT NULL),
                'no image') AS why
FROM (
    SELECT f.barcode, CASE f.outcome WHEN 'quarantined' THEN f.reason END AS reason, count(*) AS n
    FROM bloodcell.drop_file f
    WHERE f.night = :night AND f.barcode IS NOT NULL AND f.outcome IN ('quarantined', 'ignored')
    GROUP BY 1, 2
    UNION ALL
    SELECT s.barcode, NULL, 0 FROM bloodcell.standing_slide s
    WHERE s.night = :night AND NOT EXISTS (SELECT 1 FROM bloodcell.drop_file f WHERE f.barcode = s.barcode)
      AND NOT EXISTS (SELECT 1 FROM bloodcell.cell c WHERE c.slide_id = s.slide_id)
) found
WHERE NOT EXISTS (
    SELECT 1 FROM bloodcell.drop_file f
    WHERE f.night = :night AND f.barcode = found.barcode AND f.outcome IN ('cell', 'duplicate')
) AND (
    NOT EXISTS (SELECT 1 FROM bloodcell.standing_slide s JOIN bloodcell.cell c USING (slide_id)
                WHERE s.barcode = found.barcode)
    OR EXISTS (SELECT 1 FROM bloodcell.drop_file f
               WHERE f.night = :night AND f.barcode = found.barcode AND f.reason IN ('slide_identity', 'slide_withdrawn'))
)
GROUP BY barcode ORDER BY barcode

-- name: erased_files
-- As the night's newest ingest counted them.
SELECT coalesce((detail ->> 'erased_files')::integer, 0) AS n FROM bloodcell.run
WHERE night = :night AND stage = 'ingest' AND state = 'succeeded' ORDER BY started_at DESC LIMIT 1

-- name: withdrawn
SELECT barcode, reason, renamed_to FROM bloodcell.withdrawn_slide WHERE night = :night ORDER BY barcode, withdrawn_at

-- name: slides
-- A slide's cells may come in several nights. The slide is reported as a whole in each of them. Figures are those of the
-- version in force. Why a person should look at the slide is taken from the newest version, which may wait for a signature.
SELECT s.barcode, c.n_cells, c.n_cells - coalesce(newest.n_cells, 0) AS n_waiting,
       coalesce(r.n_unclassified, 0) AS n_unclassified, coalesce(r.n_leucocytes, 0) AS n_leucocytes, r.is_sufficient,
       r.state, coalesce(newest.withheld_for, '{}') AS withheld_for, coalesce(newest.review_for, '{}') AS review_for,
       (newest.number > r.number AND newest.digest IS DISTINCT FROM r.digest) IS TRUE AS differs_from_signed,
       coalesce((SELECT jsonb_object_agg(d.class, d.flag) FROM bloodcell.differential d
                 WHERE d.report_id = newest.report_id AND d.flag IN ('low', 'high')), '{}') AS flags,
       -- only leucocytes have a percentage
       coalesce((SELECT jsonb_object_agg(d.class, d.n_unverified) FROM bloodcell.differential d
                 WHERE d.report_id = newest.report_id AND d.n_unverified > 0 AND d.percentage IS NOT NULL), '{}')
           AS unverified_codes
FROM bloodcell.standing_slide s
CROSS JOIN LATERAL (SELECT count(*) AS n_cells FROM bloodcell.cell WHERE slide_id = s.slide_id) c
LEFT JOIN LATERAL (
    SELECT v.number, v.state, v.digest, p.n_cells, p.n_leucocytes, p.n_unclassified, p.is_sufficient
    FROM bloodcell.result_in_force v JOIN bloodcell.slide_report p USING (report_id)
    WHERE v.slide_id = s.slide_id LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT v.report_id, v.number, v.digest, v.withheld_for, v.review_for, p.n_cells
    FROM bloodcell.newest_version v JOIN bloodcell.slide_report p USING (report_id)
    WHERE v.slide_id = s.slide_id LIMIT 1
) newest ON true
WHERE s.night = :night OR EXISTS (SELECT 1 FROM bloodcell.cell n WHERE n.slide_id = s.slide_id AND n.night = :night)
ORDER BY s.barcode

-- name: models
SELECT m.model_id, m.title, m.model_id IS NOT DISTINCT FROM (SELECT model_id FROM bloodcell.champion) AS is_champion,
       count(*) AS n, count(*) FILTER (WHERE k.called_class = 'unclassified') AS n_unclassified
FROM bloodcell.cell_call k JOIN bloodcell.registered_model m USING (model_id)
WHERE k.night = :night GROUP BY m.model_id, m.title ORDER BY is_champion DESC, m.title, m.model_id

-- name: stages
SELECT stage, count(*) AS n_runs, count(*) FILTER (WHERE state = 'failed') AS n_failed,
       coalesce(sum(n_cells) FILTER (WHERE state = 'succeeded'), 0) AS n_cells,
       coalesce(extract(epoch FROM sum(ended_at - started_at) FILTER (WHERE state = 'succeeded')), 0)::float
           AS duration_s
FROM bloodcell.run WHERE night = :night GROUP BY stage ORDER BY min(started_at), stage

-- name: to_read
SELECT count(*) AS n FROM bloodcell.blind_reading WHERE night = :night
