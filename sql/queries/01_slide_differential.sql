-- The differential of one slide, with exact 95 % intervals.
--
-- Who asks: the person who signs the report; the LIS interface.
-- Set: barcode (default: the slide reported last), for example -v barcode=2611210042
-- Read: percentage is of leucocytes; lower_95 and upper_95 bound its 95 % interval, which follows from the number of
--   counted cells. erythroblast: NRBC per 100 leucocytes. platelet and unclassified are only counted. flag: relative to
--   the adult reference range; "possibly" means that the interval overlaps the range. sufficient f: fewer leucocytes than
--   BLOODCELL_MIN_LEUCOCYTES were counted; do not report the percentages. A withdrawn slide has no rows; see
--   36_withdrawn_slides.sql.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif

SELECT d.barcode, d.class, d.n_cells,
       round(CASE d.class WHEN 'erythroblast' THEN s.nrbc_per_100_wbc ELSE d.percentage END::numeric, 1) AS percentage,
       round(CASE d.class WHEN 'erythroblast' THEN s.nrbc_lower_95 ELSE d.percentage_lower_95 END::numeric, 1)
           AS lower_95,
       round(CASE d.class WHEN 'erythroblast' THEN s.nrbc_upper_95 ELSE d.percentage_upper_95 END::numeric, 1)
           AS upper_95,
       d.flag, d.n_leucocytes, d.is_sufficient AS sufficient, d.variant, left(d.model_id, 12) AS model, d.written_at
FROM bloodcell.slide_differential d
JOIN bloodcell.slide_summary s USING (barcode, model_id)
WHERE d.barcode = :'barcode' AND d.is_reported AND s.is_reported
ORDER BY array_position(ARRAY['neutrophil', 'eosinophil', 'basophil', 'lymphocyte', 'monocyte', 'ig', 'erythroblast',
                              'platelet', 'unclassified'], d.class);
