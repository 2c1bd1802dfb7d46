-- One hold-out contains images of the other as it grows, so that attempts on both count.
CREATE VIEW bloodcell.holdout_attempt AS
SELECT d.dataset_digest, v.model_id, min(v.validated_at) AS first_validated_at
FROM bloodcell.dataset d
JOIN bloodcell.validation v ON v.dataset_digest = d.dataset_digest OR EXISTS (
    SELECT 1 FROM bloodcell.dataset_image earlier JOIN bloodcell.dataset_image present USING (sha256, split)
    WHERE earlier.dataset_digest = v.dataset_digest AND present.dataset_digest = d.dataset_digest AND split = 'holdout')
GROUP BY d.dataset_digest, v.model_id;

COMMENT ON VIEW bloodcell.holdout_attempt IS
    'Models validated on the hold-out of a snapshot, or on another hold-out with images of it. Of many, the luckiest passes.';
COMMENT ON COLUMN bloodcell.holdout_attempt.dataset_digest IS 'The snapshot.';
COMMENT ON COLUMN bloodcell.holdout_attempt.model_id IS 'The model.';
COMMENT ON COLUMN bloodcell.holdout_attempt.first_validated_at IS 'When the model was first validated on such a hold-out.';

CREATE VIEW bloodcell.training_set AS
SELECT dataset_digest, created_at, n_training, n_validation, n_holdout, n_out_of_scope, left_out, until_label_id, run_id,
       n_lockbox,
       (SELECT count(*) FROM bloodcell.holdout_attempt a WHERE a.dataset_digest = d.dataset_digest) AS n_attempts
FROM bloodcell.dataset d;

COMMENT ON VIEW bloodcell.training_set IS 'Snapshots of labelled images. A snapshot is never changed.';
COMMENT ON COLUMN bloodcell.training_set.dataset_digest IS 'Digest over every image, its class and its split.';
COMMENT ON COLUMN bloodcell.training_set.created_at IS 'When the snapshot was taken.';
COMMENT ON COLUMN bloodcell.training_set.n_training IS 'Images to train on.';
COMMENT ON COLUMN bloodcell.training_set.n_validation IS 'Images to choose thresholds with.';
COMMENT ON COLUMN bloodcell.training_set.n_holdout IS 'Images to validate a model on, all read blind.';
COMMENT ON COLUMN bloodcell.training_set.n_out_of_scope IS 'Images with a label out of scope.';
COMMENT ON COLUMN bloodcell.training_set.left_out IS 'Labelled cells that were left out: reason and number, as JSON.';
COMMENT ON COLUMN bloodcell.training_set.until_label_id IS 'Newest label that was considered.';
COMMENT ON COLUMN bloodcell.training_set.n_lockbox IS 'Images that judge a model only when it is promoted.';
COMMENT ON COLUMN bloodcell.training_set.n_attempts IS
    'Models validated on this hold-out: the more, the easier one of them passes by chance.';

CREATE VIEW bloodcell.training_image AS
SELECT i.dataset_digest, i.sha256, i.split, i.class, i.split_key, i.cell_id, s.barcode, c.file_name, c.night, i.label_id,
       l.labelled_by, l.labelled_at, l.is_blind, s.withdrawn_at
FROM bloodcell.dataset_image i
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.label l USING (label_id);

COMMENT ON VIEW bloodcell.training_image IS 'The images of a snapshot: split, class, and the label that gives the class.';
COMMENT ON COLUMN bloodcell.training_image.dataset_digest IS 'The snapshot; see training_set.';
COMMENT ON COLUMN bloodcell.training_image.split IS 'training, validation, holdout, lockbox or out_of_scope.';
COMMENT ON COLUMN bloodcell.training_image.withdrawn_at IS
    'When the slide was withdrawn: later snapshots leave the image out; empty while the slide stands.';

