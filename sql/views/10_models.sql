-- The newest promotion names the champion.
CREATE VIEW bloodcell.champion AS
SELECT m.model_id, m.variant, p.promoted_at, p.promoted_by, p.reason, p.action, p.promotion_id
FROM bloodcell.promotion p JOIN bloodcell.model m USING (model_id)
ORDER BY p.promotion_id DESC LIMIT 1;

COMMENT ON VIEW bloodcell.champion IS 'The one model whose calls are reported. Empty until a model has been promoted.';

-- Every candidate is compared with it, too: many small losses, each within what the gates allow, would add up.
CREATE VIEW bloodcell.anchor_model AS
SELECT m.model_id, m.variant, p.promoted_at, p.promotion_id
FROM bloodcell.promotion p JOIN bloodcell.model m USING (model_id)
WHERE p.action = 'promote' AND NOT p.evidence ? 'shipped'
  AND NOT EXISTS (SELECT 1 FROM bloodcell.promotion r WHERE r.action = 'rollback' AND r.evidence ->> 'replaces' = p.model_id)
ORDER BY p.promotion_id LIMIT 1;

COMMENT ON VIEW bloodcell.anchor_model IS
    'The first champion that a person chose and that was not rolled back. Every candidate is compared with it. Empty until then.';

-- The champion, and beside it the newest model of each other variant unless its newest validation failed a gate, or its
-- laboratory must not use it. A committee, and a copy that averages over turns, cost several passes: they run only as champion.
CREATE VIEW bloodcell.serving_model AS
SELECT c.model_id, c.variant, 'champion' AS role FROM bloodcell.champion c
UNION ALL
(SELECT DISTINCT ON (m.variant) m.model_id, m.variant, 'challenger'
 FROM bloodcell.model m CROSS JOIN bloodcell.champion c
 WHERE m.variant <> c.variant
   AND coalesce(m.manifest ->> 'turns', '1') = '1'
   AND jsonb_array_length(coalesce(m.manifest #> '{site,members}', '[]')) = 0
   AND coalesce(m.manifest #>> '{site,may_be_used}', 'true') = 'true'
   AND coalesce((SELECT v.passed FROM bloodcell.validation v WHERE v.model_id = m.model_id
                 ORDER BY v.validated_at DESC, v.validation_id LIMIT 1), true)
 ORDER BY m.variant, m.registered_at DESC, m.model_id);

COMMENT ON VIEW bloodcell.serving_model IS
    'The models that classify a night: the champion, and one challenger of each other variant.';
COMMENT ON COLUMN bloodcell.serving_model.role IS 'champion or challenger.';

CREATE VIEW bloodcell.registered_model AS
SELECT m.model_id, m.variant, coalesce(s.role, 'idle') AS role, m.confidence_threshold, m.novelty_threshold,
       (m.manifest #>> '{metrics,accuracy}')::double precision AS validation_accuracy,
       (m.manifest #>> '{data,n_training}')::integer AS n_training_images,
       m.manifest #>> '{data,dataset_digest}' AS dataset_digest, m.manifest ->> 'code_version' AS code_version,
       m.created_at, m.registered_at, m.registered_by,
       coalesce((SELECT string_agg(member, ' + ' ORDER BY nth)
                 FROM jsonb_array_elements_text(m.manifest #> '{site,members}') WITH ORDINALITY AS members(member, nth)),
                m.variant)
       || coalesce(', ' || nullif(m.manifest ->> 'turns', '1') || ' turns', '') AS title
FROM bloodcell.model m LEFT JOIN bloodcell.serving_model s USING (model_id);

COMMENT ON VIEW bloodcell.registered_model IS
    'Every registered model with its role, its thresholds, and what it was trained on.';
COMMENT ON COLUMN bloodcell.registered_model.role IS 'champion, challenger or idle.';
COMMENT ON COLUMN bloodcell.registered_model.validation_accuracy IS
    'Accuracy on the validation images, 0 to 1; the same images chose the thresholds.';
COMMENT ON COLUMN bloodcell.registered_model.n_training_images IS 'Images the model was trained on.';
COMMENT ON COLUMN bloodcell.registered_model.title IS
    'What it is called in lists: its variant, or those of a committee''s members, and the turned images it averages over.';

CREATE VIEW bloodcell.model_history AS
SELECT p.promotion_id, p.action, p.promoted_at, p.promoted_by, p.reason, p.evidence, m.model_id, m.variant,
       m.created_at, m.registered_at, m.registered_by, m.manifest #>> '{data,dataset_digest}' AS dataset_digest,
       m.manifest ->> 'code_version' AS code_version,
       lead(p.promoted_at) OVER (ORDER BY p.promotion_id) AS champion_until,
       p.evidence ->> 'training_run_id' AS training_run_id, p.evidence #>> '{approval,by}' AS approved_by,
       p.evidence #>> '{approval,at}' AS approved_at, p.evidence -> 'gates' AS gates, p.evidence ->> 'report' AS report,
       p.recorded_by
FROM bloodcell.promotion p JOIN bloodcell.model m USING (model_id);

COMMENT ON VIEW bloodcell.model_history IS
    'Every model that has been champion: from when to when, promoted by whom, why, and trained on which data.';
COMMENT ON COLUMN bloodcell.model_history.recorded_by IS 'Login that wrote the row; empty before schema 0005.';
COMMENT ON COLUMN bloodcell.model_history.evidence IS 'What the decision rested on, as JSON.';
COMMENT ON COLUMN bloodcell.model_history.champion_until IS 'When the next champion took over; empty for the present one.';
COMMENT ON COLUMN bloodcell.model_history.training_run_id IS
    'Retraining that produced the model; empty where it was promoted by hand.';
COMMENT ON COLUMN bloodcell.model_history.approved_by IS 'Person who approved the retraining''s candidate.';
COMMENT ON COLUMN bloodcell.model_history.approved_at IS 'When that person approved it.';
COMMENT ON COLUMN bloodcell.model_history.gates IS 'Gates that the candidate passed, as JSON; see model_gate.';
