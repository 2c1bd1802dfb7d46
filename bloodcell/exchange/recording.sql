-- name: record
-- What people have decided meanwhile stays. Pauses grow from one minute to one hour.
WITH made AS (
    SELECT a.* FROM unnest(
        CAST(:messages AS bigint[]), CAST(:started AS timestamptz[]), CAST(:ended AS timestamptz[]), CAST(:outcomes AS text[]),
        CAST(:answers AS text[]), CAST(:digests AS text[]), CAST(:states AS text[])
    ) WITH ORDINALITY AS a (message_id, started_at, ended_at, outcome, answer, sent_digest, state, position)
    JOIN bloodcell.outgoing_message USING (message_id)  -- an erasure may have removed it
), kept AS (
    INSERT INTO bloodcell.message_attempt (message_id, started_at, ended_at, outcome, answer, sent_digest)
    SELECT message_id, started_at, ended_at, outcome, answer, sent_digest FROM made ORDER BY position
)
UPDATE bloodcell.outgoing_message m SET n_attempts = m.n_attempts + 1,
    state = CASE WHEN m.state = 'waiting' OR made.state = 'delivered' THEN made.state ELSE m.state END,
    delivered_at = CASE WHEN made.state = 'delivered' THEN made.ended_at ELSE m.delivered_at END,
    next_attempt_at = CASE WHEN made.state = 'waiting'
        THEN clock_timestamp() + least(60 * power(2, least(m.n_attempts, 10)), 3600) * interval '1 second' END
FROM made WHERE m.message_id = made.message_id
