-- Retraining by week: labels, hold-out accuracy of candidate and champion, gates, and who decided.
--
-- Who asks: the head of the laboratory; the auditor.
-- Set: since (first day, default a year ago)
-- Read: one row per candidate, or one without a model where the retraining ended earlier. The snapshot had n_labelled
--   images, n_holdout of them in the hold-out. Accuracies are in percent on the same hold-out cells; gain is their
--   difference in points. gates: passed, or the names of those that failed (query 27 says why). outcome explains state.
\if :{?since}
\else
SELECT current_date - 365 AS since \gset
\endif

WITH failed AS (
    SELECT training_run_id, model_id, string_agg(gate, ', ' ORDER BY gate) AS gates
    FROM bloodcell.model_gate WHERE NOT passed GROUP BY training_run_id, model_id
)
SELECT date_trunc('week', r.requested_at)::date AS week, r.requested_at, r.variant, left(r.model_id, 12) AS model,
       s.n_training + s.n_validation + s.n_holdout AS n_labelled, s.n_training, s.n_holdout,
       round(100 * r.champion_holdout_accuracy, 2) AS champion_accuracy,
       round(100 * r.holdout_accuracy, 2) AS candidate_accuracy,
       round(100 * (r.holdout_accuracy - r.champion_holdout_accuracy), 2) AS gain,
       CASE WHEN r.gates_passed THEN 'passed' ELSE f.gates END AS gates, r.state, r.decision, r.decided_by, r.requested_by,
       r.state_reason AS outcome, left(r.training_run_id::text, 8) AS retraining
FROM bloodcell.retraining r
LEFT JOIN bloodcell.training_set s USING (dataset_digest)
LEFT JOIN failed f ON f.training_run_id = r.training_run_id AND f.model_id = r.model_id
WHERE r.requested_at >= :'since'::date
ORDER BY r.requested_at, r.variant;
