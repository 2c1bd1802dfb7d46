-- Which model was champion when, promoted by whom, why, and trained on which data.
--
-- Who asks: the auditor; anyone who compares results across a date.
-- Set: nothing
-- Read: a slide keeps the report of the champion of its time. champion_until empty: still champion. dataset: digest of
--   the training images and their labels. approved_by, n_gates (all passed) and report belong to a model from a
--   retraining; the view model_history has all of its evidence.
SELECT promotion_id, action, variant, left(model_id, 12) AS model, promoted_at, champion_until, promoted_by, reason,
       left(dataset_digest, 12) AS dataset, code_version, approved_by, jsonb_array_length(gates) AS n_gates,
       left(training_run_id, 8) AS retraining, report
FROM bloodcell.model_history
ORDER BY promotion_id;
