-- name: known_receivers
SELECT name, protocol, gets_unsigned, removed_at FROM bloodcell.receiver

-- name: add_receiver
INSERT INTO bloodcell.receiver (name, protocol, gets_unsigned) VALUES (:name, :protocol, :gets_unsigned)
ON CONFLICT (name) DO UPDATE SET protocol = EXCLUDED.protocol, gets_unsigned = EXCLUDED.gets_unsigned, removed_at = NULL

-- name: remove_receiver
UPDATE bloodcell.receiver SET removed_at = now() WHERE name = :name AND removed_at IS NULL

-- name: take
-- One sender at a time: the row stays locked until the transaction ends. A message refers to the row, so no stronger lock.
SELECT name FROM bloodcell.receiver WHERE name = :receiver FOR NO KEY UPDATE SKIP LOCKED

-- name: supersede
-- A version that nobody signed is not sent once there is a newer message, and no version of a withdrawn slide. Of a slide of
-- which nothing was ever sent, the withdrawal is not sent either.
UPDATE bloodcell.outgoing_message m SET state = 'superseded'
FROM bloodcell.result v
WHERE m.receiver = :receiver AND m.state IN ('waiting', 'held') AND v.result_id = m.result_id
  AND CASE m.kind
      WHEN 'result' THEN EXISTS (
          SELECT FROM bloodcell.outgoing_message l
          WHERE l.receiver = m.receiver AND l.slide_id = m.slide_id AND l.message_id > m.message_id
            AND (l.kind = 'withdrawal' OR v.signed_by IS NULL))
      ELSE NOT EXISTS (
          SELECT FROM bloodcell.outgoing_message e
          WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id AND e.n_attempts > 0)
      END

-- name: due
-- The messages of a slide are sent in their order: one that waits, or waits for a person, keeps those after it waiting.
SELECT m.message_id FROM bloodcell.outgoing_message m
WHERE m.receiver = :receiver AND m.state = 'waiting'
  AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= clock_timestamp())
  AND NOT EXISTS (
      SELECT FROM bloodcell.outgoing_message e
      WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id
        AND e.state IN ('waiting', 'held'))
ORDER BY m.message_id LIMIT :n

-- name: facts
SELECT m.message_id, m.kind, m.control_id, m.slide_id, s.barcode, f.order_id, s.patient_key, s.analyser, s.acquired_at,
       s.night, v.number AS version, v.state, v.made_at, v.signed_by, v.reason, v.report_id, r.n_cells, r.n_leucocytes,
       r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower, r.nrbc_upper, r.age_months, r.sex,
       r.wbc_10e9_per_l, r.written_at AS counted_at, r.model_id, b.variant, r.rules_digest, n.code_version,
       EXISTS (SELECT FROM bloodcell.outgoing_message e
               WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id
                 AND e.kind = 'withdrawal' AND e.n_attempts > 0) AS was_withdrawn,
       w.reason AS withdrawn_for, f.lab_order_id, f.has_conflict
FROM bloodcell.outgoing_message m
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.slide_facts f USING (slide_id)
JOIN bloodcell.result v USING (result_id)
JOIN bloodcell.slide_report r USING (report_id)
JOIN bloodcell.model b USING (model_id)
JOIN bloodcell.run n ON n.run_id = r.run_id
LEFT JOIN LATERAL (
    SELECT i.reason FROM bloodcell.slide_withdrawal i
    WHERE m.kind = 'withdrawal' AND i.slide_id = m.slide_id AND i.action = 'withdraw' ORDER BY i.withdrawal_id DESC LIMIT 1
) w ON true
WHERE m.message_id = ANY (:messages)
ORDER BY m.message_id

-- name: lines
SELECT report_id, class AS line, n_cells, percentage, lower, upper, bound_lower, bound_upper, absolute, absolute_lower,
       absolute_upper, flag
FROM bloodcell.differential WHERE report_id = ANY (:reports)

-- name: earlier_lines
-- Lines that an earlier version of the slide had: a receiver keeps them unless it is told that they are none.
SELECT DISTINCT m.message_id, d.class AS line
FROM bloodcell.outgoing_message m
JOIN bloodcell.result v USING (result_id)
JOIN bloodcell.result e ON e.slide_id = v.slide_id AND e.number < v.number
JOIN bloodcell.differential d ON d.report_id = e.report_id AND d.n_cells > 0
WHERE m.message_id = ANY (:messages)

-- name: comments
SELECT slide_id, text, written_at FROM bloodcell.comment_history
WHERE slide_id = ANY (:slides) AND cell_id IS NULL ORDER BY comment_id

-- name: rules
SELECT rules_digest, document FROM bloodcell.laboratory_rules WHERE rules_digest = ANY (:digests)

-- name: record
-- Pauses grow from one minute to one hour.
WITH made AS (
    SELECT * FROM unnest(
        CAST(:messages AS bigint[]), CAST(:started AS timestamptz[]), CAST(:ended AS timestamptz[]), CAST(:outcomes AS text[]),
        CAST(:answers AS text[]), CAST(:digests AS text[]), CAST(:states AS text[])
    ) AS a (message_id, started_at, ended_at, outcome, answer, sent_digest, state)
), kept AS (
    INSERT INTO bloodcell.message_attempt (message_id, started_at, ended_at, outcome, answer, sent_digest)
    SELECT message_id, started_at, ended_at, outcome, answer, sent_digest FROM made
)
UPDATE bloodcell.outgoing_message m SET n_attempts = m.n_attempts + 1, state = made.state,
    next_attempt_at = CASE WHEN made.state = 'waiting'
        THEN clock_timestamp() + least(60 * power(2, least(m.n_attempts, 10)), 3600) * interval '1 second' END
FROM made WHERE m.message_id = made.message_id

-- name: find
SELECT m.message_id, m.state, m.receiver FROM bloodcell.outgoing_message m JOIN bloodcell.slide s USING (slide_id)
WHERE (:receiver = '' OR m.receiver = :receiver)
  AND CASE WHEN :barcode = '' THEN m.state = 'held' ELSE s.barcode = :barcode END
ORDER BY m.message_id FOR NO KEY UPDATE OF m

-- name: act
INSERT INTO bloodcell.message_action (message_id, action, reason, requested_by)
VALUES (:message_id, :action, :reason, :requested_by)

-- name: set_state
UPDATE bloodcell.outgoing_message SET state = :state, next_attempt_at = NULL WHERE message_id = :message_id

-- name: n_waiting
SELECT count(*) FROM bloodcell.outgoing_message WHERE receiver = :receiver AND state = 'waiting'
