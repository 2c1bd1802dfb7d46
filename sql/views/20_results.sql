-- A code out of scope (BL, VLY, SMU ...) means that no model can name the cell, however confident it is.
CREATE OR REPLACE FUNCTION bloodcell.is_out_of_scope(analyser_code text, analyser_class text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN analyser_code IS NOT NULL AND analyser_class IS NULL;
COMMENT ON FUNCTION bloodcell.is_out_of_scope(text, text) IS
    'Whether the analyser gave a cell a code outside the eight classes.';

-- How a view finds the model that is reported for a slide:
--
--     LEFT JOIN LATERAL (
--         SELECT o.model_id FROM bloodcell.slide_last_reported_model o WHERE o.slide_id = s.slide_id LIMIT 1
--     ) reported ON true
--
-- and compares with s.withdrawn_at IS NULL AND ... IS NOT DISTINCT FROM. LIMIT 1 changes no row. It keeps the planner from
-- turning the look-up into a join with all slides ever reported; IS NOT DISTINCT FROM keeps it from looking up the model once
-- for each cell. Measured on 6,000 slides, 900,000 cells and 3 models: the cells of one slide take 2 ms and a night of 15,000
-- cells 0.6 s. A plain join or a comparison with = takes 2.6 s for the night. With the condition on withdrawn_at inside the
-- look-up, the class shares of a year took 7 s instead of 1.4 s, because its result is no longer kept for each slide.
CREATE VIEW bloodcell.slide_summary AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, r.n_cells, r.n_leucocytes,
       r.n_other_leucocytes, r.n_unverified, r.n_blasts, r.n_unclassified, r.n_contested, r.n_labelled, r.is_sufficient,
       CASE WHEN r.report_id = reported.report_id THEN reported.state END AS state,
       CASE WHEN r.report_id = reported.report_id THEN reported.withheld_for END AS withheld_for,
       CASE WHEN r.report_id = reported.report_id THEN reported.review_for END AS review_for, r.nrbc_per_100_wbc,
       r.nrbc_lower AS nrbc_lower_95, r.nrbc_upper AS nrbc_upper_95, r.n_compared, r.n_agree, m.model_id, m.variant,
       s.withdrawn_at IS NULL AND r.report_id IS NOT DISTINCT FROM reported.report_id AS is_reported, r.run_id,
       r.written_at, s.withdrawn_at, r.report_id
FROM bloodcell.slide_report r
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.report_id, o.state, o.withheld_for, o.review_for, p.model_id
    FROM bloodcell.result_in_force o JOIN bloodcell.slide_report p USING (report_id)
    WHERE o.slide_id = s.slide_id LIMIT 1
) reported ON true
-- of the model that is reported, the count that is in force, which is not the newest if that waits for a signature; of the
-- others the newest: the rule of newest_count, because asking that view here takes minutes for 100,000 counts
WHERE r.report_id = reported.report_id
   OR r.model_id IS DISTINCT FROM reported.model_id
      AND NOT EXISTS (SELECT 1 FROM bloodcell.slide_report n
                      WHERE n.slide_id = r.slide_id AND n.model_id = r.model_id AND n.number > r.number);

COMMENT ON VIEW bloodcell.slide_summary IS
    'One row per slide and model: counts, erythroblasts, agreement with the analyser. Filter on is_reported.';
COMMENT ON COLUMN bloodcell.slide_summary.n_cells IS 'All cells of the slide when its calls were added up.';
COMMENT ON COLUMN bloodcell.slide_summary.n_other_leucocytes IS 'Of n_leucocytes, those of a code out of scope.';
COMMENT ON COLUMN bloodcell.slide_summary.n_unverified IS
    'Of n_other_leucocytes, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.slide_summary.n_blasts IS
    'Cells that are a blast by a person''s label or, without one, by the analyser''s code; also contested cells of which one '
    'person says so.';
COMMENT ON COLUMN bloodcell.slide_summary.n_contested IS 'Of n_unclassified, those on which people disagree.';
COMMENT ON COLUMN bloodcell.slide_summary.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.slide_summary.state IS
    'State of the result: machine, withheld, final, amended or corrected; empty for a challenger.';
COMMENT ON COLUMN bloodcell.slide_summary.withheld_for IS
    'Why the percentages are, or were until it was signed, withheld; empty for a challenger.';
