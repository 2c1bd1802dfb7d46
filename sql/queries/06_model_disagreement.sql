-- Where a shadow model calls otherwise than the champion, in pairs of classes.
--
-- Who asks: whoever decides about the next champion.
-- Set: since (first night, default 30 days ago)
-- Read: n_cells the champion called reported_class and the shadow shadow_class; n_confident of these with both above
--   0.9, which is where one of the two has learnt something wrong.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT shadow_variant, left(shadow_model_id, 12) AS shadow_model, reported_class, shadow_class, count(*) AS n_cells,
       count(*) FILTER (WHERE 'unclassified' NOT IN (reported_class, shadow_class) AND reported_confidence > 0.9
                        AND shadow_confidence > 0.9) AS n_confident,
       count(DISTINCT barcode) AS n_slides
FROM bloodcell.model_disagreement
WHERE night >= :'since'::date
GROUP BY shadow_variant, shadow_model_id, reported_class, shadow_class
ORDER BY n_cells DESC, shadow_variant, reported_class, shadow_class;
