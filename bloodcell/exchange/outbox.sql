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
-- Of the oldest open messages. A version that nobody signed is not sent once the slide has a newer one, or the receiver gets
-- none of its kind any more; no version of a slide that was withdrawn later; and none that an earlier message has surpassed. Of a
-- slide of which no sender ever took a message, the withdrawal is not sent either.
UPDATE bloodcell.outgoing_message m SET state = 'superseded'
FROM bloodcell.result v, bloodcell.receiver r
WHERE m.message_id IN (SELECT o.message_id FROM bloodcell.outgoing_message o
                       WHERE o.receiver = :receiver AND o.state IN ('waiting', 'held') ORDER BY o.message_id LIMIT 1000)
  AND m.state IN ('waiting', 'held') AND v.result_id = m.result_id AND r.name = m.receiver
  AND CASE m.kind
      WHEN 'result' THEN
          v.signed_by IS NULL AND (NOT r.gets_unsigned OR EXISTS (
              SELECT FROM bloodcell.result n WHERE n.slide_id = v.slide_id AND n.number > v.number))
          OR EXISTS (SELECT FROM bloodcell.outgoing_message l
                     WHERE l.receiver = m.receiver AND l.slide_id = m.slide_id AND l.message_id > m.message_id
                       AND l.kind = 'withdrawal')
          OR EXISTS (SELECT FROM bloodcell.outgoing_message e
                     WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id
                       AND e.kind = 'result' AND e.result_id > m.result_id)
      ELSE NOT EXISTS (
          SELECT FROM bloodcell.outgoing_message e
          WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id
            AND e.taken_at IS NOT NULL)
      END

-- name: due
-- The messages about a barcode are sent in their order, for a receiver knows the slides by it: one that waits, or waits for a
-- person, keeps those after it waiting.
SELECT m.message_id FROM bloodcell.outgoing_message m JOIN bloodcell.slide s USING (slide_id)
WHERE m.receiver = :receiver AND m.state = 'waiting'
  AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= clock_timestamp())
  AND (m.kind = 'withdrawal' OR s.withdrawn_at IS NULL)
  AND NOT EXISTS (
      SELECT FROM bloodcell.slide o JOIN bloodcell.outgoing_message e USING (slide_id)
      WHERE o.barcode = s.barcode AND e.receiver = m.receiver AND e.message_id < m.message_id
        AND e.state IN ('waiting', 'held') AND (e.kind = 'withdrawal' OR o.withdrawn_at IS NULL))
ORDER BY m.message_id LIMIT :n

-- name: mark_taken
-- From here on, the receiver may have the message. What it is told of the order is what a withdrawal has to name later.
UPDATE bloodcell.outgoing_message m
SET taken_at = coalesce(m.taken_at, clock_timestamp()),
    lab_order_id = CASE m.kind
        WHEN 'result' THEN (SELECT f.lab_order_id FROM bloodcell.slide_facts f WHERE f.slide_id = m.slide_id)
        ELSE (SELECT e.lab_order_id FROM bloodcell.outgoing_message e
              WHERE e.slide_id = m.slide_id AND e.receiver = m.receiver AND e.message_id < m.message_id
                AND e.taken_at IS NOT NULL
              ORDER BY e.message_id DESC LIMIT 1) END
WHERE m.message_id = ANY (:messages)

-- name: may_send
-- Asked for each message on the connection that keeps other senders away: whether people, or an erasure, have decided
-- otherwise since it was read.
SELECT CASE WHEN m.state <> 'waiting' OR m.kind = 'result' AND s.withdrawn_at IS NOT NULL THEN 'no'
            WHEN m.kind = 'result' AND f.has_conflict THEN 'conflict' ELSE 'yes' END
FROM bloodcell.outgoing_message m
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.slide_facts f USING (slide_id)
WHERE m.message_id = :message_id

-- name: facts
SELECT m.message_id, m.kind, m.control_id, m.slide_id, s.barcode, coalesce(s.order_id, o.order_id) AS order_id,
       s.patient_key, s.analyser, s.acquired_at, s.night, v.number AS version, v.state, v.made_at, v.signed_by, v.reason,
       v.report_id, r.n_cells, r.n_leucocytes, r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower,
       r.nrbc_upper, r.age_months, r.sex, r.wbc_10e9_per_l, r.written_at AS counted_at, r.model_id, b.variant,
       r.rules_digest, n.code_version, m.lab_order_id, s.run_id AS slide_run_id, m.made_at AS queued_at, o.collected_at,
       o.patient_digest, p.patient_digest AS sent_patient_digest,
       EXISTS (SELECT FROM bloodcell.slide a JOIN bloodcell.outgoing_message e USING (slide_id)
               WHERE a.barcode = s.barcode AND e.receiver = m.receiver AND e.message_id < m.message_id
                 AND (a.slide_id = s.slide_id OR c.protocol = 'hl7')
                 AND e.kind = 'withdrawal' AND e.taken_at IS NOT NULL) AS was_withdrawn,
       w.reason AS withdrawn_for, w.requested_by AS withdrawn_by
