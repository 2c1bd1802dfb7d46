-- Who was champion when, let in by whom, why, and made from which data.
--
-- Who asks: the auditor; anyone who compares results across a date.
-- Set: nothing
-- Read: a slide keeps the report of the champion of its time. champion_until empty: still champion. dataset: digest of
--   the training images and their labels. approved_by, n_gates (all passed) and report: of one that came by a
--   retraining; the view has all of its evidence.
SELECT promotion_id, action, variant, left(model_id, 12) AS model, promoted_at, champion_until, promoted_by, reason,
       left(dataset_digest, 12) AS dataset, code_version, approved_by, jsonb_array_length(gates) AS n_gates,
       left(training_run_id, 8) AS retraining, report
FROM bloodcell.model_history
ORDER BY promotion_id;
