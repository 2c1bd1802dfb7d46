-- Slides with immature granulocytes (ig) above a percentage, withheld ones first.
--
-- Who asks: the haematologist on duty, looking for left shift; quality control of a new model.
-- Set: percent (default 2), since (first night, default 30 days ago)
-- Read: definite t: the whole 95 % interval is above the percentage. definite f: too few cells to tell; look at the slide.
--   bound_upper: the percentage if every unclassified cell were an ig. sufficient f: few leucocytes, which the interval allows
--   for. state withheld: the percentages are not to be used before a person has looked; withheld_for says why.
\if :{?percent}
\else
\set percent 2
\endif
\if :{?since}
\else
SELECT current_date - 30 AS since \gset
\endif

SELECT barcode, night, patient_key, state,
       CASE state WHEN 'withheld' THEN array_to_string(withheld_for, ', ') END AS withheld_for,
       round(percentage::numeric, 1) AS ig_percentage, round(percentage_lower_95::numeric, 1) AS lower_95,
       round(percentage_upper_95::numeric, 1) AS upper_95, round(bound_upper::numeric, 1) AS bound_upper, n_cells AS n_ig,
       n_leucocytes, is_sufficient AS sufficient, percentage_lower_95 > :percent AS definite
FROM bloodcell.slide_differential
WHERE class = 'ig' AND is_reported AND percentage > :percent AND night >= :'since'::date
ORDER BY state = 'withheld' DESC, percentage_lower_95 DESC, barcode;
