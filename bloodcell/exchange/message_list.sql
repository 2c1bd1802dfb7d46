-- name: receivers
SELECT receiver, protocol, gets_unsigned, n_waiting, n_held, n_delivered, oldest_waiting_at, last_delivered_at
FROM bloodcell.receiver_summary WHERE removed_at IS NULL OR n_waiting + n_held > 0 ORDER BY receiver

-- name: open_messages
SELECT message_id, receiver, slide_id, barcode, version, result_state, kind, state, made_at, n_attempts, next_attempt_at,
       last_answer, waits_for_quality
FROM bloodcell.message WHERE state IN ('waiting', 'held') ORDER BY state, message_id LIMIT :n
