-- Agreement between analyser and champion beyond chance, by night and overall: Cohen's kappa.
--
-- Who asks: the quality manager, as a control chart. A fall points to the stain, the analyser or the model.
-- Set: since (first night, default 30 days ago)
-- Read: agreement is the share of cells called alike; expected is what chance would give with these shares of classes;
--   kappa = (agreement - expected) / (1 - expected): 1 is perfect, 0 is chance. Unclassified cells are left out. The
--   last row, without a night, covers all nights.
-- Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960)
--   37-46.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

WITH called AS (
    SELECT night, analyser_class, called_class, n_cells
    FROM bloodcell.analyser_agreement
    WHERE night >= :'since'::date AND called_class <> 'unclassified'
), tables AS (
    SELECT night, analyser_class, called_class, n_cells FROM called
    UNION ALL
    SELECT NULL, analyser_class, called_class, n_cells FROM called
), totals AS (
    SELECT night, sum(n_cells) AS n, sum(n_cells) FILTER (WHERE analyser_class = called_class) AS n_agree
    FROM tables GROUP BY night
), by_analyser AS (
    SELECT night, analyser_class AS class, sum(n_cells) AS n FROM tables GROUP BY night, analyser_class
), by_model AS (
    SELECT night, called_class AS class, sum(n_cells) AS n FROM tables GROUP BY night, called_class
), chance AS (
    SELECT a.night, sum(a.n * m.n) AS n_pairs
    FROM by_analyser a JOIN by_model m ON m.class = a.class AND m.night IS NOT DISTINCT FROM a.night
    GROUP BY a.night
), shares AS (
    SELECT t.night, t.n, coalesce(t.n_agree, 0) / t.n AS agreement, coalesce(c.n_pairs, 0) / (t.n * t.n) AS expected
    FROM totals t LEFT JOIN chance c ON c.night IS NOT DISTINCT FROM t.night
)
SELECT night, n AS n_cells, round(agreement, 4) AS agreement, round(expected, 4) AS expected,
       round((agreement - expected) / nullif(1 - expected, 0), 4) AS kappa
FROM shares
ORDER BY night NULLS LAST;
