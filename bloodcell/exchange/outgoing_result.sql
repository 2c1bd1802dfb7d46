-- name: facts
SELECT m.message_id, m.kind, m.control_id, m.slide_id, s.barcode, coalesce(s.order_id, o.order_id) AS order_id,
       s.patient_key, s.analyser, s.acquired_at, v.state, v.made_at, v.signed_by, v.reason, v.report_id, r.n_leucocytes, r.n_unclassified, r.is_sufficient, r.nrbc_per_100_wbc, r.nrbc_lower,
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
SELECT report_id, class AS line, n_cells, percentage, lower, upper, bound_lower, bound_upper, absolute, flag
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
