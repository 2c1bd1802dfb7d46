-- Where a challenger calls differently from the champion, by pair of classes.
--
-- Who asks: the person who decides about the next champion.
-- Set: since (first night, default 30 days ago)
-- Read: the champion called n_cells cells reported_class, and the challenger called the same cells challenger_class. For
--   n_confident of them both confidences are above 0.9: one of the two has learnt something wrong.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT challenger_variant, left(challenger_model_id, 12) AS challenger_model, reported_class, challenger_class,
       count(*) AS n_cells,
       count(*) FILTER (WHERE 'unclassified' NOT IN (reported_class, challenger_class) AND reported_confidence > 0.9
                        AND challenger_confidence > 0.9) AS n_confident,
       count(DISTINCT barcode) AS n_slides
FROM bloodcell.model_disagreement
WHERE night >= :'since'::date
GROUP BY challenger_variant, challenger_model_id, reported_class, challenger_class
ORDER BY n_cells DESC, challenger_variant, reported_class, challenger_class;
