-- Slides with immature granulocytes (ig) above a percentage.
--
-- Who asks: the haematologist on duty, looking for left shift; quality control of a new model.
-- Set: percent (default 2), since (first night, default 30 days ago)
-- Read: definite t: the whole 95 % interval is above the percentage. definite f: too few cells to tell; look at the slide.
--   Slides with an insufficient count are left out (see 11_insufficient_counts.sql).
\if :{?percent}
\else
\set percent 2
\endif
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT barcode, night, patient_key, round(percentage::numeric, 1) AS ig_percentage,
       round(percentage_lower_95::numeric, 1) AS lower_95, round(percentage_upper_95::numeric, 1) AS upper_95,
       n_cells AS n_ig, n_leucocytes, percentage_lower_95 > :percent AS definite
FROM bloodcell.slide_differential
WHERE class = 'ig' AND is_reported AND is_sufficient AND percentage > :percent AND night >= :'since'::date
ORDER BY percentage_lower_95 DESC, barcode;
