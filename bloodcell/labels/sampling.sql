-- name: waiting
-- Cells that a person may read blind: those that wait for a reading, and that the person has not labelled yet.
SELECT b.cell_id, b.night, b.sha256, lower(i.format) AS format
FROM bloodcell.blind_reading b JOIN bloodcell.image i USING (sha256)
WHERE (CAST(:night AS date) IS NULL OR b.night = :night)
  AND NOT EXISTS (SELECT 1 FROM bloodcell.label l WHERE l.cell_id = b.cell_id AND lower(l.labelled_by) = lower(:reader))
ORDER BY b.night, b.sha256, b.cell_id
