-- The result of one slide as it was reported at a moment, line by line.
--
-- Who asks: the clinician who decided on an earlier result; the auditor; the court.
-- Set: barcode (default: the slide reported last), as_of (moment, default: now), for example -v as_of='2026-11-21 07:30+00'
-- Read: the version that counted at the moment, with the columns of 01_slide_differential.sql. counts_now f: another version
--   counts by now; 38_result_versions.sql says why it differs. A moment without an offset is in the time zone of the session. No
--   rows: nothing was reported then, because the slide was not counted yet or was withdrawn.
\if :{?barcode}
\else
SELECT coalesce((SELECT barcode FROM bloodcell.slide_summary WHERE withdrawn_at IS NULL
                 ORDER BY written_at DESC LIMIT 1), '') AS barcode \gset
\endif
\if :{?as_of}
\else
SELECT now() AS as_of \gset
\endif

SELECT v.barcode, v.version, v.state, v.is_in_force AS counts_now,
       CASE v.state WHEN 'withheld' THEN array_to_string(v.withheld_for, ', ') END AS withheld_for, l.class, l.n_cells,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_per_100_wbc ELSE l.percentage END::numeric, 1) AS percentage,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_lower_95 ELSE l.percentage_lower_95 END::numeric, 1) AS lower_95,
       round(CASE l.class WHEN 'erythroblast' THEN v.nrbc_upper_95 ELSE l.percentage_upper_95 END::numeric, 1) AS upper_95,
       round(l.bound_lower::numeric, 1) AS bound_lower, round(l.bound_upper::numeric, 1) AS bound_upper,
       round(l.absolute_10e9_per_l::numeric, 2) AS absolute_10e9_per_l, l.flag, l.n_labelled, l.n_unverified, v.n_leucocytes,
       v.n_unclassified, v.is_sufficient AS sufficient, v.signed_by, v.variant, left(v.model_id, 12) AS model, v.made_at
FROM bloodcell.result_version v
JOIN bloodcell.result_line l
  ON l.barcode = v.barcode AND l.version = v.version AND l.withdrawn_at IS NOT DISTINCT FROM v.withdrawn_at
WHERE v.barcode = :'barcode' AND v.in_force_from <= :'as_of'::timestamptz
  AND (v.in_force_until > :'as_of'::timestamptz OR v.in_force_until IS NULL)
  -- not while the slide was withdrawn
  AND coalesce((SELECT h.action = 'restore' FROM bloodcell.withdrawal_history h
                WHERE h.slide_id = v.slide_id AND h.recorded_at <= :'as_of'::timestamptz
                ORDER BY h.withdrawal_id DESC LIMIT 1), true)
ORDER BY array_position(ARRAY['neutrophil', 'eosinophil', 'basophil', 'lymphocyte', 'monocyte', 'ig', 'BL', 'VLY', 'PLY', 'PC',
                              'LGLY', 'HC', 'SEC', 'PMO', 'IBO', 'IEO', 'erythroblast', 'platelet', 'unclassified',
                              'contested'], l.class), l.class;
