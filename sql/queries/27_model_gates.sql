-- The gates of a model: passed or not, measured against which limit, and why.
--
-- Who asks: who has to approve a model; who wonders why one was refused.
-- Set: model (id or its beginning; default: the model judged last)
-- Read: a row a gate, the newest judgement first. A model whose newest judgement has a gate that failed cannot become
--   champion. report: the page with all figures and plots. limit_value empty: the gate has no number to hold against.
\if :{?model}
\else
SELECT coalesce((SELECT model_id FROM bloodcell.model_gate ORDER BY validated_at DESC LIMIT 1), '') AS model \gset
\endif

SELECT left(model_id, 12) AS model, left(champion_id, 12) AS against, validated_at, gate, passed,
       round(measured::numeric, 4) AS measured, round(limit_value::numeric, 4) AS limit_value, reason, report
FROM bloodcell.model_gate
WHERE starts_with(model_id, :'model')
ORDER BY validated_at DESC, model_id, passed, gate;
