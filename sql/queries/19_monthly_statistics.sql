-- Statistics by month: what arrived, what was reported and signed, how well it went.
--
-- Who asks: the management; the accreditation file.
-- Set: since (first night, default twelve months ago)
-- Read: percent_quarantined of the files that are not ignored by rule; percent_withheld (their percentages still wait for a
--   person), percent_signed, percent_insufficient and percent_unclassified of what was reported, as it is now; late_nights:
--   nights that were not completely read by noon of the following day.
\if :{?since}
\else
SELECT (date_trunc('month', current_date) - interval '11 months')::date AS since \gset
\endif

SELECT to_char(night, 'YYYY-MM') AS month, count(*) AS n_nights, sum(n_slides) AS n_slides,
       sum(n_slides_reported) AS n_reported, sum(n_cells) AS n_cells,
       round(100 * sum(n_quarantined) / nullif(sum(n_files - n_ignored), 0), 2) AS percent_quarantined,
       round(100 * sum(n_slides_withheld) / nullif(sum(n_slides_reported), 0), 2) AS percent_withheld,
       round(100 * sum(n_slides_signed) / nullif(sum(n_slides_reported), 0), 2) AS percent_signed,
       round(100 * sum(n_slides_insufficient) / nullif(sum(n_slides_reported), 0), 2) AS percent_insufficient,
       round(100 * sum(n_unclassified) / nullif(sum(n_cells_reported), 0), 2) AS percent_unclassified,
       count(*) FILTER (WHERE completed_at > night + interval '36 hours' OR completed_at IS NULL) AS late_nights
FROM bloodcell.night_summary
WHERE night >= :'since'::date
GROUP BY month
ORDER BY month DESC;