COMMENT ON COLUMN bloodcell.slide_summary.review_for IS 'Review rules that name the slide.';
COMMENT ON COLUMN bloodcell.slide_summary.nrbc_per_100_wbc IS
    'Nucleated red cells (erythroblasts) per 100 leucocytes; empty without leucocytes.';
COMMENT ON COLUMN bloodcell.slide_summary.nrbc_lower_95 IS 'Lower end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.slide_summary.nrbc_upper_95 IS 'Upper end of its exact 95 % interval.';
COMMENT ON COLUMN bloodcell.slide_summary.n_compared IS 'Cells with a call and with an analyser code in scope.';
COMMENT ON COLUMN bloodcell.slide_summary.n_agree IS 'Of n_compared, those that the model called as the analyser did.';
COMMENT ON COLUMN bloodcell.slide_summary.report_id IS 'Key of the count, as in count_line.';

CREATE VIEW bloodcell.slide_differential AS
SELECT r.barcode, r.night, r.order_id, r.patient_key, r.analyser, r.acquired_at, d.class, d.n_cells, d.n_labelled,
       d.n_unverified, d.percentage, d.percentage_lower_95, d.percentage_upper_95, d.bound_lower, d.bound_upper,
       d.absolute_10e9_per_l, d.flag, r.n_leucocytes, r.n_unclassified, r.is_sufficient, r.state, r.withheld_for, r.model_id,
       r.variant, r.is_reported, r.run_id, r.written_at, r.withdrawn_at
FROM bloodcell.slide_summary r JOIN bloodcell.count_line d USING (report_id);

COMMENT ON VIEW bloodcell.slide_differential IS
    'The differential: one row per slide, model and class. Filter on is_reported.';
COMMENT ON COLUMN bloodcell.slide_differential.class IS
    'One of the eight cell classes, unclassified, contested, or a code out of scope.';
COMMENT ON COLUMN bloodcell.slide_differential.n_labelled IS 'Of n_cells, those that a person''s label decides.';
COMMENT ON COLUMN bloodcell.slide_differential.n_unverified IS 'Of n_cells, those that only the analyser''s code names.';
COMMENT ON COLUMN bloodcell.slide_differential.bound_lower IS
    'The percentage if no unclassified cell were of this class but a leucocyte.';
COMMENT ON COLUMN bloodcell.slide_differential.bound_upper IS
    'The percentage if every unclassified cell were of this class.';
COMMENT ON COLUMN bloodcell.slide_differential.absolute_10e9_per_l IS
    'Cells in 10^9 per litre; empty without a leucocyte count.';
COMMENT ON COLUMN bloodcell.slide_differential.state IS
    'State of the result: machine, withheld, final, amended or corrected; empty for a challenger.';
COMMENT ON COLUMN bloodcell.slide_differential.withheld_for IS
    'Why the percentages are, or were until it was signed, withheld; empty for a challenger.';
COMMENT ON COLUMN bloodcell.slide_differential.n_cells IS 'Cells of the class.';
COMMENT ON COLUMN bloodcell.slide_differential.percentage IS
    'Share of the leucocytes in percent; empty for what is no leucocyte.';
COMMENT ON COLUMN bloodcell.slide_differential.percentage_lower_95 IS
    'Lower end of the exact 95 % interval of percentage (Clopper-Pearson).';
COMMENT ON COLUMN bloodcell.slide_differential.percentage_upper_95 IS
    'Upper end of the exact 95 % interval of percentage.';
COMMENT ON COLUMN bloodcell.slide_differential.flag IS
    'low, possibly_low, possibly_high or high relative to the reference range; possibly: the interval overlaps it.';

-- A report counts the cells that the slide had when it was written; a later night can bring more of them.
CREATE VIEW bloodcell.slide_status AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, s.record_state, c.n_cells,
       r.n_cells AS n_cells_reported, c.n_out_of_scope, files.n_quarantined, r.model_id AS reported_model_id,
       r.written_at AS reported_at, s.delivered_as, s.withdrawn_at, w.reason AS withdrawn_reason, w.renamed_to,
       r.version, r.state, r.withheld_for, r.review_for, r.newest_version, s.slide_id, s.run_id,
       CASE WHEN s.withdrawn_at IS NOT NULL THEN 'withdrawn'
            WHEN c.n_cells = 0 THEN 'no usable cell'
            WHEN r.n_cells IS NULL THEN 'waiting'
            WHEN r.n_cells_newest < c.n_cells THEN 'cells came later'
            WHEN r.newest_version > r.version AND r.newest_differs THEN 'differs from what was signed'
            ELSE 'reported' END AS status
