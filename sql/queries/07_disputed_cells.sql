-- Cells of a night that champion and challenger call differently, the most confident on both sides first.
--
-- Who asks: the pathologist who labels, because a model learns most from these cells.
-- Set: night (default: the newest), most (rows at most, default 100)
-- Read: each confidence is the calibrated probability of the class beside it. Cells that one of the two left unclassified
--   are not listed. n_in_all: such cells of the night, also those beyond the last row.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE night <= current_date + 1), current_date) AS night
FROM bloodcell.night_summary \gset
\endif
\if :{?most}
\else
\set most 100
\endif

SELECT barcode, file_name, reported_class, round(reported_confidence::numeric, 3) AS reported_confidence, challenger_class,
       round(challenger_confidence::numeric, 3) AS challenger_confidence, challenger_variant, count(*) OVER () AS n_in_all
FROM bloodcell.model_disagreement
WHERE night = :'night'::date AND 'unclassified' NOT IN (reported_class, challenger_class)
ORDER BY least(reported_confidence, challenger_confidence) DESC, barcode, file_name, challenger_variant
LIMIT :most;