CREATE VIEW bloodcell.retraining AS
SELECT t.training_run_id, t.requested_at, t.ended_at, t.state, t.state_reason, t.requested_by, t.reason, t.base, t.seed,
       t.epochs, t.champion_id, t.dataset_digest, c.variant, c.model_id, v.passed AS gates_passed,
       round(e.accuracy::numeric, 4) AS holdout_accuracy, round(o.accuracy::numeric, 4) AS champion_holdout_accuracy,
       v.report, t.approval ->> 'by' AS decided_by, t.approval ->> 'at' AS decided_at,
       t.approval ->> 'chosen' AS decision, t.approval ->> 'reason' AS decision_reason, t.airflow_run, t.triggered_by
FROM bloodcell.training_run t
LEFT JOIN bloodcell.candidate c USING (training_run_id)
LEFT JOIN bloodcell.validation v ON v.training_run_id = t.training_run_id AND v.model_id = c.model_id
LEFT JOIN bloodcell.evaluation e ON e.model_id = c.model_id AND e.dataset_digest = t.dataset_digest
LEFT JOIN bloodcell.evaluation o ON o.model_id = t.champion_id AND o.dataset_digest = t.dataset_digest;

COMMENT ON VIEW bloodcell.retraining IS
    'One row per retraining and candidate: who requested it, on which data, how accurate the candidate and the champion '
    'are, and what the person decided. A retraining that ended before it trained has one row without a candidate.';
COMMENT ON COLUMN bloodcell.retraining.requested_at IS 'When it was requested.';
COMMENT ON COLUMN bloodcell.retraining.ended_at IS 'When it ended; empty while it is running.';
COMMENT ON COLUMN bloodcell.retraining.state IS
    'running, skipped, refused (by the gates), rejected (by a person), expired, promoted or failed.';
COMMENT ON COLUMN bloodcell.retraining.state_reason IS 'Why it ended in this state.';
COMMENT ON COLUMN bloodcell.retraining.requested_by IS 'Who requested it, as they wrote it.';
COMMENT ON COLUMN bloodcell.retraining.triggered_by IS
    'Login that Airflow authenticated when the run was triggered; empty for a scheduled run.';
COMMENT ON COLUMN bloodcell.retraining.reason IS 'Why it was requested.';
COMMENT ON COLUMN bloodcell.retraining.base IS 'Where training began: champion, imagenet or site (last layers only); in rows of release 0.1 also random.';
COMMENT ON COLUMN bloodcell.retraining.seed IS 'Seed of everything random.';
COMMENT ON COLUMN bloodcell.retraining.epochs IS 'Most epochs of each stage; empty: as the recipe says.';
COMMENT ON COLUMN bloodcell.retraining.dataset_digest IS 'Snapshot it trained on; empty where it was skipped.';
COMMENT ON COLUMN bloodcell.retraining.variant IS 'Variant of the candidate.';
COMMENT ON COLUMN bloodcell.retraining.model_id IS 'Digest of the candidate''s bundle.';
COMMENT ON COLUMN bloodcell.retraining.gates_passed IS 'Whether the candidate passed every gate.';
COMMENT ON COLUMN bloodcell.retraining.holdout_accuracy IS 'Accuracy of the candidate on the hold-out, 0 to 1.';
COMMENT ON COLUMN bloodcell.retraining.champion_holdout_accuracy IS 'Accuracy of the champion on the same cells.';
COMMENT ON COLUMN bloodcell.retraining.decided_by IS 'Person who approved or rejected the candidate.';
COMMENT ON COLUMN bloodcell.retraining.decided_at IS 'When that person decided.';
COMMENT ON COLUMN bloodcell.retraining.decision IS 'Approve or Reject; empty where nobody decided.';
COMMENT ON COLUMN bloodcell.retraining.decision_reason IS 'Why, in the person''s words.';

CREATE VIEW bloodcell.model_approval AS
SELECT q.asked_at, q.training_run_id, q.model_id, m.variant, a.decision, a.answered_by, a.answered_at, a.reason,
       a.recorded_at, q.question_id
