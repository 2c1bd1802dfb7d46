CREATE VIEW bloodcell.message AS
SELECT m.message_id, m.receiver, r.protocol, s.barcode, s.night, v.number AS version, v.state AS result_state, m.kind,
       m.state, m.made_at, m.n_attempts, m.next_attempt_at, a.ended_at AS last_attempt_at, a.outcome AS last_outcome,
       a.answer AS last_answer, m.control_id, m.slide_id,
       m.state = 'waiting' AND m.kind = 'result' AND EXISTS (
           SELECT FROM bloodcell.quality_hold h
           WHERE h.slide_id = m.slide_id AND (h.model_id IS NULL OR h.model_id = p.model_id)) AS waits_for_quality
FROM bloodcell.outgoing_message m
JOIN bloodcell.receiver r ON r.name = m.receiver
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.result v USING (result_id)
JOIN bloodcell.slide_report p USING (report_id)
LEFT JOIN LATERAL (
    SELECT t.ended_at, t.outcome, t.answer FROM bloodcell.message_attempt t WHERE t.message_id = m.message_id
    ORDER BY t.attempt_id DESC LIMIT 1
) a ON true;

COMMENT ON VIEW bloodcell.message IS
    'What is sent to other systems: one row per receiver and version of a result that it gets, or that is taken back.';
COMMENT ON COLUMN bloodcell.message.message_id IS 'Key of the message; those of a slide are delivered in this order.';
COMMENT ON COLUMN bloodcell.message.receiver IS 'Who it is for, as the exchange file names it.';
COMMENT ON COLUMN bloodcell.message.protocol IS 'hl7 (version 2.5.1 over MLLP) or fhir (R4 over HTTP).';
COMMENT ON COLUMN bloodcell.message.version IS 'The version that it reports or takes back.';
COMMENT ON COLUMN bloodcell.message.result_state IS 'State of that version: machine, final, amended or corrected.';
COMMENT ON COLUMN bloodcell.message.kind IS 'result, or withdrawal: what was sent of the slide is not valid.';
COMMENT ON COLUMN bloodcell.message.state IS
    'waiting (to be sent, or sent again), held (rejected; waits for a person), delivered, superseded (a newer message made it '
    'unnecessary) or skipped (by a person).';
COMMENT ON COLUMN bloodcell.message.made_at IS 'When it was made, in the transaction of what it reports.';
COMMENT ON COLUMN bloodcell.message.n_attempts IS 'How often it was sent.';
COMMENT ON COLUMN bloodcell.message.next_attempt_at IS
    'Earliest time of the next attempt, after one without an answer; empty: as soon as possible.';
COMMENT ON COLUMN bloodcell.message.last_attempt_at IS 'When the last attempt was answered, or given up.';
COMMENT ON COLUMN bloodcell.message.last_outcome IS 'delivered, rejected or no_answer.';
COMMENT ON COLUMN bloodcell.message.last_answer IS 'What the receiver answered then, or what was wrong.';
COMMENT ON COLUMN bloodcell.message.waits_for_quality IS
    'Whether it is not sent because a failed check of the quality control holds the slide (failed_check).';
COMMENT ON COLUMN bloodcell.message.control_id IS
    'Names the message to its receiver (MSH-10), the same each time it is sent.';

CREATE VIEW bloodcell.message_attempts AS
SELECT a.message_id, m.receiver, s.barcode, v.number AS version, a.started_at, a.ended_at, a.outcome, a.answer,
       a.sent_digest, m.slide_id, a.attempt_id
FROM bloodcell.message_attempt a
JOIN bloodcell.outgoing_message m USING (message_id)
JOIN bloodcell.slide s USING (slide_id)
JOIN bloodcell.result v USING (result_id);

COMMENT ON VIEW bloodcell.message_attempts IS 'Each attempt to deliver a message, and its answer.';
COMMENT ON COLUMN bloodcell.message_attempts.message_id IS 'The message, as in the view message.';
COMMENT ON COLUMN bloodcell.message_attempts.receiver IS 'Who it was sent to.';
COMMENT ON COLUMN bloodcell.message_attempts.version IS 'The version that it reports or takes back.';
COMMENT ON COLUMN bloodcell.message_attempts.started_at IS 'When it was sent.';
COMMENT ON COLUMN bloodcell.message_attempts.ended_at IS 'When it was answered, or given up.';
COMMENT ON COLUMN bloodcell.message_attempts.outcome IS
    'delivered, rejected (the receiver refuses the message) or no_answer (it is sent again).';
COMMENT ON COLUMN bloodcell.message_attempts.answer IS 'What the receiver answered, or what was wrong.';
COMMENT ON COLUMN bloodcell.message_attempts.sent_digest IS 'sha256 of the message; empty if it was not made.';
COMMENT ON COLUMN bloodcell.message_attempts.attempt_id IS 'Key of the attempt.';

CREATE VIEW bloodcell.message_action_history AS
SELECT a.message_id, m.receiver, s.barcode, a.action, a.reason, a.requested_by, a.recorded_by, a.recorded_at, m.slide_id
FROM bloodcell.message_action a
JOIN bloodcell.outgoing_message m USING (message_id)
JOIN bloodcell.slide s USING (slide_id);

