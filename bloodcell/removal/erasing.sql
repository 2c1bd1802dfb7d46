-- name: lock
-- Other writers wait until the erasure is committed, and then see that the slides are erased. Readers do not wait.
LOCK TABLE bloodcell.slide, bloodcell.image, bloodcell.cell, bloodcell.drop_file, bloodcell.cell_call,
    bloodcell.former_call, bloodcell.slide_report, bloodcell.differential, bloodcell.result,
    bloodcell.slide_withdrawal, bloodcell.look_check, bloodcell.label, bloodcell.checked_cell, bloodcell.dataset_image,
    bloodcell.data_split, bloodcell.sampled_cell, bloodcell.slide_opening, bloodcell.slide_comment, bloodcell.slide_lease,
    bloodcell.message_attempt, bloodcell.message_action, bloodcell.outgoing_message, bloodcell.lab_order,
    bloodcell.sentinel, bloodcell.control_slide, bloodcell.eqa_reading, bloodcell.eqa_target IN SHARE ROW EXCLUSIVE MODE

-- name: find_slides
-- The names that belong to what is erased. A barcode that only the ledger knows has no slide. A slide that was renamed to a
-- sought one still holds results of the same cells, so it is erased, too. owns_barcode: no other slide has the barcode, so
-- that everything under it can go.
CREATE TEMP TABLE erased ON COMMIT DROP AS
WITH RECURSIVE sought AS (
    SELECT slide_id FROM bloodcell.slide
    WHERE CASE :kind WHEN 'slide' THEN normalize(barcode, NFC) = :name
                     ELSE normalize(btrim(patient_key), NFC) = :name END
), moved AS (
    SELECT slide_id FROM sought
    UNION
    SELECT w.slide_id FROM moved m JOIN bloodcell.slide_withdrawal w ON w.renamed_to = m.slide_id
)
SELECT s.slide_id, s.barcode, s.order_id, s.patient_key, s.acquired_at, s.night,
       s.slide_id IN (SELECT slide_id FROM sought) AND NOT EXISTS (
           SELECT FROM bloodcell.slide o WHERE o.barcode = s.barcode AND o.slide_id NOT IN (SELECT slide_id FROM moved)
       ) AS owns_barcode
FROM bloodcell.slide s JOIN moved USING (slide_id)
UNION ALL
SELECT DISTINCT NULL::bigint, f.barcode, NULL, NULL, NULL::timestamptz, NULL::date, true FROM bloodcell.drop_file f
WHERE :kind = 'slide' AND f.barcode = ANY (:forms)
  AND NOT EXISTS (SELECT FROM bloodcell.slide s WHERE s.barcode = f.barcode)

-- name: count_slides
-- Without it, the planner expects a thousand slides, and reads whole tables.
ANALYZE erased

-- name: find_cells
CREATE TEMP TABLE erased_cell ON COMMIT DROP AS
SELECT c.cell_id, c.night, c.sha256 FROM bloodcell.cell c JOIN erased USING (slide_id)

-- name: count_cells
ANALYZE erased_cell

-- name: names
-- Barcodes, and the patient keys and orders that no other slide has.
SELECT barcode FROM erased e WHERE owns_barcode OR NOT EXISTS (
    SELECT FROM bloodcell.slide s WHERE s.barcode = e.barcode AND s.slide_id NOT IN (
        SELECT slide_id FROM erased WHERE slide_id IS NOT NULL))
UNION SELECT patient_key FROM erased e WHERE patient_key IS NOT NULL AND NOT EXISTS (
    SELECT FROM bloodcell.slide s WHERE s.patient_key = e.patient_key AND s.slide_id NOT IN (
        SELECT slide_id FROM erased WHERE slide_id IS NOT NULL))
UNION SELECT order_id FROM erased e WHERE order_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM bloodcell.slide s WHERE s.order_id = e.order_id AND s.slide_id NOT IN (
        SELECT slide_id FROM erased WHERE slide_id IS NOT NULL))

