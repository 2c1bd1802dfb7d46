-- Cells of a night that a person has to look at: the model would not call them, or cannot know what they are.
--
-- Who asks: the reviewing technician, in the morning.
-- Set: night (default: the newest), most (rows at most, default 200)
-- Read: codes outside the eight groups (a blast, a variant lymphocyte, a smudge) come first, with reason foreign_code where
--   the model called the cell all the same. Then novel: unlike anything the model was trained on, the strangest first; then
--   low_confidence: between two groups; best_guess is the likelier one. image: digest of the file.
\if :{?night}
\else
SELECT coalesce(max(night), current_date) AS night FROM bloodcell.night_summary \gset
\endif
\if :{?most}
\else
\set most 200
\endif

SELECT barcode, file_name, review_reason AS reason, top_class AS best_guess,
       round(confidence::numeric, 3) AS confidence, round(novelty::numeric, 2) AS novelty, analyser_code,
       sha256 AS image
FROM bloodcell.review_queue
WHERE night = :'night'::date
ORDER BY is_foreign_code DESC, review_reason DESC, CASE review_reason WHEN 'novel' THEN -novelty ELSE confidence END,
         barcode, file_name
LIMIT :most;
