-- name: take
-- One sender at a time: the row stays locked until the transaction ends. A message refers to the row, so no stronger lock.
SELECT name FROM bloodcell.receiver WHERE name = :receiver FOR NO KEY UPDATE SKIP LOCKED

-- name: supersede
-- Of the oldest open messages. A version that nobody signed is not sent once the slide has a newer one, or the receiver gets
-- none of its kind any more; no version of a slide that was withdrawn later; and none that an earlier message has surpassed. Of a
-- slide of which no sender ever took a message, the withdrawal is not sent either. A control slide has no result to send.
UPDATE bloodcell.outgoing_message m SET state = 'superseded'
FROM bloodcell.result v, bloodcell.receiver r
WHERE m.message_id IN (SELECT o.message_id FROM bloodcell.outgoing_message o
                       WHERE o.receiver = :receiver AND o.state IN ('waiting', 'held') ORDER BY o.message_id LIMIT 1000)
  AND m.state IN ('waiting', 'held') AND v.result_id = m.result_id AND r.name = m.receiver
  AND CASE m.kind
      WHEN 'result' THEN
          v.signed_by IS NULL AND (NOT r.gets_unsigned OR EXISTS (
              SELECT FROM bloodcell.result n WHERE n.slide_id = v.slide_id AND n.number > v.number))
          OR EXISTS (SELECT FROM bloodcell.control_slide c WHERE c.slide_id = m.slide_id)
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
-- person, keeps those after it waiting. A slide that the quality control holds waits, too.
SELECT m.message_id FROM bloodcell.outgoing_message m JOIN bloodcell.slide s USING (slide_id)
WHERE m.receiver = :receiver AND m.state = 'waiting'
  AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= clock_timestamp())
  AND (m.kind = 'withdrawal' OR s.withdrawn_at IS NULL AND NOT EXISTS (
      SELECT FROM bloodcell.quality_hold h JOIN bloodcell.result v ON v.result_id = m.result_id
      JOIN bloodcell.slide_report p USING (report_id)
      WHERE h.slide_id = m.slide_id AND (h.model_id IS NULL OR h.model_id = p.model_id)))
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

-- name: n_waiting
SELECT count(*) FROM bloodcell.outgoing_message WHERE receiver = :receiver AND state = 'waiting'
