-- How the champion calls the cells that the analyser has pre-classified: a table of both, in cells.
--
-- Who asks: the laboratory's quality manager; the person who validates a model.
-- Set: since (first night, default 30 days ago)
-- Read: each row is a class of the analyser; percent_of_row is the share of its cells that the model called called_class.
--   The analyser is not a reference: where the two differ, either may be right. Cells with a code out of scope (blast,
--   smudge ...) are left out.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT analyser_class, called_class, sum(n_cells) AS n_cells,
       round(100 * sum(n_cells) / sum(sum(n_cells)) OVER (PARTITION BY analyser_class), 1) AS percent_of_row
FROM bloodcell.analyser_agreement
WHERE night >= :'since'::date
GROUP BY analyser_class, called_class
ORDER BY analyser_class, n_cells DESC, called_class;
