-- The share of cells that each model left unclassified, by night.
--
-- Who asks: the quality manager. A rise means a new stain, a new camera, or cells that the model never saw.
-- Set: since (first night, default 30 days ago)
-- Read: percent_unclassified of all cells; percent_novel and percent_low_confidence split it by reason. reported t: the
--   model whose calls were reported; f: a challenger.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT night, variant, left(model_id, 12) AS model, is_reported AS reported, n_cells,
       round(100 * n_unclassified / n_cells, 2) AS percent_unclassified,
       round(100 * n_novel / n_cells, 2) AS percent_novel,
       round(100 * n_low_confidence / n_cells, 2) AS percent_low_confidence,
       round(mean_confidence::numeric, 3) AS mean_confidence, round(mean_novelty::numeric, 2) AS mean_novelty
FROM bloodcell.night_calls
WHERE night >= :'since'::date
ORDER BY night DESC, is_reported DESC, variant;