FROM bloodcell.approval_question q
JOIN bloodcell.model m USING (model_id)
LEFT JOIN bloodcell.approval_answer a USING (question_id);

COMMENT ON VIEW bloodcell.model_approval IS
    'One row per question whether a candidate becomes champion, with the answer. Of a retraining, the newest question counts.';
COMMENT ON COLUMN bloodcell.model_approval.asked_at IS 'When it was asked.';
COMMENT ON COLUMN bloodcell.model_approval.training_run_id IS 'The retraining; see retraining.';
COMMENT ON COLUMN bloodcell.model_approval.model_id IS 'The candidate.';
COMMENT ON COLUMN bloodcell.model_approval.decision IS 'Approve or Reject; empty where nobody answered.';
COMMENT ON COLUMN bloodcell.model_approval.answered_by IS 'Login of the person, as Airflow authenticated it.';
COMMENT ON COLUMN bloodcell.model_approval.answered_at IS 'When they answered.';
COMMENT ON COLUMN bloodcell.model_approval.reason IS 'Why, in their words.';
COMMENT ON COLUMN bloodcell.model_approval.recorded_at IS 'When the answer was recorded here.';
COMMENT ON COLUMN bloodcell.model_approval.question_id IS 'Airflow''s id of the task instance that asked.';

CREATE VIEW bloodcell.model_evaluation AS
SELECT e.model_id, m.variant, e.dataset_digest, e.n_cells, e.n_patients, e.accuracy, e.accuracy_lower AS accuracy_lower_95,
       e.accuracy_upper AS accuracy_upper_95, e.macro_f1, e.calibration_error, e.unclassified, e.figures, e.run_id,
       e.evaluated_at
FROM bloodcell.evaluation e JOIN bloodcell.model m USING (model_id);

COMMENT ON VIEW bloodcell.model_evaluation IS
    'How well a model performs on the hold-out of a snapshot. Intervals are over patients.';
COMMENT ON COLUMN bloodcell.model_evaluation.dataset_digest IS 'Snapshot whose hold-out it was evaluated on.';
COMMENT ON COLUMN bloodcell.model_evaluation.n_cells IS 'Cells of the hold-out.';
COMMENT ON COLUMN bloodcell.model_evaluation.n_patients IS 'Patients of the hold-out.';
COMMENT ON COLUMN bloodcell.model_evaluation.accuracy IS 'Share of cells whose most probable class is right, 0 to 1.';
COMMENT ON COLUMN bloodcell.model_evaluation.accuracy_lower_95 IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.model_evaluation.accuracy_upper_95 IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.model_evaluation.macro_f1 IS 'Mean F1 of the classes that occur.';
COMMENT ON COLUMN bloodcell.model_evaluation.calibration_error IS
    'Calibration error, 0 to 1: before schema 0011 the expected calibration error, since then debiased.';
COMMENT ON COLUMN bloodcell.model_evaluation.unclassified IS 'Share of cells left unclassified, 0 to 1.';
COMMENT ON COLUMN bloodcell.model_evaluation.figures IS
    'Everything measured, as JSON: confusion matrix, figures of each class, the same by patient.';
COMMENT ON COLUMN bloodcell.model_evaluation.evaluated_at IS 'When it was evaluated.';