FROM bloodcell.outgoing_message m
JOIN bloodcell.receiver c ON c.name = m.receiver
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.result v USING (result_id)
JOIN bloodcell.slide_report r USING (report_id)
JOIN bloodcell.model b USING (model_id)
JOIN bloodcell.run n ON n.run_id = r.run_id
LEFT JOIN bloodcell.lab_order o ON o.lab_order_id = m.lab_order_id
LEFT JOIN LATERAL (
    SELECT i.reason, i.requested_by FROM bloodcell.slide_withdrawal i
    WHERE m.kind = 'withdrawal' AND i.slide_id = m.slide_id AND i.action = 'withdraw' ORDER BY i.withdrawal_id DESC LIMIT 1
) w ON v.state <> 'withheld'
LEFT JOIN LATERAL (
    SELECT l.patient_digest FROM bloodcell.outgoing_message e JOIN bloodcell.lab_order l USING (lab_order_id)
    WHERE e.receiver = m.receiver AND e.slide_id = m.slide_id AND e.message_id < m.message_id AND e.taken_at IS NOT NULL
    ORDER BY e.message_id DESC LIMIT 1
) p ON true
WHERE m.message_id = ANY (:messages)
ORDER BY m.message_id

-- name: lines
SELECT report_id, class AS line, n_cells, percentage, lower, upper, bound_lower, bound_upper, absolute, absolute_lower,
       absolute_upper, flag
FROM bloodcell.differential WHERE report_id = ANY (:reports)

-- name: earlier_lines
-- Lines and values that an earlier version of the slide had: a receiver keeps them unless it is told that there are none.
SELECT m.message_id, d.class AS line, bool_or(d.n_cells > 0) AS had_cells, bool_or(d.absolute IS NOT NULL) AS had_absolute
FROM bloodcell.outgoing_message m
JOIN bloodcell.result v USING (result_id)
JOIN bloodcell.result e ON e.slide_id = v.slide_id AND e.number < v.number
JOIN bloodcell.differential d ON d.report_id = e.report_id
WHERE m.message_id = ANY (:messages)
GROUP BY m.message_id, d.class

-- name: comments
SELECT slide_id, text, written_at FROM bloodcell.comment_history
WHERE slide_id = ANY (:slides) AND cell_id IS NULL ORDER BY comment_id

-- name: rules
SELECT rules_digest, document FROM bloodcell.laboratory_rules WHERE rules_digest = ANY (:digests)

-- name: record
-- What people have decided meanwhile stays. Pauses grow from one minute to one hour.
WITH made AS (
    SELECT a.* FROM unnest(
        CAST(:messages AS bigint[]), CAST(:started AS timestamptz[]), CAST(:ended AS timestamptz[]), CAST(:outcomes AS text[]),
        CAST(:answers AS text[]), CAST(:digests AS text[]), CAST(:states AS text[])
    ) AS a (message_id, started_at, ended_at, outcome, answer, sent_digest, state)
    JOIN bloodcell.outgoing_message USING (message_id)  -- an erasure may have removed it
), kept AS (
    INSERT INTO bloodcell.message_attempt (message_id, started_at, ended_at, outcome, answer, sent_digest)
    SELECT message_id, started_at, ended_at, outcome, answer, sent_digest FROM made
)
UPDATE bloodcell.outgoing_message m SET n_attempts = m.n_attempts + 1,
    state = CASE WHEN m.state = 'waiting' OR made.state = 'delivered' THEN made.state ELSE m.state END,
    delivered_at = CASE WHEN made.state = 'delivered' THEN made.ended_at ELSE m.delivered_at END,
    next_attempt_at = CASE WHEN made.state = 'waiting'
        THEN clock_timestamp() + least(60 * power(2, least(m.n_attempts, 10)), 3600) * interval '1 second' END
FROM made WHERE m.message_id = made.message_id

-- name: find
-- Without a barcode: what was rejected. Replay of a slide: what was rejected, and the newest message that each receiver has of it.
SELECT m.message_id, m.state, m.receiver, m.kind,
       m.message_id = max(m.message_id) FILTER (WHERE m.state IN ('delivered', 'skipped'))
           OVER (PARTITION BY m.receiver) AS is_newest
FROM bloodcell.outgoing_message m JOIN bloodcell.slide s USING (slide_id)
WHERE (:receiver = '' OR m.receiver = :receiver)
  AND CASE WHEN :barcode = '' THEN m.state = 'held' ELSE s.barcode = :barcode END
ORDER BY m.message_id

-- name: lock_messages
SELECT message_id FROM bloodcell.outgoing_message WHERE message_id = ANY (:messages) ORDER BY message_id FOR NO KEY UPDATE

-- name: act
INSERT INTO bloodcell.message_action (message_id, action, reason, requested_by)
VALUES (:message_id, :action, :reason, :requested_by)

-- name: set_state
UPDATE bloodcell.outgoing_message SET state = :state, next_attempt_at = NULL WHERE message_id = :message_id

-- name: n_waiting
SELECT count(*) FROM bloodcell.outgoing_message WHERE receiver = :receiver AND state = 'waiting'
