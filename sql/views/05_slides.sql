-- Whatever is reported, exported, labelled or trained on belongs to a slide that stands. The rule is defined only here.
CREATE VIEW bloodcell.standing_slide AS
SELECT slide_id, barcode, night, order_id, analyser, patient_key, acquired_at, record_state, delivered_as, run_id
FROM bloodcell.slide WHERE withdrawn_at IS NULL;

COMMENT ON VIEW bloodcell.standing_slide IS 'The slides that have not been withdrawn; a barcode names at most one of them.';
COMMENT ON COLUMN bloodcell.standing_slide.record_state IS 'What became of slide.json: read, absent or unreadable.';
COMMENT ON COLUMN bloodcell.standing_slide.run_id IS 'Run that first read the slide, or that renamed it; see run_history.';

-- Of each order for a barcode the newest message counts, unless it cancels. A tube may have several orders, whose facts add up;
-- where slide.json names the order, only that one. A message for another patient than the order that stands counts for nothing,
-- and is a conflict until its order is cancelled, or sent again and accepted.
CREATE VIEW bloodcell.slide_facts AS
SELECT s.slide_id, coalesce(s.order_id, o.order_id) AS order_id, coalesce(s.age_months, o.age_months) AS age_months,
       coalesce(s.sex, o.sex) AS sex, coalesce(s.wbc_10e9_per_l, o.wbc_10e9_per_l) AS wbc_10e9_per_l,
       CASE WHEN s.wbc_10e9_per_l IS NULL THEN o.wbc_is_corrected ELSE s.wbc_is_corrected END AS wbc_is_corrected,
       o.lab_order_id, o.collected_at, s.withdrawn_at IS NULL AND EXISTS (
           SELECT FROM bloodcell.lab_order c
           WHERE c.barcode = s.barcode AND c.is_conflict
             AND NOT EXISTS (SELECT FROM bloodcell.lab_order l WHERE l.barcode = c.barcode AND l.order_id = c.order_id
                             AND l.lab_order_id > c.lab_order_id)) AS has_conflict
FROM bloodcell.slide s
LEFT JOIN LATERAL (
    SELECT max(n.lab_order_id) AS lab_order_id,
           (array_agg(n.order_id ORDER BY n.lab_order_id DESC))[1] AS order_id,
           (array_agg(n.age_months ORDER BY n.lab_order_id DESC) FILTER (WHERE n.age_months IS NOT NULL))[1] AS age_months,
           (array_agg(n.sex ORDER BY n.lab_order_id DESC) FILTER (WHERE n.sex IS NOT NULL))[1] AS sex,
           (array_agg(n.wbc_10e9_per_l ORDER BY n.lab_order_id DESC)
               FILTER (WHERE n.wbc_10e9_per_l IS NOT NULL))[1] AS wbc_10e9_per_l,
           (array_agg(n.wbc_is_corrected ORDER BY n.lab_order_id DESC)
               FILTER (WHERE n.wbc_10e9_per_l IS NOT NULL))[1] AS wbc_is_corrected,
           (array_agg(n.collected_at ORDER BY n.lab_order_id DESC)
               FILTER (WHERE n.collected_at IS NOT NULL))[1] AS collected_at
    FROM bloodcell.lab_order n
    WHERE n.barcode = s.barcode AND NOT n.is_conflict AND n.action <> 'cancel'
      AND (s.order_id IS NULL OR n.order_id = s.order_id)
      AND NOT EXISTS (SELECT FROM bloodcell.lab_order l WHERE l.barcode = n.barcode AND l.order_id = n.order_id
                      AND NOT l.is_conflict AND l.lab_order_id > n.lab_order_id)
) o ON s.withdrawn_at IS NULL;

COMMENT ON VIEW bloodcell.slide_facts IS
    'What is known of each slide''s order and patient: slide.json first, then the order that was received for its barcode.';
COMMENT ON COLUMN bloodcell.slide_facts.order_id IS 'The order.';
COMMENT ON COLUMN bloodcell.slide_facts.age_months IS 'Age of the patient in months; empty: unknown.';
COMMENT ON COLUMN bloodcell.slide_facts.sex IS 'female or male; empty: unknown.';
COMMENT ON COLUMN bloodcell.slide_facts.wbc_10e9_per_l IS 'Leucocyte count in 10^9 per litre; empty: unknown.';
COMMENT ON COLUMN bloodcell.slide_facts.wbc_is_corrected IS
    'Whether that count leaves out nucleated red cells already; empty: unknown.';
COMMENT ON COLUMN bloodcell.slide_facts.lab_order_id IS 'The order as it was received; see order_history.';
COMMENT ON COLUMN bloodcell.slide_facts.collected_at IS 'When the specimen was collected, as the order says.';
COMMENT ON COLUMN bloodcell.slide_facts.has_conflict IS
    'Whether an order for another patient has the same barcode, and was neither cancelled nor sent again and accepted.';

