-- Slides that were withdrawn or renamed, the newest first.
--
-- Who asks: the pathologist who compares an old print with the database; the auditor.
-- Set: since (first day of withdrawal, default 90 days ago)
-- Read: barcode is the one that the slide had, and under which results may have left the laboratory; reported_at: when they
--   were reported; empty: never. version and state: the result that counted; final, amended or corrected: a person had signed
--   it. renamed_to: where its cells are reported now. requested_by asked for it, recorded_by is the login that did it. A slide
--   that was restored is not listed; the view withdrawal_history has every step.
\if :{?since}
\else
SELECT current_date - 90 AS since \gset
\endif

SELECT w.withdrawn_at, w.barcode, w.night, w.renamed_to, w.reason, w.requested_by, w.recorded_by, s.reported_at,
       s.version, s.state, left(s.reported_model_id, 12) AS model
FROM bloodcell.withdrawn_slide w
JOIN bloodcell.slide_status s ON s.barcode = w.barcode AND s.withdrawn_at = w.withdrawn_at
WHERE w.withdrawn_at >= :'since'::date
ORDER BY w.withdrawn_at DESC, w.barcode;
