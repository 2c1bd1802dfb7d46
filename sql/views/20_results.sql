CREATE VIEW bloodcell.slide_differential AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, d.class, d.n_cells, d.percentage,
       d.lower AS percentage_lower_95, d.upper AS percentage_upper_95, d.flag, r.n_leucocytes, r.n_unclassified,
       r.is_sufficient, m.model_id, m.variant, m.model_id = reported.model_id AS is_reported, r.run_id, r.written_at
FROM bloodcell.differential d
JOIN bloodcell.slide_report r USING (slide_id, model_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.slide_reported_model reported USING (slide_id);
COMMENT ON VIEW bloodcell.slide_differential IS
    'A row a slide, model and class. Percentages are of leucocytes, with exact 95 % limits; filter on is_reported.';

CREATE VIEW bloodcell.slide_summary AS
SELECT s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, r.n_cells, r.n_leucocytes,
       r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower AS nrbc_lower_95,
       r.nrbc_upper AS nrbc_upper_95, r.n_compared, r.n_agree, m.model_id, m.variant,
       m.model_id = reported.model_id AS is_reported, r.run_id, r.written_at
FROM bloodcell.slide_report r
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.slide_reported_model reported USING (slide_id);
COMMENT ON VIEW bloodcell.slide_summary IS
    'A row a slide and model: counts, NRBC per 100 WBC, agreement with the analyser; filter on is_reported.';

CREATE VIEW bloodcell.cell_result AS
SELECT s.barcode, c.night, c.file_name, c.cell_id, c.sha256, c.analyser_code, c.analyser_class, k.called_class,
       k.top_class, k.confidence, k.novelty, k.unclassified_reason, k.p_basophil, k.p_eosinophil, k.p_erythroblast,
       k.p_ig, k.p_lymphocyte, k.p_monocyte, k.p_neutrophil, k.p_platelet, m.model_id, m.variant,
       m.model_id = reported.model_id AS is_reported, k.run_id, k.called_at
FROM bloodcell.cell_call k
JOIN bloodcell.cell c USING (cell_id, night)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.slide_reported_model reported USING (slide_id);
COMMENT ON VIEW bloodcell.cell_result IS
    'A row a cell and model: the call, its eight probabilities, confidence and novelty; filter on is_reported.';

CREATE VIEW bloodcell.review_queue AS
SELECT barcode, night, file_name, cell_id, sha256, unclassified_reason, top_class, confidence, novelty, analyser_code,
       variant, model_id
FROM bloodcell.cell_result WHERE is_reported AND called_class = 'unclassified';
COMMENT ON VIEW bloodcell.review_queue IS 'Cells the reported model would not call: a person has to look at them.';

CREATE VIEW bloodcell.model_disagreement AS
SELECT a.barcode, a.night, a.file_name, a.cell_id, a.called_class AS reported_class,
       a.confidence AS reported_confidence, a.variant AS reported_variant, b.called_class AS shadow_class,
       b.confidence AS shadow_confidence, b.variant AS shadow_variant, b.model_id AS shadow_model_id
FROM bloodcell.cell_result a JOIN bloodcell.cell_result b USING (cell_id, night)
WHERE a.is_reported AND NOT b.is_reported AND a.called_class <> b.called_class;
COMMENT ON VIEW bloodcell.model_disagreement IS 'Cells that a shadow model calls otherwise than the reported one.';

CREATE VIEW bloodcell.analyser_agreement AS
SELECT night, analyser_class, called_class, count(*) AS n_cells
FROM bloodcell.cell_result WHERE is_reported AND analyser_class IS NOT NULL
GROUP BY night, analyser_class, called_class;
COMMENT ON VIEW bloodcell.analyser_agreement IS 'The analyser''s own class against the reported call, counted a night.';
