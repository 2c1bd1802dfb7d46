CREATE VIEW bloodcell.file_account AS
SELECT night, path, barcode, outcome, reason, detail, cell_id, sha256, size_bytes, run_id, first_seen_at, updated_at
FROM bloodcell.drop_file;
COMMENT ON VIEW bloodcell.file_account IS 'Every file of every night, exactly once: cell, duplicate, quarantined or ignored.';

CREATE VIEW bloodcell.file_history AS
SELECT night, path, outcome, reason, detail, sha256, run_id, replaced_at FROM bloodcell.drop_file_history;
COMMENT ON VIEW bloodcell.file_history IS 'What was said of a file before it was judged again.';

CREATE VIEW bloodcell.quarantine_report AS
SELECT night, barcode, path, reason, detail, size_bytes, sha256, first_seen_at, updated_at, run_id
FROM bloodcell.drop_file WHERE outcome = 'quarantined';
COMMENT ON VIEW bloodcell.quarantine_report IS 'Files that could not be used, and why. They stay where they were.';

-- A row a cell, not an image: so a question about one night or one slide looks at its cells only.
CREATE VIEW bloodcell.shared_image AS
SELECT s.barcode, s.patient_key, c.night, c.file_name, c.sha256, all_of_it.n_slides, all_of_it.n_patients,
       all_of_it.barcodes
FROM bloodcell.cell c
JOIN bloodcell.slide s USING (slide_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS n_slides, count(DISTINCT o.patient_key) AS n_patients,
           array_agg(o.barcode ORDER BY o.barcode) AS barcodes
    FROM bloodcell.cell same JOIN bloodcell.slide o USING (slide_id) WHERE same.sha256 = c.sha256
) all_of_it
WHERE EXISTS (SELECT 1 FROM bloodcell.cell other WHERE other.sha256 = c.sha256 AND other.slide_id <> c.slide_id);
COMMENT ON VIEW bloodcell.shared_image IS
    'Cells whose image is in another slide, too. It counts in each; two patients with one image means a mix-up.';

-- Files belong to the night that brought them, slides to the first night that brought cells of them.
CREATE VIEW bloodcell.night_summary AS
WITH files AS (
    SELECT night, count(*) AS n_files, count(*) FILTER (WHERE outcome = 'cell') AS n_cells,
           count(*) FILTER (WHERE outcome = 'duplicate') AS n_duplicates,
           count(*) FILTER (WHERE outcome = 'quarantined') AS n_quarantined,
           count(*) FILTER (WHERE outcome = 'ignored') AS n_ignored
    FROM bloodcell.drop_file GROUP BY night
), slides AS (
    SELECT s.night, count(*) AS n_slides, count(r.n_cells) AS n_reported,
           count(*) FILTER (WHERE NOT r.is_sufficient) AS n_insufficient,
           coalesce(sum(r.n_unclassified), 0) AS n_unclassified, coalesce(sum(r.n_cells), 0) AS n_cells_reported
    FROM bloodcell.slide s
    LEFT JOIN LATERAL (
        SELECT o.n_cells, o.is_sufficient, o.n_unclassified
        FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
        WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
    ) r ON true
    GROUP BY s.night
)
SELECT d.night, d.first_seen_at, d.completed_at, coalesce(f.n_files, 0) AS n_files, coalesce(f.n_cells, 0) AS n_cells,
       coalesce(f.n_duplicates, 0) AS n_duplicates, coalesce(f.n_quarantined, 0) AS n_quarantined,
       coalesce(f.n_ignored, 0) AS n_ignored, coalesce(s.n_slides, 0) AS n_slides,
       coalesce(s.n_reported, 0) AS n_slides_reported, coalesce(s.n_insufficient, 0) AS n_slides_insufficient,
       coalesce(s.n_cells_reported, 0) AS n_cells_reported, coalesce(s.n_unclassified, 0) AS n_unclassified
FROM bloodcell."drop" d LEFT JOIN files f USING (night) LEFT JOIN slides s USING (night);
COMMENT ON VIEW bloodcell.night_summary IS 'A row a night: its files by outcome, its slides, how many were reported.';

CREATE VIEW bloodcell.run_history AS
SELECT run_id, stage, night, state, started_at, ended_at, extract(epoch FROM ended_at - started_at) AS duration_s,
       n_cells, n_cells / nullif(extract(epoch FROM ended_at - started_at), 0) AS cells_per_s, code_version, host,
       airflow_run, detail, error
FROM bloodcell.run;
COMMENT ON VIEW bloodcell.run_history IS 'Every execution of a stage: when, how long, with which code, how it ended.';