COMMENT ON VIEW bloodcell.message_action_history IS 'What people decided about messages that were rejected or lost.';
COMMENT ON COLUMN bloodcell.message_action_history.message_id IS 'The message, as in the view message.';
COMMENT ON COLUMN bloodcell.message_action_history.receiver IS 'Who it is for.';
COMMENT ON COLUMN bloodcell.message_action_history.action IS 'replay (send it again) or skip (never send it).';
COMMENT ON COLUMN bloodcell.message_action_history.requested_by IS 'Who asked for it.';
COMMENT ON COLUMN bloodcell.message_action_history.recorded_by IS 'The login that wrote the row.';
COMMENT ON COLUMN bloodcell.message_action_history.recorded_at IS 'When.';

CREATE VIEW bloodcell.receiver_summary AS
SELECT r.name AS receiver, r.protocol, r.gets_unsigned, r.added_at, r.removed_at, m.n_waiting, m.n_held, m.n_delivered,
       m.oldest_waiting_at, m.last_delivered_at
FROM bloodcell.receiver r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'waiting') AS n_waiting, count(*) FILTER (WHERE state = 'held') AS n_held,
           count(*) FILTER (WHERE state = 'delivered') AS n_delivered,
           min(made_at) FILTER (WHERE state = 'waiting') AS oldest_waiting_at, max(delivered_at) AS last_delivered_at
    FROM bloodcell.outgoing_message WHERE receiver = r.name
) m;

COMMENT ON VIEW bloodcell.receiver_summary IS 'The systems that results are sent to, and what waits for each.';
COMMENT ON COLUMN bloodcell.receiver_summary.receiver IS 'Name in the exchange file.';
COMMENT ON COLUMN bloodcell.receiver_summary.protocol IS 'hl7 (version 2.5.1 over MLLP) or fhir (R4 over HTTP).';
COMMENT ON COLUMN bloodcell.receiver_summary.gets_unsigned IS 'Whether it also gets results that nobody has signed.';
COMMENT ON COLUMN bloodcell.receiver_summary.added_at IS 'When it was added: results from then on are sent to it.';
COMMENT ON COLUMN bloodcell.receiver_summary.removed_at IS 'When somebody ended that it gets results; else empty.';
COMMENT ON COLUMN bloodcell.receiver_summary.n_waiting IS 'Messages that are to be sent.';
COMMENT ON COLUMN bloodcell.receiver_summary.n_held IS 'Messages that were rejected and wait for a person.';
COMMENT ON COLUMN bloodcell.receiver_summary.n_delivered IS 'Messages that were delivered.';
COMMENT ON COLUMN bloodcell.receiver_summary.oldest_waiting_at IS 'When the oldest of the waiting messages was made.';
COMMENT ON COLUMN bloodcell.receiver_summary.last_delivered_at IS 'When a message was last delivered.';

-- Who calls it has locked the messages, and has checked that the decision is one for them. It runs with the caller's rights.
CREATE OR REPLACE FUNCTION bloodcell.decide_on_messages(messages bigint[], an_action text, a_reason text, a_person text)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO bloodcell.message_action (message_id, action, reason, requested_by)
    SELECT message_id, an_action, a_reason, a_person FROM unnest(messages) message_id ORDER BY 1;
    UPDATE bloodcell.outgoing_message SET next_attempt_at = NULL,
        state = CASE an_action WHEN 'replay' THEN 'waiting' ELSE 'skipped' END
    WHERE message_id = ANY (messages);
$$;
COMMENT ON FUNCTION bloodcell.decide_on_messages(bigint[], text, text, text) IS
    'Has messages sent again (replay), or never (skip), and records who wants it and why.';

-- Asked directly before messages leave, on the connection that keeps other senders away: whether people, or an erasure, have
-- decided otherwise since they were read. In PL/pgSQL, whose plan is kept for the session: planning took longer than asking.
CREATE OR REPLACE FUNCTION bloodcell.may_send(messages bigint[])
RETURNS TABLE (of_message bigint, answer text) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT m.message_id,
               CASE WHEN m.state <> 'waiting' OR m.kind = 'result' AND (
                        s.withdrawn_at IS NOT NULL OR v.signed_by IS NULL AND EXISTS (
                            SELECT FROM bloodcell.result n WHERE n.slide_id = v.slide_id AND n.number > v.number)) THEN 'no'
                    WHEN m.kind = 'result' AND EXISTS (
                        SELECT FROM bloodcell.control_slide c WHERE c.slide_id = m.slide_id) THEN 'no'
                    WHEN m.kind = 'result' AND EXISTS (
                        SELECT FROM bloodcell.quality_hold h
                        WHERE h.slide_id = m.slide_id AND (h.model_id IS NULL OR h.model_id = p.model_id)) THEN 'no'
                    WHEN m.kind = 'result' AND f.has_conflict THEN 'conflict' ELSE 'yes' END
        FROM bloodcell.outgoing_message m
        JOIN bloodcell.slide s USING (slide_id)
        JOIN bloodcell.slide_facts f USING (slide_id)
        JOIN bloodcell.result v USING (result_id)
        JOIN bloodcell.slide_report p USING (report_id)
        WHERE m.message_id = ANY (messages);
END $$;
COMMENT ON FUNCTION bloodcell.may_send(bigint[]) IS
    'Whether messages may be sent now: yes, no, or conflict (orders for two patients); of one that is gone, nothing.';
DROP FUNCTION IF EXISTS bloodcell.may_send(bigint);  -- of an earlier release: a question for each message
