-- Slides with too few leucocytes for a sufficient count, and slides without a usable file.
--
-- Who asks: the technician, to make a new smear or to count by hand.
-- Set: night (default: the newest)
-- Read: withheld slides come first: the percentages are not to be used before a person has looked; withheld_for says why. Then
--   status no usable cell: every file of the slide was quarantined. Otherwise n_leucocytes is what was counted, the fewest
--   first; its percentages have wide intervals, and flags allow for that. A high n_unclassified points to the smear or the
--   stain, not to the patient.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE night <= current_date + 1), current_date) AS night
FROM bloodcell.night_summary \gset
\endif

SELECT st.barcode, st.patient_key, st.order_id, st.analyser, st.status, st.state,
       CASE st.state WHEN 'withheld' THEN array_to_string(st.withheld_for, ', ') END AS withheld_for, st.n_cells, su.n_leucocytes,
       su.n_unclassified, st.n_quarantined
FROM bloodcell.slide_status st
LEFT JOIN bloodcell.slide_summary su ON su.barcode = st.barcode AND su.night = :'night'::date AND su.is_reported
WHERE st.night = :'night'::date AND st.status <> 'withdrawn' AND (st.status = 'no usable cell' OR NOT su.is_sufficient)
ORDER BY coalesce(st.state = 'withheld', false) DESC, su.n_leucocytes NULLS FIRST, st.barcode;