-- name: find_files
-- The first three read an index: a laboratory's ledger has millions of files.
CREATE TEMP TABLE erased_file ON COMMIT DROP AS
SELECT night, path, stored_sha256 FROM bloodcell.drop_file
WHERE barcode IN (SELECT barcode FROM erased WHERE owns_barcode)
UNION SELECT night, path, stored_sha256 FROM bloodcell.drop_file WHERE (barcode, night) IN (SELECT barcode, night FROM erased)
UNION SELECT night, path, stored_sha256 FROM bloodcell.drop_file WHERE cell_id IN (SELECT cell_id FROM erased_cell)
UNION SELECT night, path, stored_sha256 FROM bloodcell.drop_file WHERE barcode IS NULL AND path ~ :pattern
UNION SELECT night, path, stored_sha256 FROM bloodcell.drop_file
      WHERE outcome = 'quarantined' AND cell_id IS NULL AND path ~ :pattern

-- name: find_images
-- Images of cells, and those that the store has of files that became no cell.
CREATE TEMP TABLE erased_image ON COMMIT DROP AS
SELECT sha256 FROM erased_cell
UNION SELECT stored_sha256 FROM erased_file WHERE stored_sha256 IS NOT NULL
UNION SELECT h.stored_sha256 FROM bloodcell.drop_file_history h
      WHERE h.stored_sha256 IS NOT NULL
        AND (h.path ~ :pattern OR (h.night, h.path) IN (SELECT night, path FROM erased_file))

-- name: record
INSERT INTO bloodcell.erasure (kind, reason, requested_by) VALUES (:kind, :reason, :requested_by) RETURNING erasure_id

-- name: record_datasets
INSERT INTO bloodcell.erasure_dataset (erasure_id, dataset_digest, split, n_images)
SELECT :erasure_id, dataset_digest, split, count(*) FROM bloodcell.dataset_image JOIN erased_cell USING (cell_id)
GROUP BY dataset_digest, split

-- name: count_models
SELECT count(*) FROM bloodcell.model WHERE manifest -> 'data' ->> 'dataset_digest' IN (
    SELECT dataset_digest FROM bloodcell.erasure_dataset WHERE erasure_id = :erasure_id
        AND split IN ('training', 'validation'))

-- name: remember_slides
INSERT INTO bloodcell.erased_slide (erasure_id, barcode, order_id, patient_key, acquired_at)
SELECT :erasure_id, bloodcell.erased_digest('barcode', barcode), bloodcell.erased_digest('order_id', order_id),
       bloodcell.erased_digest('patient_key', patient_key),
       bloodcell.erased_digest('acquired_at', extract(epoch FROM acquired_at)::text)
FROM erased

-- name: leave_names
INSERT INTO bloodcell.erasure_pending (erasure_id, kind, value)
SELECT :erasure_id, 'name', unnest(CAST(:names AS text[]))

-- name: remove_dataset_image
DELETE FROM bloodcell.dataset_image USING erased_cell c WHERE dataset_image.cell_id = c.cell_id

-- name: remove_checked_cell
DELETE FROM bloodcell.checked_cell USING erased_cell c WHERE checked_cell.cell_id = c.cell_id

-- name: remove_sampled_cell
DELETE FROM bloodcell.sampled_cell USING erased_cell c WHERE sampled_cell.cell_id = c.cell_id

-- name: remove_slide_opening
DELETE FROM bloodcell.slide_opening USING erased e WHERE slide_opening.slide_id = e.slide_id

-- name: remove_message_attempt
DELETE FROM bloodcell.message_attempt USING bloodcell.outgoing_message m JOIN erased e USING (slide_id)
WHERE message_attempt.message_id = m.message_id

-- name: remove_message_action
DELETE FROM bloodcell.message_action USING bloodcell.outgoing_message m JOIN erased e USING (slide_id)
WHERE message_action.message_id = m.message_id

-- name: remove_lab_order
-- With it goes what it said of its patient.
DELETE FROM bloodcell.lab_order WHERE barcode IN (SELECT barcode FROM erased WHERE owns_barcode)

-- name: remove_outgoing_message
DELETE FROM bloodcell.outgoing_message USING erased e WHERE outgoing_message.slide_id = e.slide_id

