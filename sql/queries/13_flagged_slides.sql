-- Slides of a night that are withheld, named by a review rule or surely outside a reference range, the most urgent first.
--
-- Who asks: the technician who decides which smears a person reads first.
-- Set: night (default: the newest)
-- Read: the newest version of each slide. Withheld slides come first: the percentages are not to be used before a person has
--   looked. Then slides that are not counted yet and have n_out_of_scope cells with an analyser code outside the eight classes.
--   Within the rest, slides with blasts come first, then those with the largest share of unclassified cells; what a person has
--   signed comes last. signed_version: it counts until somebody signs this newer one. review_for: the review rules that name the
--   slide. findings: classes whose whole 95 % interval is outside the reference range, with the value in percent of leucocytes;
--   erythroblasts per 100 leucocytes. n_unverified: other leucocytes that nobody has labelled. 37_worklist.sql has all nights.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE night <= current_date + 1), current_date) AS night
FROM bloodcell.night_summary \gset
\endif

SELECT t.barcode, t.patient_key, t.order_id, v.state,
       CASE v.state WHEN 'withheld' THEN array_to_string(v.withheld_for, ', ') END AS withheld_for,
       array_to_string(v.review_for, ', ') AS review_for, f.findings, v.n_blasts, v.n_unverified, v.n_leucocytes,
       round(100.0 * v.n_unclassified / nullif(v.n_leucocytes + v.n_unclassified, 0), 1) AS percent_unclassified,
       t.n_out_of_scope, v.version, CASE WHEN t.version < v.version THEN t.version END AS signed_version
FROM bloodcell.slide_status t
LEFT JOIN bloodcell.result_version v
       ON v.barcode = t.barcode AND v.version = t.newest_version AND v.night = :'night'::date AND v.withdrawn_at IS NULL
LEFT JOIN LATERAL (
    SELECT string_agg(format('%s %s (%s)', l.class, l.flag, round(coalesce(l.percentage, v.nrbc_per_100_wbc)::numeric, 1)), ', '
                      ORDER BY l.class) AS findings
    FROM bloodcell.result_line l
    WHERE l.barcode = v.barcode AND l.version = v.version AND l.withdrawn_at IS NULL AND l.flag IN ('low', 'high')
) f ON true
WHERE t.night = :'night'::date AND t.status <> 'withdrawn'
  AND (v.state = 'withheld' OR cardinality(v.review_for) > 0 OR f.findings IS NOT NULL
       OR v.state IS NULL AND t.n_out_of_scope > 0)
ORDER BY v.signed_by IS NOT NULL, coalesce(v.state = 'withheld', false) DESC, v.state IS NULL DESC,
         coalesce(v.n_blasts, 0) > 0 DESC, percent_unclassified DESC NULLS LAST, t.barcode;
