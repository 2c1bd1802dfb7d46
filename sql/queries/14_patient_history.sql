-- A patient's slides over time, one per row.
--
-- Who asks: the haematologist who follows a patient.
-- Set: patient (patient_key, default: the patient of the slide reported last)
-- Read: percentages of leucocytes; other: leucocytes outside the six classes, n_blasts of them blasts. ig_95 is the 95 %
--   interval of ig. state withheld: the percentages are not to be used before a person has looked; withheld_for says why;
--   machine: nobody has looked. Where model changes from one row to the next, a step may come from the model and not from the
--   patient. sufficient f: few leucocytes, so the intervals are wide.
\if :{?patient}
\else
SELECT coalesce((SELECT patient_key FROM bloodcell.slide_summary
                 WHERE patient_key IS NOT NULL AND withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS patient \gset
\endif

SELECT coalesce(acquired_at, night::timestamptz) AS taken_at, barcode, state,
       CASE state WHEN 'withheld' THEN array_to_string(withheld_for, ', ') END AS withheld_for,
       round(max(percentage) FILTER (WHERE class = 'neutrophil')::numeric, 1) AS neutrophil,
       round(max(percentage) FILTER (WHERE class = 'eosinophil')::numeric, 1) AS eosinophil,
       round(max(percentage) FILTER (WHERE class = 'basophil')::numeric, 1) AS basophil,
       round(max(percentage) FILTER (WHERE class = 'lymphocyte')::numeric, 1) AS lymphocyte,
       round(max(percentage) FILTER (WHERE class = 'monocyte')::numeric, 1) AS monocyte,
       round(max(percentage) FILTER (WHERE class = 'ig')::numeric, 1) AS ig,
       format('%s-%s', round(max(percentage_lower_95) FILTER (WHERE class = 'ig')::numeric, 1),
              round(max(percentage_upper_95) FILTER (WHERE class = 'ig')::numeric, 1)) AS ig_95,
       round(coalesce(sum(percentage) FILTER (WHERE class NOT IN ('neutrophil', 'eosinophil', 'basophil', 'lymphocyte',
                                                                  'monocyte', 'ig')), 0)::numeric, 1) AS other,
       coalesce(max(n_cells) FILTER (WHERE class = 'BL'), 0) AS n_blasts,
       max(n_cells) FILTER (WHERE class = 'erythroblast') AS n_erythroblasts, max(n_leucocytes) AS n_leucocytes,
       max(n_unclassified) AS n_unclassified, bool_and(is_sufficient) AS sufficient, max(left(model_id, 12)) AS model
FROM bloodcell.slide_differential
WHERE patient_key = :'patient' AND is_reported
GROUP BY barcode, acquired_at, night, state, withheld_for
ORDER BY taken_at, barcode;
