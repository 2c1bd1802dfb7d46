-- The share of each leucocyte class in a night, over all its slides: the moving average of patients.
--
-- Who asks: the quality manager, as a control chart. The patients change every night, but a laboratory's mean hardly does:
--   a step comes from the stain, the analyser, or a new champion.
-- Set: since (first night, default 30 days ago)
-- Read: percentages of all leucocytes on the slides that began in the night, and the number of those slides and cells, as
--   their results count them: people's labels decide before calls. other: leucocytes with a code out of scope (blasts, variant
--   lymphocytes).
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT night, count(DISTINCT barcode) AS n_slides, sum(n_cells) AS n_leucocytes,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'neutrophil') / nullif(sum(n_cells), 0), 2) AS neutrophil,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'eosinophil') / nullif(sum(n_cells), 0), 2) AS eosinophil,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'basophil') / nullif(sum(n_cells), 0), 2) AS basophil,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'lymphocyte') / nullif(sum(n_cells), 0), 2) AS lymphocyte,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'monocyte') / nullif(sum(n_cells), 0), 2) AS monocyte,
       round(100.0 * sum(n_cells) FILTER (WHERE class = 'ig') / nullif(sum(n_cells), 0), 2) AS ig,
       round(100.0 * coalesce(sum(n_cells) FILTER (WHERE class NOT IN ('neutrophil', 'eosinophil', 'basophil', 'lymphocyte',
                                                                       'monocyte', 'ig')), 0)
             / nullif(sum(n_cells), 0), 2) AS other
FROM bloodcell.slide_differential
WHERE is_reported AND night >= :'since'::date AND percentage IS NOT NULL
GROUP BY night
ORDER BY night DESC;
