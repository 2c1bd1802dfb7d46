-- How good a model is on each class of its newest hold-out, with 95 % limits.
--
-- Who asks: the pathologist who has to approve a model, or to rely on it.
-- Set: model (id or its beginning; default: the champion)
-- Read: in percent, each cell given its most probable class. sensitivity: of the cells that are of the class, those found;
--   precision: of the cells called so, those that are; n_unclassified of them would be left to a person. Limits are exact
--   binomial ones, as if cells were independent: few patients make them too narrow. Nothing: never validated.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.champion), '') AS model \gset
\endif

WITH newest AS (
    SELECT DISTINCT ON (model_id) * FROM bloodcell.model_evaluation
    WHERE starts_with(model_id, :'model') ORDER BY model_id, evaluated_at DESC
)
SELECT left(n.model_id, 12) AS model, n.variant, n.n_patients, g ->> 'group' AS class, (g ->> 'n_true')::int AS n_cells,
       round(100 * (g #>> '{sensitivity,value}')::numeric, 1) AS sensitivity,
       round(100 * (g #>> '{sensitivity,lower}')::numeric, 1) AS sensitivity_lower_95,
       round(100 * (g #>> '{sensitivity,upper}')::numeric, 1) AS sensitivity_upper_95,
       round(100 * (g #>> '{precision,value}')::numeric, 1) AS precision,
       round(100 * (g #>> '{precision,lower}')::numeric, 1) AS precision_lower_95,
       round(100 * (g #>> '{precision,upper}')::numeric, 1) AS precision_upper_95,
       round(100 * (g #>> '{specificity,value}')::numeric, 1) AS specificity,
       round((g ->> 'f1')::numeric, 3) AS f1, (g ->> 'n_unclassified')::int AS n_unclassified
FROM newest n CROSS JOIN LATERAL jsonb_array_elements(n.figures -> 'groups') g
ORDER BY n.model_id, class;
