-- name: models
SELECT r.model_id, r.variant, r.role, r.created_at, r.registered_at, r.registered_by,
       (SELECT count(*) FROM bloodcell.promotion p WHERE p.model_id = r.model_id) AS n_promotions,
       r.confidence_threshold, r.novelty_threshold, m.manifest, r.title
FROM bloodcell.registered_model r JOIN bloodcell.model m USING (model_id)
WHERE starts_with(r.model_id, :prefix) AND (r.role <> 'idle' OR NOT :only_serving)
ORDER BY r.registered_at DESC, r.model_id
