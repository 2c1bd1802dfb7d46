-- Retraining week by week: labels, hold-out accuracy of candidate and champion, gates, who let it in.
--
-- Who asks: the head of the laboratory; the auditor.
-- Set: since (first day, default a year ago)
-- Read: a row a candidate, or one without a model where the retraining ended before. n_labelled images were in the
--   snapshot, n_holdout of them judged. Accuracies in percent on the same hold-out cells; gained is the difference in
--   points. gates: passed, or the names of those that failed (query 27 says why). answer, by whom; outcome says the rest.
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
       round(100 * (r.holdout_accuracy - r.champion_holdout_accuracy), 2) AS gained,
       CASE WHEN r.gates_passed THEN 'passed' ELSE f.gates END AS gates, r.state, r.answer, r.answered_by, r.requested_by,
       r.state_reason AS outcome, left(r.training_run_id::text, 8) AS retraining
FROM bloodcell.retraining r
LEFT JOIN bloodcell.training_set s USING (dataset_digest)
LEFT JOIN failed f ON f.training_run_id = r.training_run_id AND f.model_id = r.model_id
WHERE r.requested_at >= :'since'::date
ORDER BY r.requested_at, r.variant;