FROM bloodcell.slide s
CROSS JOIN LATERAL (
    SELECT count(*) AS n_cells,
           count(*) FILTER (WHERE bloodcell.is_out_of_scope(c.analyser_code, c.analyser_class)) AS n_out_of_scope
    FROM bloodcell.cell c WHERE c.slide_id = s.slide_id
) c
CROSS JOIN LATERAL (
    SELECT count(*) AS n_quarantined FROM bloodcell.drop_file f
    WHERE f.barcode = coalesce(s.delivered_as, s.barcode) AND f.outcome = 'quarantined'
) files
LEFT JOIN LATERAL (
    SELECT p.model_id, p.n_cells, p.written_at, o.number AS version, o.state, o.withheld_for, o.review_for,
           newest.number AS newest_version, newest.n_cells AS n_cells_newest,
           newest.digest IS DISTINCT FROM o.digest AS newest_differs
    FROM bloodcell.result_in_force o JOIN bloodcell.slide_report p USING (report_id)
    CROSS JOIN LATERAL (
        SELECT n.number, n.digest, q.n_cells FROM bloodcell.newest_version n JOIN bloodcell.slide_report q USING (report_id)
        WHERE n.slide_id = o.slide_id LIMIT 1
    ) newest
    WHERE o.slide_id = s.slide_id LIMIT 1
) r ON true
LEFT JOIN bloodcell.withdrawn_slide w ON w.slide_id = s.slide_id;

COMMENT ON VIEW bloodcell.slide_status IS
    'One row per slide: whether it is reported, and what is missing where it is not. A withdrawn slide keeps its row.';
COMMENT ON COLUMN bloodcell.slide_status.record_state IS 'What became of slide.json: read, absent or unreadable.';
COMMENT ON COLUMN bloodcell.slide_status.n_cells IS 'Cells that the slide has now.';
COMMENT ON COLUMN bloodcell.slide_status.n_cells_reported IS 'Cells that its report counts; empty without a report.';
COMMENT ON COLUMN bloodcell.slide_status.n_out_of_scope IS 'Cells whose analyser code is outside the eight classes.';
COMMENT ON COLUMN bloodcell.slide_status.n_quarantined IS
    'Files that were delivered under the barcode and could not be used, of every slide that had it: a withdrawn slide and '
    'the one that has its barcode now both count all of them.';
COMMENT ON COLUMN bloodcell.slide_status.version IS 'Version of the result that counts; empty without a result.';
COMMENT ON COLUMN bloodcell.slide_status.state IS
    'State of that version: machine, withheld, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.slide_status.withheld_for IS 'Why its percentages are, or were until it was signed, withheld.';
COMMENT ON COLUMN bloodcell.slide_status.review_for IS 'Review rules that name the slide.';
COMMENT ON COLUMN bloodcell.slide_status.newest_version IS
    'Newest version of the result; it waits for a person if it is newer than version.';
COMMENT ON COLUMN bloodcell.slide_status.run_id IS 'Run that first read the slide, or that renamed it; see run_history.';
COMMENT ON COLUMN bloodcell.slide_status.reported_model_id IS
    'Model whose calls are reported, or were reported until the slide was withdrawn.';
COMMENT ON COLUMN bloodcell.slide_status.reported_at IS 'When the calls were added up.';
COMMENT ON COLUMN bloodcell.slide_status.status IS
    'reported; waiting (not classified or not counted); cells came later (its newest version counts fewer); differs from '
    'what was signed (a newer version waits for a person); no usable cell; withdrawn (nothing is reported).';
COMMENT ON COLUMN bloodcell.slide_status.withdrawn_reason IS 'Why it was withdrawn.';
COMMENT ON COLUMN bloodcell.slide_status.renamed_to IS 'Barcode of the slide to which its cells were moved; else empty.';

CREATE VIEW bloodcell.slide_cell AS
SELECT s.barcode, c.night, c.file_name, c.cell_id, c.sha256, c.analyser_code, c.analyser_class, i.width_px, i.height_px,
       i.removed_at AS image_removed_at, s.withdrawn_at, c.slide_id
FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id) JOIN bloodcell.image i USING (sha256);

