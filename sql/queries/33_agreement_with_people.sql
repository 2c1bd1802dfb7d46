-- Labels against the champion's calls: a table of both, in cells.
--
-- Who asks: the pathologist; the person who plans the next labels.
-- Set: since (first day of checking, default 90 days ago)
-- Read: each row is a class by the pathologists' labels; percent_of_row is the share of its cells that the champion called
--   called_class. class empty: out of scope, for which unclassified is right. n_blind were read without seeing the call:
--   people agree more with a call that they see. Cells that the model was trained on are left out. Each champion has a
--   table of its own.
\if :{?since}
\else
SELECT current_date - 90 AS since \gset
\endif

SELECT left(model_id, 12) AS model, variant, class, called_class, count(*) AS n_cells,
       round(100.0 * count(*) / sum(count(*)) OVER (PARTITION BY model_id, class), 1) AS percent_of_row,
       count(*) FILTER (WHERE is_blind) AS n_blind
FROM bloodcell.checked_label
WHERE checked_at >= :'since'::date AND NOT is_training
GROUP BY model_id, variant, class, called_class
ORDER BY model_id, class NULLS LAST, n_cells DESC, called_class;
