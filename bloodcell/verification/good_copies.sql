-- name: originals
-- The files that became cells with this image or repeat one; found through the cell, whose image is indexed. Their own
-- digests may differ, since images are stored without metadata.
SELECT d.folder, f.path FROM bloodcell.cell c
JOIN bloodcell.drop_file f ON f.cell_id = c.cell_id AND f.outcome IN ('cell', 'duplicate')
JOIN bloodcell."drop" d ON d.night = f.night
WHERE c.sha256 = :sha256 ORDER BY f.outcome, f.night, f.path LIMIT 20;

-- name: manifest
SELECT manifest FROM bloodcell.model WHERE model_id = :model_id;
