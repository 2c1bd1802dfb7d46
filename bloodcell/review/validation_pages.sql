-- name: gates
-- The gates of the newest validation of a model.
SELECT g.gate, g.passed, g.measured, g.threshold, g.reason, g.validated_at, g.champion_id, g.dataset_digest
FROM bloodcell.model_gate g
WHERE g.model_id = :model_id AND g.validation_id = (
    SELECT n.validation_id FROM bloodcell.model_gate n WHERE n.model_id = :model_id
    ORDER BY n.validated_at DESC, n.validation_id LIMIT 1)
ORDER BY g.passed, g.gate

-- name: origin
SELECT r.variant, r.requested_by, r.triggered_by, r.reason, r.requested_at, r.state, r.state_reason, r.holdout_accuracy,
       r.champion_holdout_accuracy, r.decided_by, r.decided_at, r.decision, r.decision_reason, r.airflow_run
FROM bloodcell.retraining r WHERE r.model_id = :model_id ORDER BY r.requested_at DESC LIMIT 1

-- name: page
SELECT g.report FROM bloodcell.model_gate g WHERE g.model_id = :model_id
ORDER BY g.validated_at DESC, g.validation_id LIMIT 1
