-- The differential of one slide: state of the result, counts, exact 95 % intervals and worst-case bounds.
--
-- Who asks: the person who signs the report; the LIS interface.
-- Set: barcode (default: the slide reported last), for example -v barcode=2611210042
-- Read: state withheld: the percentages are not to be used or sent before a person has looked; withheld_for says why.
--   machine: nobody has looked. final, amended, corrected: signed_by has signed. waiting_version: a newer version that differs
--   from what was signed (see 38_result_versions.sql). class: one of the eight, a code out of scope (BL: blast), unclassified,
--   or contested (people disagree). percentage is of leucocytes; lower_95 and upper_95 bound its 95 % interval, which follows
--   from the number of counted cells. bound_lower and bound_upper: the percentage if no unclassified cell, or every one, were
--   of this class. erythroblast: NRBC per 100 leucocytes. n_labelled cells have a person's label; n_unverified have only the
--   analyser's code. flag: relative to the reference range; "possibly" means that the interval overlaps the range.
--   sufficient f: fewer leucocytes than the laboratory's rules ask for. A withdrawn slide has no rows; see
--   36_withdrawn_slides.sql.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif

SELECT v.barcode, v.version, v.state, CASE v.state WHEN 'withheld' THEN array_to_string(v.withheld_for, ', ') END AS withheld_for,
       l.class, l.n_cells,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_per_100_wbc ELSE l.percentage END::numeric, 1) AS percentage,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_lower_95 ELSE l.percentage_lower_95 END::numeric, 1) AS lower_95,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_upper_95 ELSE l.percentage_upper_95 END::numeric, 1) AS upper_95,
       round(l.bound_lower::numeric, 1) AS bound_lower, round(l.bound_upper::numeric, 1) AS bound_upper,
       round(l.absolute_10e9_per_l::numeric, 2) AS absolute_10e9_per_l, l.flag, l.n_labelled, l.n_unverified, v.n_leucocytes,
       v.n_unclassified, v.is_sufficient AS sufficient, v.signed_by,
       (SELECT max(n.version) FROM bloodcell.result_version n WHERE n.slide_id = v.slide_id AND n.version > v.version)
           AS waiting_version,
       v.variant, left(v.model_id, 12) AS model, v.made_at
FROM bloodcell.result_version v
JOIN bloodcell.result_line l ON l.barcode = v.barcode AND l.version = v.version AND l.withdrawn_at IS NULL
WHERE v.barcode = :'barcode' AND v.is_in_force
ORDER BY array_position(ARRAY['neutrophil', 'eosinophil', 'basophil', 'lymphocyte', 'monocyte', 'ig', 'BL', 'VLY', 'PLY', 'PC',
                              'LGLY', 'HC', 'SEC', 'PMO', 'IBO', 'IEO', 'erythroblast', 'platelet', 'unclassified',
                              'contested'], l.class), l.class;
