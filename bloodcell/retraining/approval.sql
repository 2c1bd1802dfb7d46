-- name: best_candidate
-- The one that a repeated question was about, or the first in the order of the validation: the most accurate candidate.
SELECT v.model_id, v.summary, v.report
FROM bloodcell.validation v
JOIN bloodcell.candidate c USING (training_run_id, model_id)
LEFT JOIN bloodcell.evaluation e ON e.model_id = v.model_id AND e.dataset_digest = v.dataset_digest
WHERE v.training_run_id = :training_run_id AND v.passed
ORDER BY v.model_id IS NOT DISTINCT FROM (SELECT model_id FROM bloodcell.approval_question WHERE question_id = :question_id)
         DESC, e.accuracy DESC NULLS LAST, c.variant
LIMIT 1

-- name: newest_answer
SELECT q.model_id, a.decision, a.answered_by, a.answered_at, a.reason
FROM bloodcell.approval_question q
LEFT JOIN bloodcell.approval_answer a USING (question_id)
WHERE q.training_run_id = :training_run_id
ORDER BY q.asked_at DESC, q.question_id
LIMIT 1

-- name: state
SELECT state, state_reason FROM bloodcell.training_run WHERE training_run_id = :training_run_id

-- name: retraining_of_question
SELECT training_run_id FROM bloodcell.approval_question WHERE question_id = :question_id

-- name: is_unanswered
-- Whether the time for an answer to the newest question is over; by a minute less, because two clocks differ.
SELECT a.question_id IS NULL
   AND q.asked_at + make_interval(secs => :timeout_s) - interval '1 minute' <= clock_timestamp()
FROM bloodcell.approval_question q LEFT JOIN bloodcell.approval_answer a USING (question_id)
WHERE q.training_run_id = :training_run_id ORDER BY q.asked_at DESC, q.question_id LIMIT 1
