-- name: n_images
SELECT left(sha256, 2), count(*) FROM bloodcell.image WHERE removed_at IS NULL GROUP BY 1;

-- name: images
-- The images whose digest begins with two characters; a hexadecimal digit sorts before g in every collation.
SELECT sha256, size_bytes FROM bloodcell.image
WHERE sha256 >= :prefix AND sha256 < :prefix || 'g' AND removed_at IS NULL ORDER BY sha256;

-- name: set_aside
-- Images that the store has of files that became no cell; they are kept, and not verified.
SELECT DISTINCT stored_sha256 FROM bloodcell.drop_file WHERE stored_sha256 >= :prefix AND stored_sha256 < :prefix || 'g';

-- name: models
SELECT model_id, variant, manifest FROM bloodcell.model ORDER BY model_id;

-- name: reports
SELECT model_id, report FROM bloodcell.validation ORDER BY model_id;

-- name: still_wanted
-- Until the transaction ends, none of them can be erased or removed because of its age.
SELECT sha256 FROM bloodcell.image WHERE sha256 = ANY(:images) AND removed_at IS NULL FOR SHARE;

-- name: cells
SELECT s.barcode, c.night, c.file_name FROM bloodcell.cell c JOIN bloodcell.slide s USING (slide_id)
WHERE c.sha256 = :sha256 ORDER BY c.night, s.barcode, c.file_name LIMIT :most;
