-- Cells of a night that a person has to look at.
--
-- Who asks: the technician who reviews in the morning.
-- Set: night (default: the newest with cells left unclassified), most (rows at most, default 200)
-- Read: codes out of scope (a blast, a variant lymphocyte, a smudge) come first, with reason out_of_scope where the model
--   called the cell in spite of the code. Then novel: unlike the training cells, the highest novelty first. Then
--   low_confidence: between two classes; best_guess is the more probable one. image: digest of the file.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE n_unclassified > 0), max(night), current_date) AS night
FROM bloodcell.night_summary WHERE night <= current_date + 1 \gset
\endif
\if :{?most}
\else
\set most 200
\endif

SELECT night, barcode, file_name, review_reason AS reason, top_class AS best_guess,
       round(confidence::numeric, 3) AS confidence, round(novelty::numeric, 2) AS novelty, analyser_code,
       sha256 AS image
FROM bloodcell.review_queue
WHERE night = :'night'::date
ORDER BY is_out_of_scope DESC, review_reason DESC, CASE review_reason WHEN 'novel' THEN -novelty ELSE confidence END,
         barcode, file_name
LIMIT :most;
