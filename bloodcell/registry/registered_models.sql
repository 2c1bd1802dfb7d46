-- name: models
SELECT m.model_id, m.variant, coalesce(s.role, 'idle') AS role, m.created_at, m.registered_at, m.registered_by,
       (SELECT count(*) FROM bloodcell.promotion p WHERE p.model_id = m.model_id) AS n_promotions,
       m.confidence_threshold, m.novelty_threshold, m.manifest, named.title
FROM bloodcell.model m JOIN bloodcell.registered_model named USING (model_id) LEFT JOIN bloodcell.serving_model s USING (model_id)
WHERE starts_with(m.model_id, :prefix) AND (s.role IS NOT NULL OR NOT :only_serving)
ORDER BY m.registered_at DESC, m.model_id
