-- Cells of a night that the model would not call: a person has to look at them.
--
-- Who asks: the reviewing technician, in the morning.
-- Set: night (default: the newest), most (rows at most, default 200)
-- Read: reason novel: unlike anything the model was trained on (a blast, an artefact); these come first, the least like
--   training first. low_confidence: between two groups; best_guess is the likelier one. image: digest of the file.
\if :{?night}
\else
SELECT coalesce(max(night), current_date) AS night FROM bloodcell.night_summary \gset
\endif
\if :{?most}
\else
\set most 200
\endif

SELECT barcode, file_name, unclassified_reason AS reason, top_class AS best_guess,
       round(confidence::numeric, 3) AS confidence, round(novelty::numeric, 2) AS novelty, analyser_code,
       sha256 AS image
FROM bloodcell.review_queue
WHERE night = :'night'::date
ORDER BY unclassified_reason DESC, CASE unclassified_reason WHEN 'novel' THEN -novelty ELSE confidence END, barcode,
         file_name
LIMIT :most;