-- name: remove_slide_comment
DELETE FROM bloodcell.slide_comment USING erased e WHERE slide_comment.slide_id = e.slide_id

-- name: remove_slide_lease
DELETE FROM bloodcell.slide_lease USING erased e WHERE slide_lease.slide_id = e.slide_id

-- name: remove_look_check
DELETE FROM bloodcell.look_check USING erased_cell c WHERE look_check.cell_id = c.cell_id

-- name: remove_label
DELETE FROM bloodcell.label USING erased_cell c WHERE label.cell_id = c.cell_id

-- name: remove_cell_call
DELETE FROM bloodcell.cell_call USING erased_cell c WHERE cell_call.night = c.night AND cell_call.cell_id = c.cell_id

-- name: remove_former_call
DELETE FROM bloodcell.former_call USING erased_cell c WHERE former_call.night = c.night AND former_call.cell_id = c.cell_id

-- name: remove_result
DELETE FROM bloodcell.result USING erased e WHERE result.slide_id = e.slide_id

-- name: remove_differential
DELETE FROM bloodcell.differential USING bloodcell.slide_report r, erased e
WHERE differential.report_id = r.report_id AND r.slide_id = e.slide_id

-- name: remove_slide_report
DELETE FROM bloodcell.slide_report USING erased e WHERE slide_report.slide_id = e.slide_id

-- name: remove_drop_file_history
DELETE FROM bloodcell.drop_file_history h
WHERE h.path ~ :pattern OR (h.night, h.path) IN (SELECT night, path FROM erased_file)

-- name: remove_drop_file
DELETE FROM bloodcell.drop_file USING erased_file e WHERE drop_file.night = e.night AND drop_file.path = e.path

-- name: remove_eqa_reading
DELETE FROM bloodcell.eqa_reading USING erased_cell c WHERE eqa_reading.cell_id = c.cell_id

-- name: remove_eqa_target
DELETE FROM bloodcell.eqa_target USING erased_cell c WHERE eqa_target.cell_id = c.cell_id

-- name: remove_cell
DELETE FROM bloodcell.cell USING erased_cell c WHERE cell.cell_id = c.cell_id

-- name: remove_slide_withdrawal
DELETE FROM bloodcell.slide_withdrawal
WHERE slide_id IN (SELECT slide_id FROM erased) OR renamed_to IN (SELECT slide_id FROM erased)

-- name: remove_control_slide
DELETE FROM bloodcell.control_slide USING erased e WHERE control_slide.slide_id = e.slide_id

-- name: remove_sentinel
-- Images that no other slide has; the quality control chooses others.
DELETE FROM bloodcell.sentinel USING erased_image e
WHERE sentinel.sha256 = e.sha256 AND NOT EXISTS (SELECT FROM bloodcell.cell c WHERE c.sha256 = e.sha256)

-- name: remove_slide
DELETE FROM bloodcell.slide USING erased e WHERE slide.slide_id = e.slide_id

-- name: remove_data_split
-- The split of a patient who has no slide left, and that of the slide itself where there is no patient key.
DELETE FROM bloodcell.data_split d
WHERE d.split_key IN (SELECT bloodcell.split_key(patient_key, barcode) FROM erased)
  AND NOT EXISTS (SELECT FROM bloodcell.slide s WHERE bloodcell.split_key(s.patient_key, s.barcode) = d.split_key)
  AND NOT EXISTS (SELECT FROM bloodcell.dataset_image i WHERE i.split_key = d.split_key)

-- name: leave_images
-- Images that no other slide has. The store keeps them until `erasure_pending` has been worked off.
INSERT INTO bloodcell.erasure_pending (erasure_id, kind, value)
SELECT :erasure_id, 'image', sha256 FROM erased_image e
WHERE NOT EXISTS (SELECT FROM bloodcell.cell c WHERE c.sha256 = e.sha256)
  AND NOT EXISTS (SELECT FROM bloodcell.drop_file f WHERE f.stored_sha256 = e.sha256)
  AND NOT EXISTS (SELECT FROM bloodcell.dataset_image i WHERE i.sha256 = e.sha256)

