-- Cells that the champion called differently from the pathologists' labels, the newest first.
--
-- Who asks: the person who received an alarm about agreement; the pathologist.
-- Set: since (first day of checking, default 90 days ago), most (rows at most, default 200)
-- Read: class is the label (empty: out of scope), called_class is what the champion reported. Look at the images with
--   bloodcell report SLIDE --html FILE. A wrong label is corrected by a new one. n_in_all: such cells, also those beyond the
--   last row.
\if :{?since}
\else
SELECT current_date - 90 AS since \gset
\endif
\if :{?most}
\else
\set most 200
\endif

SELECT barcode, night, file_name, class, called_class, labelled_by, is_blind, variant, left(model_id, 12) AS model,
       checked_at, count(*) OVER () AS n_in_all
FROM bloodcell.checked_label
WHERE NOT is_agreed AND NOT is_training AND checked_at >= :'since'::date
ORDER BY checked_at DESC, barcode, file_name
LIMIT :most;
