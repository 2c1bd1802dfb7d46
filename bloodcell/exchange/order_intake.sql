-- name: standing_patient
-- The patient of the orders that stand for a barcode: of each order the newest message counts.
SELECT n.patient_digest FROM bloodcell.lab_order n
WHERE n.barcode = :barcode AND NOT n.is_conflict AND n.action <> 'cancel' AND n.patient_digest IS NOT NULL
  AND NOT EXISTS (SELECT FROM bloodcell.lab_order l WHERE l.barcode = n.barcode AND l.order_id = n.order_id
                  AND NOT l.is_conflict AND l.lab_order_id > n.lab_order_id)
ORDER BY n.lab_order_id DESC LIMIT 1
