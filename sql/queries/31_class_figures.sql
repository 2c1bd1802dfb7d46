-- How well a model performs on each class of its newest hold-out, with 95 % intervals.
--
-- Who asks: the pathologist who has to approve a model, or to rely on it.
-- Set: model (id or its first characters; default: the champion)
-- Read: in percent. The called figures are about the calls, with intervals over patients: sensitivity: of the cells of the
--   class with a call, those called so; precision: of the cells called so, those that are right. top_sensitivity counts
--   each cell with its most probable class. n_unclassified of n_cells would be left to a person. Empty: no such cells, or
--   validated before schema 0011. No rows: never validated.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.champion), '') AS model \gset
\endif

SELECT left(model_id, 12) AS model, variant, n_patients, class, n_cells, n_unclassified,
       round(100 * called_sensitivity::numeric, 1) AS sensitivity,
       round(100 * called_sensitivity_lower_95::numeric, 1) AS sensitivity_lower_95,
       round(100 * called_sensitivity_upper_95::numeric, 1) AS sensitivity_upper_95,
       round(100 * called_precision::numeric, 1) AS precision,
       round(100 * called_precision_lower_95::numeric, 1) AS precision_lower_95,
       round(100 * called_precision_upper_95::numeric, 1) AS precision_upper_95,
       round(100 * sensitivity::numeric, 1) AS top_sensitivity
FROM (
    SELECT *, max(evaluated_at) OVER (PARTITION BY model_id) AS newest_at FROM bloodcell.class_evaluation
    WHERE starts_with(model_id, :'model')
) evaluated
WHERE evaluated_at = newest_at
ORDER BY model_id, class;
