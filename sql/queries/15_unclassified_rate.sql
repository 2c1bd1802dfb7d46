-- The share of cells that each model left unclassified, a night.
--
-- Who asks: the quality manager: a rise means a new stain, a new camera, or cells the model never saw.
-- Set: since (first night, default 30 days ago)
-- Read: percent_unclassified of all cells called; novel and low_confidence split it by reason. reported t: the model
--   whose calls were reported; f: a shadow.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT night, variant, left(model_id, 12) AS model, is_reported AS reported, count(*) AS n_cells,
       round(100.0 * count(*) FILTER (WHERE called_class = 'unclassified') / count(*), 2) AS percent_unclassified,
       round(100.0 * count(*) FILTER (WHERE unclassified_reason = 'novel') / count(*), 2) AS percent_novel,
       round(100.0 * count(*) FILTER (WHERE unclassified_reason = 'low_confidence') / count(*), 2)
           AS percent_low_confidence,
       round(avg(confidence)::numeric, 3) AS mean_confidence, round(avg(novelty)::numeric, 2) AS mean_novelty
FROM bloodcell.cell_result
WHERE night >= :'since'::date
GROUP BY night, variant, model_id, is_reported
ORDER BY night DESC, is_reported DESC, variant;
