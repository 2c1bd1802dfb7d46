-- Cells of a night that a person has to look at, the most urgent first.
--
-- Who asks: the technician who reviews in the morning.
-- Set: night (default: the newest with such cells), most (rows at most, default 200)
-- Read: cells that nobody has labelled. Blasts (analyser_code BL) come first, then cells of withheld slides; state is
--   that of the slide's result. Then other codes out of scope (a variant lymphocyte, a smudge), with reason out_of_scope
--   where the model called the cell in spite of the code. Then cells that resemble the laboratory's own cells of such a
--   code, where its model has learnt one. Then novel: unlike the training cells, the highest novelty first. Then
--   low_confidence: between two classes; best_guess is the more probable one. image: digest of the file. n_in_all: cells
--   of the night, also those beyond the last row.
\if :{?night}
\else
SELECT coalesce((SELECT n.night FROM (SELECT night FROM bloodcell.night_summary ORDER BY night DESC OFFSET 0) n
                 WHERE n.night <= current_date + 1
                   AND (SELECT true FROM bloodcell.review_queue q WHERE q.night = n.night LIMIT 1)
                 ORDER BY n.night DESC LIMIT 1),
                (SELECT max(night) FROM bloodcell.night_summary WHERE night <= current_date + 1), current_date) AS night \gset
\endif
\if :{?most}
\else
\set most 200
\endif

SELECT q.night, q.barcode, q.file_name, q.review_reason AS reason, q.top_class AS best_guess,
       round(q.confidence::numeric, 3) AS confidence, round(q.novelty::numeric, 2) AS novelty, q.resembles, q.analyser_code, s.state,
       q.sha256 AS image, count(*) OVER () AS n_in_all
FROM bloodcell.review_queue q
LEFT JOIN bloodcell.slide_summary s ON s.barcode = q.barcode AND s.is_reported
WHERE q.night = :'night'::date
ORDER BY coalesce(upper(q.analyser_code) = 'BL', false) DESC, s.state = 'withheld' DESC NULLS LAST, q.is_out_of_scope DESC,
         q.resembles IS NULL, q.review_reason DESC, CASE q.review_reason WHEN 'novel' THEN -q.novelty ELSE q.confidence END, q.barcode, q.file_name
LIMIT :most;
