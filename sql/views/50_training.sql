CREATE VIEW bloodcell.training_set AS
SELECT dataset_digest, created_at, n_training, n_validation, n_holdout, n_out_of_scope, left_out, until_label_id, run_id
FROM bloodcell.dataset;
COMMENT ON VIEW bloodcell.training_set IS 'Snapshots of labelled images that models were made and judged from.';

CREATE VIEW bloodcell.training_image AS
SELECT i.dataset_digest, i.sha256, i.split, i.class, i.split_key, i.cell_id, s.barcode, c.file_name, c.night, i.label_id,
       l.labelled_by, l.labelled_at, l.is_blind
FROM bloodcell.dataset_image i
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.label l USING (label_id);
COMMENT ON VIEW bloodcell.training_image IS 'The images of a snapshot: split, class, and the label and person that say so.';

CREATE VIEW bloodcell.retraining AS
SELECT t.training_run_id, t.requested_at, t.ended_at, t.state, t.state_reason, t.requested_by, t.reason, t.base, t.seed,
       t.epochs, t.champion_id, t.dataset_digest, c.variant, c.model_id, v.passed AS gates_passed,
       round(e.accuracy::numeric, 4) AS holdout_accuracy, round(o.accuracy::numeric, 4) AS champion_holdout_accuracy,
       v.report, t.approval ->> 'by' AS answered_by, t.approval ->> 'at' AS answered_at,
       t.approval ->> 'chosen' AS answer, t.approval ->> 'reason' AS answer_reason, t.airflow_run
FROM bloodcell.training_run t
LEFT JOIN bloodcell.candidate c USING (training_run_id)
LEFT JOIN bloodcell.validation v ON v.training_run_id = t.training_run_id AND v.model_id = c.model_id
LEFT JOIN bloodcell.evaluation e ON e.model_id = c.model_id AND e.dataset_digest = t.dataset_digest
LEFT JOIN bloodcell.evaluation o ON o.model_id = t.champion_id AND o.dataset_digest = t.dataset_digest;
COMMENT ON VIEW bloodcell.retraining IS
    'Every retraining, a row a candidate: who asked, on which data, its hold-out accuracy beside the champion''s, the answer.';

CREATE VIEW bloodcell.model_evaluation AS
SELECT e.model_id, m.variant, e.dataset_digest, e.n_cells, e.n_patients, e.accuracy, e.accuracy_lower AS accuracy_lower_95,
       e.accuracy_upper AS accuracy_upper_95, e.macro_f1, e.calibration_error, e.unclassified, e.figures, e.run_id,
       e.evaluated_at
FROM bloodcell.evaluation e JOIN bloodcell.model m USING (model_id);
COMMENT ON VIEW bloodcell.model_evaluation IS 'How good a model is on the hold-out of a snapshot; limits by patients.';

CREATE VIEW bloodcell.model_gate AS
SELECT v.validation_id, v.validated_at, v.training_run_id, v.model_id, v.champion_id, v.dataset_digest,
       g ->> 'gate' AS gate, (g ->> 'passed')::boolean AS passed, (g ->> 'measured')::double precision AS measured,
       coalesce(g ->> 'threshold', g ->> 'limit')::double precision AS limit_value, g ->> 'reason' AS reason, v.report
FROM bloodcell.validation v CROSS JOIN LATERAL jsonb_array_elements(v.gates) g;
COMMENT ON VIEW bloodcell.model_gate IS 'Every gate a model was judged by: measured, limit, passed or not, and why.';

CREATE VIEW bloodcell.champion_check AS
SELECT k.checked_at, k.model_id, m.variant, k.kind, k.class, k.n_cells, k.measured, k.lower AS lower_95,
       k.upper AS upper_95, k.limit_value, k.passed, k.reason, k.since_night, k.until_night, k.until_label_id, k.run_id
FROM bloodcell.model_check k JOIN bloodcell.model m USING (model_id);
COMMENT ON VIEW bloodcell.champion_check IS
    'The nightly look at the champion: agreement with new labels, drift of class mix, confidence, novelty and embedding.';

CREATE VIEW bloodcell.checked_label AS
SELECT x.model_id, m.variant, s.barcode, c.night, c.file_name, x.cell_id, x.class, x.called_class,
       CASE WHEN x.class IS NULL THEN x.called_class = 'unclassified'
            WHEN x.called_class <> 'unclassified' THEN x.class = x.called_class END AS is_agreed,
       x.is_blind, x.is_training, x.label_id, l.labelled_by, l.labelled_at, r.started_at AS checked_at, x.run_id
FROM bloodcell.checked_cell x
JOIN bloodcell.model m USING (model_id)
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.label l USING (label_id)
JOIN bloodcell.run r ON r.run_id = x.run_id;
COMMENT ON VIEW bloodcell.checked_label IS
    'Every labelled cell that a champion''s call was compared with, once each champion; is_agreed is empty without a call.';