COMMENT ON VIEW bloodcell.slide_cell IS 'One row per cell of a slide, called or not.';
COMMENT ON COLUMN bloodcell.slide_cell.width_px IS 'Width of the image in pixels.';
COMMENT ON COLUMN bloodcell.slide_cell.height_px IS 'Height of the image in pixels.';
COMMENT ON COLUMN bloodcell.slide_cell.image_removed_at IS
    'When the image was removed from the store because of its age; empty while it is there.';

-- The night is that of the call, by which its table is partitioned: a filter on night skips the calls of other months.
CREATE VIEW bloodcell.cell_result AS
SELECT s.barcode, k.night, c.file_name, c.cell_id, c.sha256, c.analyser_code, c.analyser_class, k.called_class,
       k.top_class, k.confidence, k.novelty, k.unclassified_reason, k.resembles, k.p_basophil, k.p_eosinophil, k.p_erythroblast,
       k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil, k.p_platelet, m.model_id, m.variant,
       s.withdrawn_at IS NULL AND k.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported, k.run_id, k.called_at,
       s.withdrawn_at, c.slide_id
FROM bloodcell.cell_call k
JOIN bloodcell.cell c USING (cell_id, night)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_last_reported_model o WHERE o.slide_id = s.slide_id LIMIT 1
) reported ON true;

COMMENT ON VIEW bloodcell.cell_result IS
    'One row per cell and model: the call, its eight probabilities, confidence and novelty. Filter on is_reported.';
COMMENT ON COLUMN bloodcell.cell_result.p_basophil IS 'Calibrated probability of basophil; the eight add up to 1.';
COMMENT ON COLUMN bloodcell.cell_result.p_eosinophil IS 'Calibrated probability of eosinophil.';
COMMENT ON COLUMN bloodcell.cell_result.p_erythroblast IS 'Calibrated probability of erythroblast.';
COMMENT ON COLUMN bloodcell.cell_result.p_ig IS 'Calibrated probability of ig (immature granulocyte).';
COMMENT ON COLUMN bloodcell.cell_result.p_lymphocyte IS 'Calibrated probability of lymphocyte.';
COMMENT ON COLUMN bloodcell.cell_result.p_monocyte IS 'Calibrated probability of monocyte.';
COMMENT ON COLUMN bloodcell.cell_result.p_neutrophil IS 'Calibrated probability of neutrophil.';
COMMENT ON COLUMN bloodcell.cell_result.p_platelet IS 'Calibrated probability of platelet.';

CREATE VIEW bloodcell.call_history AS
SELECT s.barcode, k.night, c.file_name, c.cell_id, c.sha256, c.analyser_code, c.analyser_class, k.model_id, k.called_class,
       k.top_class, k.unclassified_reason, k.resembles, k.confidence, k.novelty, k.run_id, k.called_at, k.replaced_at, k.replaced_by,
       s.withdrawn_at
FROM (
    SELECT cell_id, night, model_id, called_class, top_class, unclassified_reason, resembles, confidence, novelty, run_id,
           called_at,
           CAST(NULL AS timestamptz) AS replaced_at, CAST(NULL AS uuid) AS replaced_by
    FROM bloodcell.cell_call
    UNION ALL
    SELECT cell_id, night, model_id, called_class, top_class, unclassified_reason, resembles, confidence, novelty, run_id,
           called_at,
           replaced_at, replaced_by
    FROM bloodcell.former_call
) k
JOIN bloodcell.cell c USING (cell_id, night)
JOIN bloodcell.slide s USING (slide_id);

COMMENT ON VIEW bloodcell.call_history IS
    'Every call of every cell, also those that a redo has replaced. The calls of a moment: called_at <= moment AND '
    '(replaced_at > moment OR replaced_at IS NULL).';
COMMENT ON COLUMN bloodcell.call_history.run_id IS 'Run that called the cell; see run_history.';
COMMENT ON COLUMN bloodcell.call_history.replaced_at IS 'When a redo replaced the call; empty for a call that counts.';
COMMENT ON COLUMN bloodcell.call_history.replaced_by IS 'Run whose call replaced it.';

-- Adds up by slide first, because the reported model belongs to the slide: a look-up for each call takes five seconds a
-- month.
CREATE VIEW bloodcell.night_calls AS
SELECT a.night, m.variant, a.model_id, a.model_id IS NOT DISTINCT FROM r.model_id AS is_reported,
       sum(a.n_cells) AS n_cells, sum(a.n_unclassified) AS n_unclassified, sum(a.n_novel) AS n_novel,
       sum(a.n_low_confidence) AS n_low_confidence, sum(a.confidence) / sum(a.n_cells) AS mean_confidence,
       sum(a.novelty) / sum(a.n_cells) AS mean_novelty