-- Rows from before schema 0004 call the classes groups.
CREATE VIEW bloodcell.class_evaluation AS
SELECT e.model_id, m.variant, e.dataset_digest, coalesce(f ->> 'cell_class', f ->> 'group') AS class,
       (f ->> 'n_true')::integer AS n_cells, e.n_patients,
       (f #>> '{sensitivity,value}')::double precision AS sensitivity,
       (f #>> '{sensitivity,lower}')::double precision AS sensitivity_lower_95,
       (f #>> '{sensitivity,upper}')::double precision AS sensitivity_upper_95,
       (f #>> '{precision,value}')::double precision AS precision,
       (f #>> '{precision,lower}')::double precision AS precision_lower_95,
       (f #>> '{precision,upper}')::double precision AS precision_upper_95,
       (f #>> '{specificity,value}')::double precision AS specificity,
       (f ->> 'f1')::double precision AS f1, (f ->> 'n_unclassified')::integer AS n_unclassified, e.run_id, e.evaluated_at,
       (c #>> '{sensitivity,value}')::double precision AS called_sensitivity,
       (c #>> '{sensitivity,lower}')::double precision AS called_sensitivity_lower_95,
       (c #>> '{sensitivity,upper}')::double precision AS called_sensitivity_upper_95,
       (c #>> '{precision,value}')::double precision AS called_precision,
       (c #>> '{precision,lower}')::double precision AS called_precision_lower_95,
       (c #>> '{precision,upper}')::double precision AS called_precision_upper_95
FROM bloodcell.evaluation e
JOIN bloodcell.model m USING (model_id)
CROSS JOIN LATERAL jsonb_array_elements(coalesce(e.figures -> 'classes', e.figures -> 'groups')) f
-- figures of the calls, over patients: in rows since schema 0011, which also have the share unclassified here
LEFT JOIN LATERAL jsonb_array_elements(e.figures #> '{by_patient,classes}') c
       ON c ->> 'cell_class' = f ->> 'cell_class' AND c ? 'unclassified';

COMMENT ON VIEW bloodcell.class_evaluation IS
    'How well a model performs on each class of a hold-out. Each cell counts with its most probable class, with exact '
    'intervals as if cells were independent; the columns called_ are about the calls, with intervals over patients.';
COMMENT ON COLUMN bloodcell.class_evaluation.dataset_digest IS 'Snapshot whose hold-out it was evaluated on.';
COMMENT ON COLUMN bloodcell.class_evaluation.class IS 'One of the eight cell classes.';
COMMENT ON COLUMN bloodcell.class_evaluation.n_cells IS 'Cells of the class by their labels.';
COMMENT ON COLUMN bloodcell.class_evaluation.n_patients IS 'Patients of the whole hold-out.';
COMMENT ON COLUMN bloodcell.class_evaluation.sensitivity IS 'Of the cells of the class, the share found, 0 to 1.';
COMMENT ON COLUMN bloodcell.class_evaluation.sensitivity_lower_95 IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.class_evaluation.sensitivity_upper_95 IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.class_evaluation.precision IS 'Of the cells called so, the share that is right, 0 to 1.';
COMMENT ON COLUMN bloodcell.class_evaluation.precision_lower_95 IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.class_evaluation.precision_upper_95 IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.class_evaluation.specificity IS
    'Of the cells of other classes, the share not called so, 0 to 1.';
COMMENT ON COLUMN bloodcell.class_evaluation.f1 IS 'Harmonic mean of sensitivity and precision, 0 to 1.';
COMMENT ON COLUMN bloodcell.class_evaluation.n_unclassified IS 'Of n_cells, those that would be left unclassified.';
COMMENT ON COLUMN bloodcell.class_evaluation.evaluated_at IS 'When it was evaluated.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_sensitivity IS
    'Of the cells of the class with a call, the share called so, 0 to 1; empty before schema 0011.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_sensitivity_lower_95 IS 'Lower end of its 95 % interval, over patients.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_sensitivity_upper_95 IS 'Upper end of its 95 % interval, over patients.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_precision IS
    'Of the cells called so, the share that is right, 0 to 1; empty before schema 0011.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_precision_lower_95 IS 'Lower end of its 95 % interval, over patients.';
COMMENT ON COLUMN bloodcell.class_evaluation.called_precision_upper_95 IS 'Upper end of its 95 % interval, over patients.';

-- Rows from before schema 0004 call the threshold limit.
CREATE VIEW bloodcell.model_gate AS
SELECT v.validation_id, v.validated_at, v.training_run_id, v.model_id, v.champion_id, v.dataset_digest,
       g ->> 'gate' AS gate, (g ->> 'passed')::boolean AS passed, (g ->> 'measured')::double precision AS measured,
       coalesce(g ->> 'threshold', g ->> 'limit')::double precision AS threshold, g ->> 'reason' AS reason, v.report
FROM bloodcell.validation v CROSS JOIN LATERAL jsonb_array_elements(v.gates) g;

COMMENT ON VIEW bloodcell.model_gate IS
    'One row per validation and gate. A model whose newest validation failed a gate cannot be promoted, not even in SQL.';
COMMENT ON COLUMN bloodcell.model_gate.validation_id IS 'The validation.';
COMMENT ON COLUMN bloodcell.model_gate.validated_at IS 'When the model was validated.';
COMMENT ON COLUMN bloodcell.model_gate.training_run_id IS 'Retraining it belongs to; empty where it was started by hand.';
COMMENT ON COLUMN bloodcell.model_gate.champion_id IS 'Champion that the model was compared with.';
COMMENT ON COLUMN bloodcell.model_gate.dataset_digest IS 'Snapshot whose hold-out it was validated on.';
COMMENT ON COLUMN bloodcell.model_gate.gate IS 'Name of the gate.';
COMMENT ON COLUMN bloodcell.model_gate.passed IS 'Whether the model passed it.';
COMMENT ON COLUMN bloodcell.model_gate.measured IS 'What was measured; empty where nothing could be measured.';
COMMENT ON COLUMN bloodcell.model_gate.threshold IS 'What measured is compared with; empty where there is no such number.';
COMMENT ON COLUMN bloodcell.model_gate.reason IS 'The result in a sentence.';

CREATE VIEW bloodcell.lockbox_history AS
SELECT o.opened_at, o.model_id, m.variant, o.champion_id, o.dataset_digest, o.n_cells, o.n_patients, o.accuracy,
       o.champion_accuracy, o.difference, o.lower AS lower_95, o.upper AS upper_95, o.passed, o.reason, o.run_id
FROM bloodcell.lockbox_opening o JOIN bloodcell.model m USING (model_id);

COMMENT ON VIEW bloodcell.lockbox_history IS
    'Every time the lockbox was opened: for a candidate that passed its gates and that a person approved. A model that it '
    'contradicts cannot be promoted, not even in SQL.';
COMMENT ON COLUMN bloodcell.lockbox_history.opened_at IS 'When it was opened.';
COMMENT ON COLUMN bloodcell.lockbox_history.model_id IS 'The candidate.';
COMMENT ON COLUMN bloodcell.lockbox_history.champion_id IS 'Champion that the candidate was compared with.';
COMMENT ON COLUMN bloodcell.lockbox_history.dataset_digest IS 'Snapshot whose lockbox was opened.';
COMMENT ON COLUMN bloodcell.lockbox_history.n_cells IS 'Cells of the lockbox.';
COMMENT ON COLUMN bloodcell.lockbox_history.n_patients IS 'Patients of the lockbox.';
COMMENT ON COLUMN bloodcell.lockbox_history.accuracy IS 'Accuracy of the candidate, 0 to 1.';
COMMENT ON COLUMN bloodcell.lockbox_history.champion_accuracy IS 'Accuracy of the champion.';
COMMENT ON COLUMN bloodcell.lockbox_history.difference IS 'Candidate minus champion.';
COMMENT ON COLUMN bloodcell.lockbox_history.lower_95 IS 'Lower end of its 95 % interval, over patients.';
COMMENT ON COLUMN bloodcell.lockbox_history.upper_95 IS 'Upper end of its 95 % interval, over patients.';
COMMENT ON COLUMN bloodcell.lockbox_history.passed IS 'false where the lockbox contradicts the gates.';
COMMENT ON COLUMN bloodcell.lockbox_history.reason IS 'The result in a sentence.';

CREATE VIEW bloodcell.champion_check AS
SELECT k.checked_at, k.model_id, m.variant, k.kind, k.class, k.n_cells, k.measured, k.lower AS lower_95,
       k.upper AS upper_95, k.threshold, k.passed, k.reason, k.since_night, k.until_night, k.until_label_id, k.run_id
FROM bloodcell.model_check k JOIN bloodcell.model m USING (model_id);

COMMENT ON VIEW bloodcell.champion_check IS
    'The nightly check of the champion, one row per figure: agreement with new labels, and drift of its calls.';
COMMENT ON COLUMN bloodcell.champion_check.checked_at IS 'When the check was made.';
COMMENT ON COLUMN bloodcell.champion_check.kind IS
    'Against blind readings of the random sample: agreement (of cells with a call, those called as labelled), precision (of '
    'cells called so, those labelled so), unclassified (share without a call), out_of_scope (of cells labelled out of scope, '
    'the share without a call). Against the validation images: class_mix, confidence, novelty (population stability index), '
    'embedding (squared maximum mean discrepancy); 0 is no drift. Before schema 0011, agreement was with any new label, and '
    'blind_agreement with those read blind.';
COMMENT ON COLUMN bloodcell.champion_check.class IS 'Class that the figure is about; empty for all classes.';
COMMENT ON COLUMN bloodcell.champion_check.n_cells IS 'Cells that the figure is based on.';
COMMENT ON COLUMN bloodcell.champion_check.measured IS
    'The figure; empty where there was too little data, which counts at the next check.';
COMMENT ON COLUMN bloodcell.champion_check.lower_95 IS 'Lower end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.champion_check.upper_95 IS 'Upper end of its 95 % interval.';
COMMENT ON COLUMN bloodcell.champion_check.threshold IS
    'What measured is compared with; empty where the figure is only for information.';
COMMENT ON COLUMN bloodcell.champion_check.passed IS 'false where the whole interval is beyond the threshold.';
COMMENT ON COLUMN bloodcell.champion_check.reason IS 'The result in a sentence.';
COMMENT ON COLUMN bloodcell.champion_check.since_night IS 'First night that a drift figure covers.';
COMMENT ON COLUMN bloodcell.champion_check.until_night IS 'Last night that a drift figure covers.';
COMMENT ON COLUMN bloodcell.champion_check.until_label_id IS 'Newest label at the time of the check.';

CREATE VIEW bloodcell.checked_label AS
SELECT x.model_id, m.variant, s.barcode, c.night, c.file_name, x.cell_id, x.class, x.called_class,
       CASE WHEN x.class IS NULL THEN x.called_class = 'unclassified'
            WHEN x.called_class <> 'unclassified' THEN x.class = x.called_class END AS is_agreed,
       x.is_blind, x.is_training, x.label_id, l.labelled_by, l.labelled_at, r.started_at AS checked_at, x.run_id,
       s.withdrawn_at
FROM bloodcell.checked_cell x
JOIN bloodcell.model m USING (model_id)
JOIN bloodcell.cell c USING (cell_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.label l USING (label_id)
JOIN bloodcell.run r ON r.run_id = x.run_id;

COMMENT ON VIEW bloodcell.checked_label IS
    'Labelled cells that a champion''s call was compared with, once for each champion.';
COMMENT ON COLUMN bloodcell.checked_label.called_class IS 'What the champion called the cell, or unclassified.';
COMMENT ON COLUMN bloodcell.checked_label.is_agreed IS
    'Whether call and label agree; for a label out of scope, whether the cell is unclassified; empty for a cell in scope '
    'without a call.';
COMMENT ON COLUMN bloodcell.checked_label.is_training IS
    'Whether the model was trained on the image; such cells do not count.';
COMMENT ON COLUMN bloodcell.checked_label.checked_at IS 'When the comparison was made.';
COMMENT ON COLUMN bloodcell.checked_label.withdrawn_at IS
    'When the slide was withdrawn, which changes no comparison that was made; empty while the slide stands.';
