-- Slides with nucleated red cells (erythroblasts), and what they do to the leucocyte count, withheld slides first.
--
-- Who asks: the haematologist; the person who corrects the analyser's WBC.
-- Set: since (first night, default 30 days ago), nrbc (at least so many per 100 leucocytes, default 0: all of them)
-- Read: nrbc_per_100_wbc with its 95 % interval. definite t: the whole interval is above nrbc. wbc_received: the analyser's WBC
--   from slide.json, wbc_is_corrected t if it leaves out nucleated red cells already; wbc_10e9_per_l: the same, corrected by
--   bloodcell where the laboratory's rules ask for it; use it as it is. wbc_factor, only without a WBC in slide.json: multiply
--   a WBC that counted nucleated red cells as leucocytes by it, 100 / (100 + NRBC), and never twice.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif
\if :{?nrbc}
\else
\set nrbc 0
\endif

SELECT barcode, night, patient_key, state,
       CASE state WHEN 'withheld' THEN array_to_string(withheld_for, ', ') END AS withheld_for,
       round(nrbc_per_100_wbc::numeric, 1) AS nrbc_per_100_wbc, round(nrbc_lower_95::numeric, 1) AS lower_95,
       round(nrbc_upper_95::numeric, 1) AS upper_95, n_leucocytes, is_sufficient AS sufficient,
       nrbc_lower_95 > :nrbc AS definite, wbc_received, wbc_is_corrected, round(wbc_10e9_per_l::numeric, 2) AS wbc_10e9_per_l,
       CASE WHEN wbc_received IS NULL THEN round((100 / (100 + nrbc_per_100_wbc))::numeric, 3) END AS wbc_factor
FROM bloodcell.result_version
WHERE is_in_force AND nrbc_per_100_wbc > 0 AND nrbc_per_100_wbc >= :nrbc AND night >= :'since'::date
ORDER BY state = 'withheld' DESC, nrbc_per_100_wbc DESC, barcode;
