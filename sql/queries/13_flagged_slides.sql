-- Slides of a night with a group outside of its adult reference range, or with cells that no model knows.
--
-- Who asks: the technician who decides which smears a person reads first.
-- Set: night (default: the newest)
-- Read: n_foreign_codes cells have an analyser code outside the eight groups (a blast, a variant lymphocyte): these slides
--   come first. n_sure counts flags whose 95 % limits lie outside of the range altogether (low, high). findings: each group with
--   its flag and value, in percent of leucocytes, erythroblasts per 100 of them. Children are measured by adults' ranges.
\if :{?night}
\else
SELECT coalesce(max(night), current_date) AS night FROM bloodcell.night_summary \gset
\endif

SELECT t.barcode, t.patient_key, t.order_id, t.n_foreign_codes, count(*) FILTER (WHERE d.flag IN ('low', 'high')) AS n_sure,
       string_agg(format('%s %s (%s)', d.class, replace(d.flag, '_', ' '),
                         round(coalesce(d.percentage, s.nrbc_per_100_wbc)::numeric, 1)),
                  ', ' ORDER BY d.flag LIKE 'possibly%', d.class) FILTER (WHERE d.flag IS NOT NULL) AS findings
FROM bloodcell.slide_status t
LEFT JOIN bloodcell.slide_differential d
       ON d.barcode = t.barcode AND d.night = :'night'::date AND d.is_reported AND d.flag IS NOT NULL
LEFT JOIN bloodcell.slide_summary s ON s.barcode = t.barcode AND s.night = :'night'::date AND s.is_reported
WHERE t.night = :'night'::date AND (d.flag IS NOT NULL OR t.n_foreign_codes > 0)
GROUP BY t.barcode, t.patient_key, t.order_id, t.n_foreign_codes
ORDER BY t.n_foreign_codes > 0 DESC, n_sure DESC, t.barcode;
