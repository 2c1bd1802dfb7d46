-- Slides of a night with a group outside of its adult reference range.
--
-- Who asks: the technician who decides which smears a person reads first.
-- Set: night (default: the newest)
-- Read: n_sure counts flags whose 95 % limits lie outside of the range altogether (low, high). findings: each group with
--   its flag and value, in percent of leucocytes, erythroblasts per 100 of them. Children are measured by adults' ranges.
\if :{?night}
\else
SELECT coalesce(max(night), current_date) AS night FROM bloodcell.night_summary \gset
\endif

SELECT d.barcode, d.patient_key, d.order_id, count(*) FILTER (WHERE d.flag IN ('low', 'high')) AS n_sure,
       string_agg(format('%s %s (%s)', d.class, replace(d.flag, '_', ' '),
                         round(coalesce(d.percentage, s.nrbc_per_100_wbc)::numeric, 1)),
                  ', ' ORDER BY d.flag LIKE 'possibly%', d.class) AS findings
FROM bloodcell.slide_differential d
JOIN bloodcell.slide_summary s USING (barcode, model_id)
WHERE d.night = :'night'::date AND s.night = :'night'::date AND d.is_reported AND d.flag IS NOT NULL
GROUP BY d.barcode, d.patient_key, d.order_id
ORDER BY n_sure DESC, d.barcode;