FROM (
    SELECT c.slide_id, k.night, k.model_id, count(*) AS n_cells,
           count(*) FILTER (WHERE k.called_class = 'unclassified') AS n_unclassified,
           count(*) FILTER (WHERE k.unclassified_reason = 'novel') AS n_novel,
           count(*) FILTER (WHERE k.unclassified_reason = 'low_confidence') AS n_low_confidence,
           sum(k.confidence::double precision) AS confidence, sum(k.novelty::double precision) AS novelty
    FROM bloodcell.cell_call k JOIN bloodcell.cell c USING (cell_id, night)
    GROUP BY c.slide_id, k.night, k.model_id
) a
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_reported_model o WHERE o.slide_id = a.slide_id LIMIT 1
) r ON true
GROUP BY a.night, m.variant, a.model_id, a.model_id IS NOT DISTINCT FROM r.model_id;

COMMENT ON VIEW bloodcell.night_calls IS 'One row per night and model: cells called, unclassified by reason, mean scores.';
COMMENT ON COLUMN bloodcell.night_calls.n_cells IS 'Cells that the model called or left unclassified.';
COMMENT ON COLUMN bloodcell.night_calls.n_novel IS 'Of n_unclassified, those unlike the training cells.';
COMMENT ON COLUMN bloodcell.night_calls.n_low_confidence IS 'Of n_unclassified, those with too low a confidence.';
COMMENT ON COLUMN bloodcell.night_calls.mean_confidence IS 'Mean calibrated probability of the most probable class.';
COMMENT ON COLUMN bloodcell.night_calls.mean_novelty IS 'Mean novelty, on the scale of the model.';

-- Not a join of cell_result with itself: with ten tables the planner reads every call in the database for one slide (7 s).
CREATE VIEW bloodcell.model_disagreement AS
SELECT s.barcode, c.night, c.file_name, c.cell_id, a.called_class AS reported_class,
       a.confidence AS reported_confidence, champion.variant AS reported_variant, b.called_class AS challenger_class,
       b.confidence AS challenger_confidence, challenger.variant AS challenger_variant, b.model_id AS challenger_model_id
FROM bloodcell.cell c
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.cell_call a ON a.night = c.night AND a.cell_id = c.cell_id
JOIN bloodcell.cell_call b ON b.night = c.night AND b.cell_id = c.cell_id AND b.model_id <> a.model_id
JOIN bloodcell.model champion ON champion.model_id = a.model_id
JOIN bloodcell.model challenger ON challenger.model_id = b.model_id
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_last_reported_model o WHERE o.slide_id = s.slide_id LIMIT 1
) reported ON true
WHERE s.withdrawn_at IS NULL AND a.model_id IS NOT DISTINCT FROM reported.model_id AND a.called_class <> b.called_class;

COMMENT ON VIEW bloodcell.model_disagreement IS
    'Cells that a challenger calls differently from the reported model, one row per cell and challenger.';
COMMENT ON COLUMN bloodcell.model_disagreement.reported_class IS 'Call of the reported model, or unclassified.';
COMMENT ON COLUMN bloodcell.model_disagreement.reported_confidence IS 'Confidence of the reported model.';
COMMENT ON COLUMN bloodcell.model_disagreement.reported_variant IS 'Variant of the reported model.';
COMMENT ON COLUMN bloodcell.model_disagreement.challenger_class IS 'Call of the challenger, or unclassified.';
COMMENT ON COLUMN bloodcell.model_disagreement.challenger_confidence IS 'Confidence of the challenger.';
COMMENT ON COLUMN bloodcell.model_disagreement.challenger_variant IS 'Variant of the challenger.';
COMMENT ON COLUMN bloodcell.model_disagreement.challenger_model_id IS 'Digest of the challenger''s bundle.';

CREATE VIEW bloodcell.analyser_agreement AS
SELECT night, analyser_class, called_class, count(*) AS n_cells
FROM bloodcell.cell_result WHERE is_reported AND analyser_class IS NOT NULL
GROUP BY night, analyser_class, called_class;