-- name: remove_image
DELETE FROM bloodcell.image USING bloodcell.erasure_pending p
WHERE p.erasure_id = :erasure_id AND p.kind = 'image' AND image.sha256 = p.value

-- name: count
INSERT INTO bloodcell.erasure_removal (erasure_id, part, n) VALUES (:erasure_id, :part, :n)

-- name: blank_runs
UPDATE bloodcell.run SET error = regexp_replace(error, :pattern, :blank, 'g') WHERE error ~ :pattern

-- name: blank_ledger
-- The files of another slide, whose slide.json named an erased one.
UPDATE bloodcell.drop_file SET detail = regexp_replace(detail, :pattern, :blank, 'g')
WHERE outcome = 'quarantined' AND detail ~ :pattern

-- name: blank_ledger_history
UPDATE bloodcell.drop_file_history SET detail = regexp_replace(detail, :pattern, :blank, 'g') WHERE detail ~ :pattern

-- name: blank_withdrawals
UPDATE bloodcell.slide_withdrawal
SET reason = regexp_replace(reason, :pattern, :blank, 'g'),
    requested_by = regexp_replace(requested_by, :pattern, :blank, 'g')
WHERE reason ~ :pattern OR requested_by ~ :pattern

-- name: blank_delivered_as
-- The slide to which the cells of an erased barcode were moved.
UPDATE bloodcell.slide SET delivered_as = NULL WHERE delivered_as IN (SELECT barcode FROM erased WHERE owns_barcode)

-- name: blank_labels
UPDATE bloodcell.label SET note = regexp_replace(note, :pattern, :blank, 'g') WHERE note ~ :pattern

-- name: blank_comments
UPDATE bloodcell.slide_comment SET text = regexp_replace(text, :pattern, :blank, 'g') WHERE text ~ :pattern

-- name: blank_label_files
UPDATE bloodcell.label_file
SET path = regexp_replace(path, :pattern, :blank, 'g'), reason = regexp_replace(reason, :pattern, :blank, 'g')
WHERE path ~ :pattern OR reason ~ :pattern

-- name: blank_results
UPDATE bloodcell.result SET reason = regexp_replace(reason, :pattern, :blank, 'g') WHERE reason ~ :pattern

-- name: blank_overrides
UPDATE bloodcell.quality_override SET reason = regexp_replace(reason, :pattern, :blank, 'g') WHERE reason ~ :pattern

-- name: blank_checks
UPDATE bloodcell.quality_check
SET subject = regexp_replace(subject, :pattern, :blank, 'g'), reason = regexp_replace(reason, :pattern, :blank, 'g')
WHERE subject ~ :pattern OR reason ~ :pattern

-- name: blank_restarts
UPDATE bloodcell.quality_restart SET reason = regexp_replace(reason, :pattern, :blank, 'g') WHERE reason ~ :pattern

-- name: blank_promotions
UPDATE bloodcell.promotion SET reason = regexp_replace(reason, :pattern, :blank, 'g') WHERE reason ~ :pattern

-- name: blank_retrainings
UPDATE bloodcell.training_run
SET reason = regexp_replace(reason, :pattern, :blank, 'g'),
    requested_by = regexp_replace(requested_by, :pattern, :blank, 'g'),
    state_reason = regexp_replace(state_reason, :pattern, :blank, 'g')
WHERE reason ~ :pattern OR requested_by ~ :pattern OR state_reason ~ :pattern

-- name: blank_answers
UPDATE bloodcell.approval_answer SET reason = regexp_replace(reason, :pattern, :blank, 'g') WHERE reason ~ :pattern

-- name: erased_images
SELECT split, n_images FROM bloodcell.model_erasure WHERE model_id = :model_id ORDER BY split

-- name: blank_message_answers
UPDATE bloodcell.message_attempt SET answer = regexp_replace(answer, :pattern, :blank, 'g') WHERE answer ~ :pattern

-- name: blank_message_reasons
UPDATE bloodcell.message_action
SET reason = regexp_replace(reason, :pattern, :blank, 'g'), requested_by = regexp_replace(requested_by, :pattern, :blank, 'g')
WHERE reason ~ :pattern OR requested_by ~ :pattern
