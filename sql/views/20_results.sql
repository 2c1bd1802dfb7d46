-- Each view of cells or of one slide finds a slide's reported model (see slide_reported_model) by a LATERAL of its own and
-- compares with IS NOT DISTINCT FROM. Measured on 6,000 slides, 900,000 cells, 3 models: one slide's cells in 2 ms and a night of
-- 15,000 cells in 0.6 s, where joining slide_reported_model or comparing with = makes the planner look up the reported
-- model once a cell (2.6 s a night), and DISTINCT ON over all slides takes 20 ms for one slide and grows with the years.
CREATE VIEW bloodcell.slide_differential AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, d.class, d.n_cells, d.percentage,
       d.lower AS percentage_lower_95, d.upper AS percentage_upper_95, d.flag, r.n_leucocytes, r.n_unclassified,
       r.is_sufficient, m.model_id, m.variant, r.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported,
       r.run_id, r.written_at
FROM bloodcell.differential d
JOIN bloodcell.slide_report r USING (slide_id, model_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported ON true;
COMMENT ON VIEW bloodcell.slide_differential IS
    'A row a slide, model and class. Percentages are of leucocytes, with exact 95 % limits; filter on is_reported.';

CREATE VIEW bloodcell.slide_summary AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, r.n_cells, r.n_leucocytes,
       r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower AS nrbc_lower_95,
       r.nrbc_upper AS nrbc_upper_95, r.n_compared, r.n_agree, m.model_id, m.variant,
       r.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported, r.run_id, r.written_at
FROM bloodcell.slide_report r
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported ON true;
COMMENT ON VIEW bloodcell.slide_summary IS
    'A row a slide and model: counts, NRBC per 100 WBC, agreement with the analyser; filter on is_reported.';

-- The report counts the cells there were when it was written; a later night can bring more of the same slide.
CREATE VIEW bloodcell.slide_status AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, s.record_state, c.n_cells,
       r.n_cells AS n_cells_reported, c.n_foreign_codes, files.n_quarantined, r.model_id AS reported_model_id, r.written_at AS reported_at,
       CASE WHEN c.n_cells = 0 THEN 'no usable cell'
            WHEN r.n_cells IS NULL THEN 'waiting'
            WHEN r.n_cells < c.n_cells THEN 'cells came later'
            ELSE 'reported' END AS status
FROM bloodcell.slide s
CROSS JOIN LATERAL (
    SELECT count(*) AS n_cells,
           count(*) FILTER (WHERE c.analyser_code IS NOT NULL AND c.analyser_class IS NULL) AS n_foreign_codes
    FROM bloodcell.cell c WHERE c.slide_id = s.slide_id
) c
CROSS JOIN LATERAL (
    SELECT count(*) AS n_quarantined FROM bloodcell.drop_file f
    WHERE f.barcode = s.barcode AND f.outcome = 'quarantined'
) files
LEFT JOIN LATERAL (
    SELECT o.model_id, o.n_cells, o.written_at FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) r ON true;
COMMENT ON VIEW bloodcell.slide_status IS
    'A row a slide: reported, waiting, without a usable cell, or reported before its last cells came.';

-- The night is the call's, by which its table is cut: from some night on, the calls of earlier months are not read.
CREATE VIEW bloodcell.cell_result AS
SELECT s.barcode, k.night, c.file_name, c.cell_id, c.sha256, c.analyser_code, c.analyser_class, k.called_class,
       k.top_class, k.confidence, k.novelty, k.unclassified_reason, k.p_basophil, k.p_eosinophil, k.p_erythroblast,
       k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil, k.p_platelet, m.model_id, m.variant,
       k.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported, k.run_id, k.called_at
FROM bloodcell.cell_call k
JOIN bloodcell.cell c USING (cell_id, night)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN LATERAL (
    SELECT o.model_id FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported ON true;
COMMENT ON VIEW bloodcell.cell_result IS
    'A row a cell and model: the call, its eight probabilities, confidence and novelty; filter on is_reported.';

-- Added up a slide first, because the reported model is a slide's: looked up for each call, a month takes five seconds.
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
LEFT JOIN bloodcell.slide_reported_model r USING (slide_id)
GROUP BY a.night, m.variant, a.model_id, a.model_id IS NOT DISTINCT FROM r.model_id;
COMMENT ON VIEW bloodcell.night_calls IS
    'A row a night and model: cells called, unclassified by reason, mean confidence and novelty; filter on is_reported.';

-- A code outside the eight groups (BL, VLY, SMU ...) is the analyser's word that no model can name the cell, however sure.
CREATE VIEW bloodcell.review_queue AS
SELECT barcode, night, file_name, cell_id, sha256, coalesce(unclassified_reason, 'foreign_code') AS review_reason,
       analyser_code IS NOT NULL AND analyser_class IS NULL AS is_foreign_code, called_class, top_class, confidence,
       novelty, analyser_code, variant, model_id
FROM bloodcell.cell_result
WHERE is_reported AND (called_class = 'unclassified' OR (analyser_code IS NOT NULL AND analyser_class IS NULL));
COMMENT ON VIEW bloodcell.review_queue IS
    'Cells the reported model would not call, or whose analyser code it cannot know: a person has to look at them.';

-- Not two cell_result joined: that is ten tables, and the planner then reads all calls there are for one slide (7 s).
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
    SELECT o.model_id FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported ON true
WHERE a.model_id IS NOT DISTINCT FROM reported.model_id AND a.called_class <> b.called_class;
COMMENT ON VIEW bloodcell.model_disagreement IS 'Cells that a challenger model calls otherwise than the reported one.';

CREATE VIEW bloodcell.analyser_agreement AS
SELECT night, analyser_class, called_class, count(*) AS n_cells
FROM bloodcell.cell_result WHERE is_reported AND analyser_class IS NOT NULL
GROUP BY night, analyser_class, called_class;
COMMENT ON VIEW bloodcell.analyser_agreement IS 'The analyser''s own class against the reported call, counted a night.';

CREATE VIEW bloodcell.cell_provenance AS
SELECT s.barcode, s.patient_key, s.order_id, s.analyser, c.night, c.file_name, c.cell_id, d.folder, f.path,
       c.sha256, i.size_bytes, i.width_px, i.height_px, i.format, c.analyser_code, c.analyser_class,
       ingest.run_id AS ingest_run_id, ingest.started_at AS ingested_at, ingest.code_version AS ingest_code_version,
       ingest.host AS ingest_host, k.called_class, k.top_class, k.confidence, k.novelty, k.unclassified_reason,
       m.model_id, m.variant, m.confidence_threshold, m.novelty_threshold,
       m.manifest #>> '{data,dataset_digest}' AS dataset_digest, m.manifest ->> 'code_version' AS model_code_version,
       m.created_at AS model_created_at, k.model_id IS NOT DISTINCT FROM reported.model_id AS is_reported,
       classify.run_id AS classify_run_id, k.called_at, classify.code_version AS classify_code_version,
       classify.host AS classify_host, classify.airflow_run AS classify_airflow_run
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
    SELECT o.model_id FROM bloodcell.slide_report o JOIN bloodcell.promotion p USING (model_id)
    WHERE o.slide_id = s.slide_id AND p.promoted_at <= o.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported ON true;
COMMENT ON VIEW bloodcell.cell_provenance IS
    'A row a cell and model, from the file on the analyser''s share to the call: every run, version and digest.';
