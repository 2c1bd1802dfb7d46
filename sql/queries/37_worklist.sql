-- Slides that wait for a person, the most urgent first.
--
-- Who asks: the technician and the haematologist, to choose the next slide.
-- Set: since (first night, default: all nights)
-- Read: one row per slide whose newest version nobody has signed. waits_for, in this order: withheld (the percentages are not to
--   be used before a person has looked; withheld_for says why), differs from what was signed (signed_version counts until this
--   one is signed, and why says what is new), no usable cell (make a new smear), review (a review rule or a finding names the
--   slide), signature (nothing names it). Within each, slides with blasts come first, then those with the largest share of
--   unclassified cells, then the oldest night. findings: classes whose whole 95 % interval is outside the reference range.
--   n_unverified, n_unclassified and n_contested cells have no label that settles them. Slides that wait to be classified or
--   counted are in 10_unfinished_nights.sql.
\if :{?since}
\else
SELECT date '1900-01-01' AS since \gset
\endif

WITH waiting AS (
    SELECT v.barcode, v.night, v.patient_key, v.order_id, v.version, v.state, v.withheld_for, v.review_for, v.n_blasts,
           v.n_unverified, v.n_unclassified, v.n_contested, v.n_leucocytes, v.nrbc_per_100_wbc, v.made_at,
           CASE WHEN v.in_force_from IS NULL THEN v.why END AS why,
           CASE WHEN v.in_force_from IS NULL
                THEN (SELECT max(o.version) FROM bloodcell.result_version o
                      WHERE o.slide_id = v.slide_id AND o.signed_by IS NOT NULL) END AS signed_version
    FROM bloodcell.result_version v
    WHERE v.signed_by IS NULL AND v.in_force_until IS NULL AND v.withdrawn_at IS NULL AND v.night >= :'since'::date
), uncounted AS MATERIALIZED (  -- so that only these slides' cells are counted
    SELECT s.barcode, s.night, s.patient_key, s.order_id
    FROM bloodcell.standing_slide s
    WHERE s.night >= :'since'::date
      AND NOT EXISTS (SELECT 1 FROM bloodcell.result_in_force r WHERE r.slide_id = s.slide_id)
), unusable AS (
    SELECT u.* FROM uncounted u
    WHERE (SELECT t.status FROM bloodcell.slide_status t WHERE t.barcode = u.barcode AND t.withdrawn_at IS NULL LIMIT 1)
          = 'no usable cell'
), listed AS (
    SELECT w.*, f.findings,
           CASE WHEN w.state = 'withheld' THEN 'withheld'
                WHEN w.signed_version IS NOT NULL THEN 'differs from what was signed'
                WHEN w.version IS NULL THEN 'no usable cell'
                WHEN cardinality(w.review_for) > 0 OR f.findings IS NOT NULL THEN 'review'
                ELSE 'signature' END AS waits_for
    FROM (SELECT * FROM waiting FULL JOIN unusable USING (barcode, night, patient_key, order_id)) w
    LEFT JOIN LATERAL (
        SELECT string_agg(format('%s %s (%s)', l.class, l.flag, round(coalesce(l.percentage, w.nrbc_per_100_wbc)::numeric, 1)),
                          ', ' ORDER BY l.class) AS findings
        FROM bloodcell.result_line l
        WHERE l.barcode = w.barcode AND l.version = w.version AND l.withdrawn_at IS NULL AND l.flag IN ('low', 'high')
    ) f ON true
)
SELECT barcode, night, patient_key, order_id, waits_for, array_to_string(withheld_for, ', ') AS withheld_for,
       array_to_string(review_for, ', ') AS review_for, findings, n_blasts, n_unverified, n_unclassified, n_contested,
       n_leucocytes, round(100.0 * n_unclassified / nullif(n_leucocytes + n_unclassified, 0), 1) AS percent_unclassified,
       version, signed_version, why, made_at
FROM listed
ORDER BY array_position(ARRAY['withheld', 'differs from what was signed', 'no usable cell', 'review', 'signature'], waits_for),
         coalesce(n_blasts, 0) > 0 DESC, percent_unclassified DESC NULLS LAST, night, barcode;