COMMENT ON VIEW bloodcell.analyser_agreement IS
    'The analyser''s class against the reported call, one row per night and pair. Codes out of scope are left out.';
COMMENT ON COLUMN bloodcell.analyser_agreement.n_cells IS 'Cells of the pair.';

CREATE VIEW bloodcell.cell_provenance AS
SELECT s.barcode, s.patient_key, s.order_id, s.analyser, c.night, c.file_name, c.cell_id, d.folder, f.path,
       c.sha256, coalesce(c.received_sha256, c.sha256) AS received_sha256, i.size_bytes, i.width_px, i.height_px, i.format,
       c.analyser_code, c.analyser_class,
       ingest.run_id AS ingest_run_id, ingest.started_at AS ingested_at, ingest.code_version AS ingest_code_version,
       ingest.host AS ingest_host, k.called_class, k.top_class, k.confidence, k.novelty, k.unclassified_reason,
       k.resembles, m.model_id, m.variant, m.confidence_threshold, m.novelty_threshold,
       m.manifest #>> '{data,dataset_digest}' AS dataset_digest, m.manifest ->> 'code_version' AS model_code_version,
       m.created_at AS model_created_at,
       s.withdrawn_at IS NULL AND k.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported,
       classify.run_id AS classify_run_id, k.called_at, classify.code_version AS classify_code_version,
       classify.host AS classify_host, classify.airflow_run AS classify_airflow_run, s.delivered_as, s.withdrawn_at,
       c.slide_id, i.removed_at AS image_removed_at
FROM bloodcell.cell c
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell."drop" d ON d.night = c.night
JOIN bloodcell.image i USING (sha256)
JOIN bloodcell.run ingest ON ingest.run_id = c.run_id
LEFT JOIN bloodcell.drop_file f ON f.cell_id = c.cell_id AND f.night = c.night AND f.outcome = 'cell'
LEFT JOIN (bloodcell.cell_call k JOIN bloodcell.model m USING (model_id)
           JOIN bloodcell.run classify ON classify.run_id = k.run_id)
       ON k.night = c.night AND k.cell_id = c.cell_id
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_last_reported_model o WHERE o.slide_id = s.slide_id LIMIT 1
) reported ON true;

COMMENT ON VIEW bloodcell.cell_provenance IS
    'For audits: one row per cell and model, from the analyser''s file to the call, with every run, version and digest. '
    'A cell that has not been called yet has one row without a model.';
COMMENT ON COLUMN bloodcell.cell_provenance.folder IS 'The night''s folder.';
COMMENT ON COLUMN bloodcell.cell_provenance.received_sha256 IS
    'Digest of the file as it was received; it differs from sha256 if the file had metadata.';
COMMENT ON COLUMN bloodcell.cell_provenance.width_px IS 'Width of the image in pixels.';
COMMENT ON COLUMN bloodcell.cell_provenance.height_px IS 'Height of the image in pixels.';
COMMENT ON COLUMN bloodcell.cell_provenance.format IS 'Format of the image, such as JPEG.';
COMMENT ON COLUMN bloodcell.cell_provenance.image_removed_at IS
    'When the image was removed from the store because of its age; empty while it is there.';
COMMENT ON COLUMN bloodcell.cell_provenance.ingest_run_id IS 'Run that ingested the cell; see run_history.';
COMMENT ON COLUMN bloodcell.cell_provenance.ingested_at IS 'When that run began.';
COMMENT ON COLUMN bloodcell.cell_provenance.ingest_code_version IS 'Release of bloodcell that ingested the cell.';
COMMENT ON COLUMN bloodcell.cell_provenance.ingest_host IS 'Machine that ingested the cell.';
COMMENT ON COLUMN bloodcell.cell_provenance.model_code_version IS 'Release of bloodcell that trained the model.';
COMMENT ON COLUMN bloodcell.cell_provenance.model_created_at IS 'When the model was trained.';
COMMENT ON COLUMN bloodcell.cell_provenance.classify_run_id IS 'Run that called the cell; see run_history.';
COMMENT ON COLUMN bloodcell.cell_provenance.classify_code_version IS 'Release of bloodcell that called the cell.';
COMMENT ON COLUMN bloodcell.cell_provenance.classify_host IS 'Machine that called the cell.';
COMMENT ON COLUMN bloodcell.cell_provenance.classify_airflow_run IS
    'Airflow''s Dag run that called the cell; empty where Airflow did not.';
