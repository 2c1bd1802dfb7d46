-- Slides with nucleated red cells (erythroblasts), and the factor that corrects a leucocyte count for them.
--
-- Who asks: the haematologist; the person who corrects the analyser's WBC.
-- Set: since (first night, default 30 days ago), nrbc (at least so many per 100 leucocytes, default 0: all of them)
-- Read: nrbc_per_100_wbc with its 95 % interval. wbc_factor: multiply a WBC that counted nucleated red cells as leucocytes
--   by it, 100 / (100 + NRBC). definite t: the whole interval is above nrbc.
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif
\if :{?nrbc}
\else
\set nrbc 0
\endif

SELECT barcode, night, patient_key, round(nrbc_per_100_wbc::numeric, 1) AS nrbc_per_100_wbc,
       round(nrbc_lower_95::numeric, 1) AS lower_95, round(nrbc_upper_95::numeric, 1) AS upper_95, n_leucocytes,
       is_sufficient AS sufficient, round((100 / (100 + nrbc_per_100_wbc))::numeric, 3) AS wbc_factor,
       nrbc_lower_95 > :nrbc AS definite
FROM bloodcell.slide_summary
WHERE is_reported AND nrbc_per_100_wbc > 0 AND nrbc_per_100_wbc >= :nrbc AND night >= :'since'::date
ORDER BY nrbc_per_100_wbc DESC, barcode;
