CREATE VIEW bloodcell.file_account AS
SELECT night, path, barcode, outcome, reason, detail, cell_id, sha256, size_bytes, run_id, first_seen_at, updated_at
FROM bloodcell.drop_file;

COMMENT ON VIEW bloodcell.file_account IS 'Every file of every night, exactly once, and what became of it.';
COMMENT ON COLUMN bloodcell.file_account.sha256 IS 'Digest of the file as it was received.';
COMMENT ON COLUMN bloodcell.file_account.cell_id IS 'Cell that the file became, or that a duplicate repeats.';

CREATE VIEW bloodcell.file_history AS
SELECT night, path, outcome, reason, detail, sha256, run_id, replaced_at FROM bloodcell.drop_file_history;

COMMENT ON VIEW bloodcell.file_history IS 'Earlier outcomes of files that were examined again.';
COMMENT ON COLUMN bloodcell.file_history.outcome IS 'Outcome until replaced_at: cell, duplicate, quarantined or ignored.';
COMMENT ON COLUMN bloodcell.file_history.reason IS 'Reason of that outcome.';
COMMENT ON COLUMN bloodcell.file_history.sha256 IS 'Digest of the file then.';
COMMENT ON COLUMN bloodcell.file_history.run_id IS 'Run that had examined the file; see run_history.';
COMMENT ON COLUMN bloodcell.file_history.replaced_at IS 'When the file was examined again with another outcome.';

CREATE VIEW bloodcell.quarantine_report AS
SELECT night, barcode, path, reason, detail, size_bytes, sha256, first_seen_at, updated_at, run_id
FROM bloodcell.drop_file WHERE outcome = 'quarantined';

COMMENT ON VIEW bloodcell.quarantine_report IS 'Files that could not be used, and why. The files stay where they were.';
COMMENT ON COLUMN bloodcell.quarantine_report.sha256 IS 'Digest of the file as it was received.';
COMMENT ON COLUMN bloodcell.quarantine_report.reason IS 'Why the file cannot be used.';

-- One row per cell, not per image, so that a question about one night or slide reads only its cells.
CREATE VIEW bloodcell.shared_image AS
SELECT s.barcode, s.patient_key, c.night, c.file_name, c.sha256, all_of_it.n_slides, all_of_it.n_patients,
       all_of_it.barcodes
FROM bloodcell.cell c
JOIN bloodcell.standing_slide s USING (slide_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS n_slides, count(DISTINCT o.patient_key) AS n_patients,
           array_agg(o.barcode ORDER BY o.barcode) AS barcodes
    FROM bloodcell.cell same JOIN bloodcell.standing_slide o USING (slide_id) WHERE same.sha256 = c.sha256
) all_of_it
WHERE EXISTS (SELECT 1 FROM bloodcell.cell other JOIN bloodcell.standing_slide USING (slide_id)
              WHERE other.sha256 = c.sha256 AND other.slide_id <> c.slide_id);

COMMENT ON VIEW bloodcell.shared_image IS
    'Cells whose image is also on another slide. It counts on each slide. Two patients with one image mean a mix-up.';
COMMENT ON COLUMN bloodcell.shared_image.n_slides IS 'Slides that have the image.';
COMMENT ON COLUMN bloodcell.shared_image.n_patients IS 'Patients of those slides.';
COMMENT ON COLUMN bloodcell.shared_image.barcodes IS 'Barcodes of those slides.';