CREATE VIEW bloodcell.order_history AS
SELECT lab_order_id, barcode, order_id, action, age_months, sex, wbc_10e9_per_l, wbc_is_corrected, collected_at, sender,
       control_id, is_conflict, received_at
FROM bloodcell.lab_order;

COMMENT ON VIEW bloodcell.order_history IS 'Every order that was received, and every change of one.';
COMMENT ON COLUMN bloodcell.order_history.lab_order_id IS 'Key of the row; a higher one came later.';
COMMENT ON COLUMN bloodcell.order_history.barcode IS 'The specimen that was ordered for.';
COMMENT ON COLUMN bloodcell.order_history.order_id IS 'Number of the order, as its placer gave it.';
COMMENT ON COLUMN bloodcell.order_history.action IS 'new, change or cancel.';
COMMENT ON COLUMN bloodcell.order_history.age_months IS 'Age of the patient when the specimen was collected, in months.';
COMMENT ON COLUMN bloodcell.order_history.sex IS 'female or male; empty: unknown.';
COMMENT ON COLUMN bloodcell.order_history.wbc_10e9_per_l IS 'Leucocyte count in 10^9 per litre.';
COMMENT ON COLUMN bloodcell.order_history.wbc_is_corrected IS
    'Whether that count leaves out nucleated red cells already; empty: unknown.';
COMMENT ON COLUMN bloodcell.order_history.collected_at IS 'When the specimen was collected.';
COMMENT ON COLUMN bloodcell.order_history.sender IS 'Who sent it: application and facility.';
COMMENT ON COLUMN bloodcell.order_history.control_id IS 'Name of the message, given by its sender.';
COMMENT ON COLUMN bloodcell.order_history.is_conflict IS
    'Whether the barcode had an order for another patient; then this one counts for nothing.';
COMMENT ON COLUMN bloodcell.order_history.received_at IS 'When it was received.';

CREATE VIEW bloodcell.withdrawn_slide AS
SELECT s.slide_id, s.barcode, s.night, s.order_id, s.patient_key, s.analyser, s.acquired_at, s.delivered_as, s.withdrawn_at,
       w.reason, w.requested_by, w.recorded_by, t.barcode AS renamed_to, r.recorded_at AS renamed_at
FROM bloodcell.slide_withdrawal w
JOIN bloodcell.slide s USING (slide_id)
LEFT JOIN (bloodcell.slide_withdrawal r JOIN bloodcell.slide t ON t.slide_id = r.renamed_to)
       ON r.slide_id = w.slide_id AND r.action = 'rename'
WHERE w.action = 'withdraw' AND s.withdrawn_at = w.recorded_at;

COMMENT ON VIEW bloodcell.withdrawn_slide IS
    'Slides that were withdrawn, for example because they were delivered under a wrong barcode. Nothing is reported for '
    'them. What was reported until then remains in slide_summary and slide_differential.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.barcode IS 'Barcode that the slide had. Another slide may have it now.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.reason IS 'Why it was withdrawn.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.requested_by IS 'Person who asked for it, as the command says.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.recorded_by IS 'Login that withdrew it.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.renamed_to IS 'Barcode of the slide to which its cells were moved; else empty.';
COMMENT ON COLUMN bloodcell.withdrawn_slide.renamed_at IS 'When its cells were moved.';

CREATE VIEW bloodcell.withdrawal_history AS
SELECT w.withdrawal_id, s.barcode, s.night, w.action, t.barcode AS renamed_to, w.reason, w.requested_by, w.recorded_by,
       w.recorded_at, w.slide_id, w.run_id
FROM bloodcell.slide_withdrawal w
JOIN bloodcell.slide s USING (slide_id)
LEFT JOIN bloodcell.slide t ON t.slide_id = w.renamed_to;

COMMENT ON VIEW bloodcell.withdrawal_history IS
    'Every withdrawal, renaming and restoration of a slide: when, why, for whom and by which login.';
COMMENT ON COLUMN bloodcell.withdrawal_history.withdrawal_id IS 'Key of the row; a higher one came later.';
COMMENT ON COLUMN bloodcell.withdrawal_history.action IS
    'withdraw; rename (the cells were moved to renamed_to); restore (the withdrawal was an error).';
COMMENT ON COLUMN bloodcell.withdrawal_history.renamed_to IS 'Barcode of the slide to which the cells were moved.';
COMMENT ON COLUMN bloodcell.withdrawal_history.requested_by IS 'Person who asked for it, as the command says.';
COMMENT ON COLUMN bloodcell.withdrawal_history.recorded_by IS 'Login that wrote the row.';
COMMENT ON COLUMN bloodcell.withdrawal_history.recorded_at IS 'When it was done.';
