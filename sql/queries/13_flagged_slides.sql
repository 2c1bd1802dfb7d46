-- Slides of a night with a class outside its adult reference range, or with cells that are out of scope.
--
-- Who asks: the technician who decides which smears a person reads first.
-- Set: night (default: the newest)
-- Read: slides with n_out_of_scope cells, whose analyser code is outside the eight classes (a blast, a variant lymphocyte),
--   come first. n_definite counts the flags low and high, whose whole 95 % interval is outside the range. findings: each
--   flagged class with its value, in percent of leucocytes; erythroblasts per 100 leucocytes. Children are compared with
--   the ranges of adults.
\if :{?night}
\else
SELECT coalesce(max(night) FILTER (WHERE night <= current_date + 1), current_date) AS night
FROM bloodcell.night_summary \gset
\endif

SELECT t.barcode, t.patient_key, t.order_id, t.n_out_of_scope, count(*) FILTER (WHERE d.flag IN ('low', 'high')) AS n_definite,
       string_agg(format('%s %s (%s)', d.class, replace(d.flag, '_', ' '),
                         round(coalesce(d.percentage, s.nrbc_per_100_wbc)::numeric, 1)),
                  ', ' ORDER BY d.flag LIKE 'possibly%', d.class) FILTER (WHERE d.flag IS NOT NULL) AS findings
FROM bloodcell.slide_status t
LEFT JOIN bloodcell.slide_differential d
       ON d.barcode = t.barcode AND d.night = :'night'::date AND d.is_reported AND d.flag IS NOT NULL
LEFT JOIN bloodcell.slide_summary s ON s.barcode = t.barcode AND s.night = :'night'::date AND s.is_reported
WHERE t.night = :'night'::date AND t.status <> 'withdrawn' AND (d.flag IS NOT NULL OR t.n_out_of_scope > 0)
GROUP BY t.barcode, t.patient_key, t.order_id, t.n_out_of_scope
ORDER BY t.n_out_of_scope > 0 DESC, n_definite DESC, t.barcode;