-- A file belongs to the night in which it arrived, a slide to the first night in which cells of it arrived.
CREATE VIEW bloodcell.night_summary AS
WITH files AS (
    SELECT night, count(*) AS n_files, count(*) FILTER (WHERE outcome = 'cell') AS n_cells,
           count(*) FILTER (WHERE outcome = 'duplicate') AS n_duplicates,
           count(*) FILTER (WHERE outcome = 'quarantined') AS n_quarantined,
           count(*) FILTER (WHERE outcome = 'ignored') AS n_ignored
    FROM bloodcell.drop_file GROUP BY night
), slides AS (
    SELECT s.night, count(*) FILTER (WHERE s.withdrawn_at IS NULL) AS n_slides,
           count(s.withdrawn_at) AS n_withdrawn, count(r.n_cells) AS n_reported,
           count(*) FILTER (WHERE NOT r.is_sufficient) AS n_insufficient,
           count(*) FILTER (WHERE r.state = 'withheld') AS n_withheld,
           count(*) FILTER (WHERE newest.differs) AS n_differing,
           count(*) FILTER (WHERE newest.differs AND newest.state = 'withheld') AS n_differing_withheld,
           count(r.signed_by) AS n_signed,
           coalesce(sum(r.n_unclassified), 0) AS n_unclassified, coalesce(sum(r.n_cells), 0) AS n_cells_reported
    FROM bloodcell.slide s
    LEFT JOIN LATERAL (
        SELECT p.n_cells, p.is_sufficient, p.n_unclassified, o.number, o.state, o.digest, o.signed_by
        FROM bloodcell.result_in_force o JOIN bloodcell.slide_report p USING (report_id)
        WHERE o.slide_id = s.slide_id AND s.withdrawn_at IS NULL LIMIT 1
    ) r ON true
    LEFT JOIN LATERAL (
        SELECT n.state, n.number > r.number AND n.digest IS DISTINCT FROM r.digest AS differs
        FROM bloodcell.newest_version n WHERE n.slide_id = s.slide_id AND r.signed_by IS NOT NULL LIMIT 1
    ) newest ON true
    GROUP BY s.night
)
SELECT d.night, d.first_seen_at, d.completed_at, coalesce(f.n_files, 0) AS n_files, coalesce(f.n_cells, 0) AS n_cells,
       coalesce(f.n_duplicates, 0) AS n_duplicates, coalesce(f.n_quarantined, 0) AS n_quarantined,
       coalesce(f.n_ignored, 0) AS n_ignored, coalesce(s.n_slides, 0) AS n_slides,
       coalesce(s.n_reported, 0) AS n_slides_reported, coalesce(s.n_insufficient, 0) AS n_slides_insufficient,
       coalesce(s.n_cells_reported, 0) AS n_cells_reported, coalesce(s.n_unclassified, 0) AS n_unclassified,
       coalesce(s.n_withdrawn, 0) AS n_slides_withdrawn, coalesce(s.n_withheld, 0) AS n_slides_withheld,
       coalesce(s.n_signed, 0) AS n_slides_signed, coalesce(s.n_differing, 0) AS n_slides_differing,
       coalesce(s.n_differing_withheld, 0) AS n_slides_differing_withheld
FROM bloodcell."drop" d LEFT JOIN files f USING (night) LEFT JOIN slides s USING (night);

COMMENT ON VIEW bloodcell.night_summary IS
    'One row per night: its files by outcome, its slides, and how many are reported.';
COMMENT ON COLUMN bloodcell.night_summary.first_seen_at IS 'When the night''s folder was first read.';
COMMENT ON COLUMN bloodcell.night_summary.completed_at IS
    'When every slide of the folder had been read; empty while slides are still being written.';
COMMENT ON COLUMN bloodcell.night_summary.n_files IS 'Files of the folder.';
COMMENT ON COLUMN bloodcell.night_summary.n_cells IS 'Files that became a cell.';
COMMENT ON COLUMN bloodcell.night_summary.n_duplicates IS 'Files that repeat a cell of the same slide.';
COMMENT ON COLUMN bloodcell.night_summary.n_quarantined IS 'Files that could not be used.';
COMMENT ON COLUMN bloodcell.night_summary.n_ignored IS 'Files that are left out by rule, such as hidden files.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides IS 'Slides that began in the night, without withdrawn ones.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_withdrawn IS 'Slides that began in the night and were withdrawn.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_reported IS 'Of n_slides, those that are reported.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_withheld IS
    'Of n_slides_reported, those whose percentages are not to be used before a person has looked.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_signed IS 'Of n_slides_reported, those that a person has signed.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_differing IS
    'Of n_slides_signed, those with a newer version that differs from what was signed and waits for a person.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_differing_withheld IS
    'Of n_slides_differing, those whose newer version is withheld.';
