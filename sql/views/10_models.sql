-- The model whose calls are reported: the last row of promotion.
CREATE VIEW bloodcell.champion AS
SELECT m.model_id, m.variant, p.promoted_at, p.promoted_by, p.reason, p.action, p.promotion_id
FROM bloodcell.promotion p JOIN bloodcell.model m USING (model_id)
ORDER BY p.promotion_id DESC LIMIT 1;
COMMENT ON VIEW bloodcell.champion IS 'The one model whose calls are reported; empty until a model was promoted.';

-- Whose calls a night gets: the champion, and beside it the newest model of each other variant that no gate refused.
CREATE VIEW bloodcell.serving_model AS
SELECT c.model_id, c.variant, 'champion' AS role FROM bloodcell.champion c
UNION ALL
(SELECT DISTINCT ON (m.variant) m.model_id, m.variant, 'challenger'
 FROM bloodcell.model m CROSS JOIN bloodcell.champion c
 WHERE m.variant <> c.variant
   AND coalesce((SELECT v.passed FROM bloodcell.validation v WHERE v.model_id = m.model_id
                 ORDER BY v.validated_at DESC, v.validation_id LIMIT 1), true)
 ORDER BY m.variant, m.registered_at DESC, m.model_id);
COMMENT ON VIEW bloodcell.serving_model IS 'Models that classify a night: the champion, and a challenger of each other variant.';

CREATE VIEW bloodcell.registered_model AS
SELECT m.model_id, m.variant, coalesce(s.role, 'idle') AS role, m.confidence_threshold, m.novelty_threshold,
       (m.manifest #>> '{metrics,accuracy}')::double precision AS validation_accuracy,
       (m.manifest #>> '{data,n_training}')::integer AS n_training_images,
       m.manifest #>> '{data,dataset_digest}' AS dataset_digest, m.manifest ->> 'code_version' AS code_version,
       m.created_at, m.registered_at, m.registered_by
FROM bloodcell.model m LEFT JOIN bloodcell.serving_model s USING (model_id);
COMMENT ON VIEW bloodcell.registered_model IS
    'Every model there is, with its role (champion, challenger, idle), thresholds, and what it was trained on.';

CREATE VIEW bloodcell.model_history AS
SELECT p.promotion_id, p.action, p.promoted_at, p.promoted_by, p.reason, p.evidence, m.model_id, m.variant,
       m.created_at, m.registered_at, m.registered_by, m.manifest #>> '{data,dataset_digest}' AS dataset_digest,
       m.manifest ->> 'code_version' AS code_version,
       lead(p.promoted_at) OVER (ORDER BY p.promotion_id) AS champion_until,
       p.evidence ->> 'training_run_id' AS training_run_id, p.evidence #>> '{approval,by}' AS approved_by,
       p.evidence #>> '{approval,at}' AS approved_at, p.evidence -> 'gates' AS gates, p.evidence ->> 'report' AS report
FROM bloodcell.promotion p JOIN bloodcell.model m USING (model_id);
COMMENT ON VIEW bloodcell.model_history IS 'Every champion there was: from when to when, who let it in, why, made from which data.';

-- A slide is reported with the calls of the model that was champion when they were added up: of those that called all of
-- it, the one made champion last by then. So an old slide keeps its report when a challenger that called it is promoted.
CREATE VIEW bloodcell.slide_reported_model AS
SELECT s.slide_id, reported.model_id
FROM bloodcell.slide s
CROSS JOIN LATERAL (
    SELECT r.model_id FROM bloodcell.slide_report r JOIN bloodcell.promotion p USING (model_id)
    WHERE r.slide_id = s.slide_id AND p.promoted_at <= r.written_at ORDER BY p.promotion_id DESC LIMIT 1
) reported;
COMMENT ON VIEW bloodcell.slide_reported_model IS 'Which model''s calls are reported for a slide.';
