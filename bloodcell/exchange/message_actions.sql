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
