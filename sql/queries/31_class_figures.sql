-- How well a model performs on each class of its newest hold-out, with 95 % intervals.
--
-- Who asks: the pathologist who has to approve a model, or to rely on it.
-- Set: model (id or its first characters; default: the champion)
-- Read: in percent; each cell counts with its most probable class. sensitivity: of the cells of the class, those found;
--   precision: of the cells given this class, those that are right; n_unclassified of n_cells would be left to a person.
--   Intervals are exact binomial, as if cells were independent: with few patients they are too narrow. No rows: never
--   validated.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.champion), '') AS model \gset
\endif

SELECT left(model_id, 12) AS model, variant, n_patients, class, n_cells,
       round(100 * sensitivity::numeric, 1) AS sensitivity,
       round(100 * sensitivity_lower_95::numeric, 1) AS sensitivity_lower_95,
       round(100 * sensitivity_upper_95::numeric, 1) AS sensitivity_upper_95,
       round(100 * precision::numeric, 1) AS precision,
       round(100 * precision_lower_95::numeric, 1) AS precision_lower_95,
       round(100 * precision_upper_95::numeric, 1) AS precision_upper_95,
       round(100 * specificity::numeric, 1) AS specificity, round(f1::numeric, 3) AS f1, n_unclassified
FROM (
    SELECT *, max(evaluated_at) OVER (PARTITION BY model_id) AS newest_at FROM bloodcell.class_evaluation
    WHERE starts_with(model_id, :'model')
) evaluated
WHERE evaluated_at = newest_at
ORDER BY model_id, class;