COMMENT ON COLUMN bloodcell.night_summary.n_slides_insufficient IS
    'Of n_slides_reported, those with too few leucocytes for a sufficient count.';
COMMENT ON COLUMN bloodcell.night_summary.n_cells_reported IS 'Cells that the reports of those slides count.';
COMMENT ON COLUMN bloodcell.night_summary.n_unclassified IS
    'Of n_cells_reported, those that neither a person nor the model could name.';

CREATE VIEW bloodcell.slide_look AS
SELECT DISTINCT ON (c.slide_id, k.model_id) c.slide_id, s.barcode, s.night, s.analyser, k.model_id, m.variant, k.checked_at,
       k.n_cells, k.distance, k.threshold, k.passed, k.reason, k.figures, k.run_id
FROM bloodcell.look_check k
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
ORDER BY c.slide_id, k.model_id, k.passed, k.check_id DESC;

COMMENT ON VIEW bloodcell.slide_look IS
    'How the images of each slide look beside those that a model knows: the newest comparison of each slide and model, or the '
    'newest that did not pass. A slide that did not pass is withheld if the model is the reported one.';
COMMENT ON COLUMN bloodcell.slide_look.model_id IS 'The model with whose known images they were compared.';
COMMENT ON COLUMN bloodcell.slide_look.checked_at IS 'When they were compared.';
COMMENT ON COLUMN bloodcell.slide_look.n_cells IS 'Cells whose images were compared.';
COMMENT ON COLUMN bloodcell.slide_look.distance IS
    'Median distance of the images to the nearest known ones, in spreads of the known ones; empty where nothing was judged.';
COMMENT ON COLUMN bloodcell.slide_look.threshold IS 'Distance above which the images are unlike what the model knows.';
COMMENT ON COLUMN bloodcell.slide_look.passed IS 'false where the images are unlike what the model knows.';
COMMENT ON COLUMN bloodcell.slide_look.reason IS 'The result in a sentence.';
COMMENT ON COLUMN bloodcell.slide_look.figures IS
    'Colours of the empty field and of red cells, sharpness, grain and diameter of red cells, each with known, found and '
    'difference (in spreads of the known images), as JSON.';

CREATE VIEW bloodcell.run_history AS
SELECT run_id, stage, night, state, started_at, ended_at, extract(epoch FROM ended_at - started_at) AS duration_s,
       n_cells, n_cells / nullif(extract(epoch FROM ended_at - started_at), 0) AS cells_per_s, code_version, host,
       airflow_run, detail, error
FROM bloodcell.run;

COMMENT ON VIEW bloodcell.run_history IS 'Every run of a stage: when, how long, on which machine and code, how it ended.';
COMMENT ON COLUMN bloodcell.run_history.run_id IS 'Identity of the run.';
COMMENT ON COLUMN bloodcell.run_history.stage IS 'Stage that ran: ingest, classify, differential and so on.';
COMMENT ON COLUMN bloodcell.run_history.night IS 'Night the run worked on; empty where it was not limited to one.';
COMMENT ON COLUMN bloodcell.run_history.state IS 'running, succeeded or failed; a run that was killed stays running.';
COMMENT ON COLUMN bloodcell.run_history.started_at IS 'When the run began.';
COMMENT ON COLUMN bloodcell.run_history.ended_at IS 'When the run ended; empty while it is running.';
COMMENT ON COLUMN bloodcell.run_history.duration_s IS 'How long the run took, in seconds.';
COMMENT ON COLUMN bloodcell.run_history.n_cells IS 'Cells the run worked on.';
COMMENT ON COLUMN bloodcell.run_history.cells_per_s IS 'Cells per second.';
COMMENT ON COLUMN bloodcell.run_history.host IS 'Machine the run was on.';
COMMENT ON COLUMN bloodcell.run_history.detail IS 'Further counts and facts, as JSON; the keys depend on the stage.';
COMMENT ON COLUMN bloodcell.run_history.error IS 'Why a failed run failed.';
