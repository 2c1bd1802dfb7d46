-- The champion over time: agreement with pathologists' labels and drift, one row per check.
--
-- Who asks: the quality manager, as a control chart; the person who received an alarm.
-- Set: since (first day, default 90 days ago)
-- Read: agreement in percent, from n_labels blind-read cells of the random samples; lowest_class_agreement and
--   lowest_class_precision are those of the worst judged class. class_mix, confidence and novelty: population
--   stability index; below 0.1 is stable, above 0.25 is a large change. embedding: squared maximum mean discrepancy.
--   Empty: too little data to measure it. failed: the reason for each threshold that was crossed.
\if :{?since}
\else
SELECT current_date - 90 AS since \gset
\endif

SELECT max(checked_at) AS checked_at, variant, left(model_id, 12) AS model,
       round(100 * (max(measured) FILTER (WHERE kind = 'agreement' AND class IS NULL))::numeric, 1) AS agreement,
       max(n_cells) FILTER (WHERE kind = 'agreement' AND class IS NULL AND measured IS NOT NULL) AS n_labels,
       round(100 * (min(measured) FILTER (WHERE kind = 'agreement' AND class IS NOT NULL AND threshold IS NOT NULL))
             ::numeric, 1) AS lowest_class_agreement,
       round(100 * (min(measured) FILTER (WHERE kind = 'precision' AND threshold IS NOT NULL))::numeric, 1)
           AS lowest_class_precision,
       min(since_night) AS since_night, max(until_night) AS until_night,
       round((max(measured) FILTER (WHERE kind = 'class_mix'))::numeric, 3) AS class_mix,
       round((max(measured) FILTER (WHERE kind = 'confidence'))::numeric, 3) AS confidence,
       round((max(measured) FILTER (WHERE kind = 'novelty'))::numeric, 3) AS novelty,
       round((max(measured) FILTER (WHERE kind = 'embedding' AND class IS NULL))::numeric, 4) AS embedding,
       bool_and(passed) AS passed, string_agg(reason, ' ') FILTER (WHERE NOT passed) AS failed
FROM bloodcell.champion_check
WHERE checked_at >= :'since'::date
GROUP BY run_id, variant, model_id
ORDER BY checked_at;
