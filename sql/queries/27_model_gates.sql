-- The gates of a model: whether each passed, what was measured against which threshold, and why.
--
-- Who asks: the person who has to approve a model, or wonders why one was refused.
-- Set: model (id or its first characters; default: the model validated last)
-- Read: one row per gate, the newest validation first. A model whose newest validation failed a gate cannot become
--   champion. report: the page with all figures and plots. threshold empty: the gate compares with no number.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.model_gate ORDER BY validated_at DESC LIMIT 1), '') AS model \gset
\endif

SELECT left(model_id, 12) AS model, left(champion_id, 12) AS against, validated_at, gate, passed,
       round(measured::numeric, 4) AS measured, round(threshold::numeric, 4) AS threshold, reason, report
FROM bloodcell.model_gate
WHERE starts_with(model_id, :'model')
ORDER BY validated_at DESC, model_id, passed, gate;
