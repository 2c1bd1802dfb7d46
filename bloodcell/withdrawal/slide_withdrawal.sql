-- name: lock_slides
-- Waits until no ingest and no other withdrawal works on these slides; then none can until this transaction ends.
SELECT s.slide_id FROM bloodcell.slide s
WHERE s.barcode IN (:barcode, :renamed_to) OR s.slide_id IN (
    SELECT w.renamed_to FROM bloodcell.slide_withdrawal w JOIN bloodcell.slide f USING (slide_id)
    WHERE f.barcode = :barcode)
ORDER BY s.slide_id FOR UPDATE OF s

-- name: uses
SELECT (SELECT count(*) FROM bloodcell.cell c JOIN bloodcell.label l USING (cell_id)
        WHERE c.slide_id = :slide_id) AS n_labels,
       (SELECT count(DISTINCT i.dataset_digest) FROM bloodcell.cell c
        JOIN bloodcell.dataset_image i ON i.sha256 = c.sha256 AND i.cell_id = c.cell_id
        WHERE c.slide_id = :slide_id) AS n_snapshots,
       r.model_id AS reported_model_id, m.variant AS reported_variant, r.written_at AS reported_at
FROM (VALUES (1)) one
LEFT JOIN (bloodcell.slide_last_reported_model r JOIN bloodcell.model m USING (model_id)) ON r.slide_id = :slide_id

-- name: trained_models
SELECT DISTINCT m.variant, m.model_id
FROM bloodcell.cell c
JOIN bloodcell.dataset_image i ON i.sha256 = c.sha256 AND i.cell_id = c.cell_id
JOIN bloodcell.registered_model m USING (dataset_digest)
WHERE c.slide_id = :slide_id AND i.split IN ('training', 'validation')
ORDER BY m.variant, m.model_id

-- name: nights
-- Nights whose pages name one of these slides.
SELECT night FROM bloodcell.slide WHERE barcode = ANY (:barcodes)
UNION SELECT c.night FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id) WHERE s.barcode = ANY (:barcodes)
